"""What a study's own run shows of what the study found: metrics, and the comparison as its description."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.comparison import tables
from pipeline.comparison.compare import Comparison
from pipeline.tracking.schema import DESCRIPTION, LEADER
from pipeline.tracking.training_run import TrainingRun

# MLflow's limit of a tag, in which it keeps a run's description.
LONGEST = 8000
# MLflow's pages set the cells of a table side by side without a gap, and take away every space but this.
GAP = "&nbsp;&nbsp;"


def metrics(trainings: Sequence[TrainingRun], comparison: Comparison | None) -> dict[str, float]:
    """The leader's scores, how many trainings there are and how many failed, and the seconds they took together.

    Args:
        trainings: all of the study.
        comparison: of those that are finished, None where none is.
    """
    finished = {training.identity: training for training in trainings if training.status == "FINISHED"}
    failed = {training.identity for training in trainings if training.status == "FAILED"} - set(finished)
    total = sum(training.metric("time/total_s") for training in finished.values() if training.has("time/total_s"))
    best = leader(comparison) if comparison else {}
    return {
        **{f"study/best_{name}": float(best[name]) for name in ("accuracy", "f1") if name in best},
        "study/trainings": float(len({training.identity for training in trainings})),
        "study/failures": float(len(failed)),
        "study/total_s": total,
    }


def leader(comparison: Comparison) -> Mapping[str, Any]:
    """The row that is best, of the protocol with the most trainings."""
    _, rows = comparison.groups()[0]
    return rows[rows["verdict"] == "best"].to_dict("records")[0]


def tags(comparison: Comparison) -> dict[str, str]:
    """The leader's name, and the description."""
    return {LEADER: leader(comparison)["label"], DESCRIPTION: description(comparison)}


def description(comparison: Comparison) -> str:
    """The comparison in the Markdown of MLflow's pages, as much of it as they keep: first what they show unopened."""
    best = leader(comparison)
    scored = f"{tables.number('accuracy', best['accuracy'])} % of the test images right"
    first = [f"**{best['label']}** is best: {scored}.", ""]
    lines = [*first, *map(spaced, tables.markdown(comparison).splitlines())]
    end = "\nThe rest is in comparison.md, among the artifacts."
    text = "\n".join(lines)
    while len(text) > LONGEST:
        lines.pop()
        text = "\n".join([*lines, end])
    return text


def spaced(line: str) -> str:
    """A line of Markdown, with a gap behind every cell if it is a row of a table."""
    if not line.startswith("|") or line.startswith("|:"):
        return line
    return "|".join(f" {cell.strip()}{GAP} " if cell.strip() else cell for cell in line.split("|"))
