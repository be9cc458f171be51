"""The table of a study whose trainings run side by side."""

import io
import logging
from types import SimpleNamespace

from rich.console import Console

from pipeline.training.progress import Standing
from pipeline.training.workers.overview import ENDED, Overview
from pipeline.training.workers.work import Line


def drawn(overview: Overview) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(overview.table())
    return console.file.getvalue()


def test_it_shows_what_trains_what_ended_and_how_many_wait(caplog):
    caplog.set_level(logging.INFO, "pipeline")
    overview = Overview(20, several=True)
    for number in range(12):
        position, label = f"[{number}/20]", f"mlp seed {number}"
        overview.hear(Line(logging.INFO, f"{position} training on cpu", position, label))
        standing = Standing(3, 40, 0.9712, 7.4)
        overview.hear(Line(logging.DEBUG, f"{position} epoch 3/40", position, label, standing))
        if number >= 2:
            overview.end(SimpleNamespace(position=position, label=label), "it broke" * (number == 2))
    text = drawn(overview)
    assert "8 waiting, 2 running, 9 done, 1 failed" in text
    assert text.count("mlp seed") == ENDED + 2 and "mlp seed 2 " not in text
    row = next(line for line in text.splitlines() if "mlp seed 1 " in line)
    assert row.split() == ["[1/20]", "mlp", "seed", "1", "running", "3/40", "97.12%", "7", "s"]
    # No terminal looks: what is said is said in lines, but not every epoch.
    assert sum("training on cpu" in line for line in caplog.messages) == 12
    assert not any("epoch" in line for line in caplog.messages)
