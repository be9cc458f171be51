"""Checkpoints: damage is always found, and the one before is gone on with."""

import logging
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.training.engine.checkpoint import KEPT, Checkpoint


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A folder with two checkpoints."""
    folder = tmp_path_factory.mktemp("saved")
    for epoch in (1, 2, 3):
        history = list(range(epoch))
        Checkpoint(folder).save(training={"history": history, "w": torch.arange(100.0)}, config={}, elapsed=epoch)
    assert len(list(folder.iterdir())) == KEPT
    return folder


def copied(saved: Path, folder: Path) -> list[Path]:
    """The checkpoints in another folder, the newest first."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for path in saved.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return Checkpoint(folder).files()


@settings(max_examples=200)
@given(data=st.data())
def test_any_changed_byte_is_found(saved, tmp_path, data):
    newest, _ = copied(saved, tmp_path / "copy")
    content = bytearray(newest.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    newest.write_bytes(content)
    assert Checkpoint(newest.parent).load()["elapsed"] == 2
    assert [path.suffix for path in sorted(newest.parent.iterdir())].count(".damaged") == 1


@pytest.mark.parametrize("left", [0, 500])
def test_what_is_cut_is_set_aside_and_without_any_it_starts_anew(saved, tmp_path, left, caplog):
    for path in copied(saved, tmp_path / "copy"):
        path.write_bytes(path.read_bytes()[:left])
    with caplog.at_level(logging.WARNING):
        assert Checkpoint(tmp_path / "copy").load() is None
    assert caplog.text.count("cannot be used") == 2


def test_one_of_another_version_is_not_used(saved, tmp_path, monkeypatch):
    copied(saved, tmp_path / "copy")
    monkeypatch.setattr("pipeline.training.engine.checkpoint.VERSION", 2)
    assert Checkpoint(tmp_path / "copy").load() is None
