"""What docs/extending.md says of one place to edit: a copy of the project is edited there and nowhere else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import PROJECT


@pytest.fixture
def project(tmp_path) -> Path:
    """A copy of the code."""
    for folder in ("models", "pipeline"):
        shutil.copytree(PROJECT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def insert(file: Path, after: str, text: str) -> None:
    """Add a line behind the only one of its kind."""
    content = file.read_text()
    assert content.count(after) == 1, after
    file.write_text(content.replace(after, after + text))


def said(project: Path, script: str) -> str:
    """What a script prints that imports the edited copy."""
    ended = subprocess.run([sys.executable, "-c", script], cwd=project, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_metric_is_one_entry_of_the_catalog(project):
    insert(
        project / "pipeline" / "metrics" / "catalog.py",
        "METRICS: Mapping[str, Metric] = {\n",
        '    "worst_f1": Metric("test/worst_f1", "worst class\'s F1, %", higher_is_better=True, percent=True),\n',
    )
    script = """
from pipeline.comparison.compare import compare
from pipeline.comparison.page.report import HEADINGS
from pipeline.comparison.tables import readable
from pipeline.tracking.training_run import Results, TrainingRun
trainings = [
    TrainingRun(name, name, "FINISHED", {"architecture": name, "dataset": "made"}, {}, {"test/worst_f1": value})
    for name, value in (("cnn", 0.9), ("mlp", 0.8))
]
found = compare(trainings, Results(), metric="worst_f1")
print(found.table[["label", "worst_f1", "gap_to_best"]].round(3).values.tolist(), HEADINGS["worst_f1"])
print(readable(found, found.table).to_string())
"""
    out = said(project, script)
    assert "[['cnn', 0.9, 0.0], ['mlp', 0.8, 0.1]] worst class's F1, %" in out
    assert "worst_f1 %" in out and "90.00" in out


def test_a_corruption_is_one_entry_and_leaves_the_others_as_they_are(project):
    script = """
import numpy as np
from pipeline.comparison import protocol
from pipeline.data import corruptions
from pipeline.data.images import Dataset, ImageSet, Splits
part = ImageSet(np.arange(20 * 784).reshape(20, 28, 28).astype(np.uint8), np.arange(20) % 10, tuple("0123456789"))
names = {name for name, _, _ in corruptions.corrupted(part)}
sums = [int(worse.images.sum()) for name, _, worse in corruptions.corrupted(part) if name != "invert"]
print(sorted(names))
print(sums)
print(protocol.fields(Dataset("made", "made", part, part), Splits(part, part, part))["corruptions"])
"""
    names, sums, key = said(project, script).splitlines()
    insert(
        project / "pipeline" / "data" / "corruptions.py",
        "CORRUPTIONS: dict[str, tuple[Callable, tuple[float, ...]]] = {\n",
        '    "invert": (lambda images, share, _: images + share * (255 - 2 * images), (0.1, 0.2, 0.3, 0.4, 0.5)),\n',
    )
    more, same, other = said(project, script).splitlines()
    assert "invert" in more and "invert" not in names
    assert same == sums and other != key


def test_an_optimizer_is_one_name(project):
    insert(project / "models" / "__init__.py", 'Optimizer = Literal["adam", ', '"adamax", ')
    script = """
import torch
from types import SimpleNamespace
from pipeline.cli.commands.train import train
from pipeline.training.engine.optim import create_optimizer
print(next(option for option in train.params if option.name == "optimizer").type.inner.choices)
config = SimpleNamespace(optimizer="adamax", lr=1e-3, weight_decay=0.1)
print(type(create_optimizer(config, torch.nn.Linear(2, 2))).__name__)
"""
    choices, made = said(project, script).splitlines()
    assert "adamax" in choices and made == "Adamax"


def test_a_section_of_the_report_is_one_function_and_its_place(project):
    file = project / "pipeline" / "comparison" / "page" / "drawings.py"
    section = """
def sizes(group: Group) -> Section:
    drawing = Drawing("sizes", Figure(), "Sizes.", group.listing("parameters"))
    return Section("How large they are", "Parameters of each.", [drawing])


# A section of the page is its function"""
    file.write_text(file.read_text().replace("# A section of the page is its function", section.lstrip(), 1))
    insert(file, "SECTIONS = [intervals, ", "sizes, ")
    script = """
from datetime import datetime
from pipeline.comparison.page import report
from pipeline.comparison.compare import compare
from pipeline.tracking.training_run import Results, TrainingRun
trainings = [
    TrainingRun(name, name, "FINISHED", {"architecture": name, "dataset": "made"}, {},
                {"test/accuracy": value, "cost/parameters": 10.0})
    for name, value in (("cnn", 0.9), ("mlp", 0.8))
]
page = report.build(compare(trainings, Results()), source="a test", written=datetime.now())
print(all(text in page for text in ("How large they are", 'id="sizes-1"', "Sizes. cnn 10; mlp 10.")))
"""
    assert said(project, script) == "True\n"
