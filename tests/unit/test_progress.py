"""Where nobody looks, a training says little, whatever the number of its epochs."""

import logging
from types import SimpleNamespace

import pytest

from pipeline.metrics.epoch import Epoch
from pipeline.training import progress


@pytest.mark.parametrize(("epochs", "count"), [(1, 1), (20, 20), (21, 12), (137, 22), (5000, 22)])
def test_many_epochs_are_told_in_about_twenty_lines(caplog, monkeypatch, epochs, count):
    monkeypatch.setattr(progress.sys, "stderr", SimpleNamespace(isatty=lambda: False, write=len, flush=int))
    progress.logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, progress.logger.name)
    scores = {"train/loss": 1.0, "val/loss": 1.0, "val/accuracy": 0.5}
    with progress.Progress(SimpleNamespace(model="mlp", epochs=epochs), steps=1, done=0) as shown:
        for index in range(1, epochs + 1):
            shown.epoch(Epoch(index, scores, 0.1))
    progress.logger.removeHandler(caplog.handler)
    lines = list(dict.fromkeys(record.getMessage() for record in caplog.records))
    assert len(lines) == count and f"epoch {epochs}/{epochs}" in lines[-1]
