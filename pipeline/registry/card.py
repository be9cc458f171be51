"""The model card of a registered model: Mitchell et al., "Model Cards for Model Reporting", 2019, arXiv:1810.03993."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.comparison.judging import stats
from pipeline.config import TrainConfig
from pipeline.data.images import ImageSet
from pipeline.metrics import classification

MAX_FAILURES = 5
# What the protocol names by its content stands last: it tells people nothing.
HASHES = ("training_file", "test_file", "corruptions")


def write(
    config: TrainConfig,
    *,
    name: str,
    version: str,
    test: ImageSet,
    log_probabilities: np.ndarray,
    outcomes: tuple[str, ...],
    results: Mapping[str, float],
    robustness: Mapping[str, Mapping[int, float]],
    protocol: Mapping[str, Any],
    budget: Mapping[str, Any],
    weights: str,
    best_epoch: int,
    machine: str,
) -> str:
    """The card in the Markdown of MLflow's pages.

    They break lines where the text does, and set the cells of a table side by side without a gap: so it has neither
    broken lines nor tables.

    Args:
        name, version: in the registry.
        weights: what it started from.
        log_probabilities: (N, outcomes), of the test images.
        results: the run's final metrics by name.
        robustness: accuracy by corruption and severity.
    """
    worst = {corruption: curve[max(curve)] for corruption, curve in robustness.items()}
    weakest = min(worst, key=worst.__getitem__)
    return render(
        "card.md",
        images=protocol["test_images"],
        name=name,
        version=version,
        architecture=config.model,
        dataset=config.dataset,
        task=config.task,
        classes=", ".join(test.classes),
        height=test.images.shape[1],
        width=test.images.shape[2],
        weights=weights,
        seed=config.seed,
        protocol=protocol,
        hashes=HASHES,
        budget=budget,
        best_epoch=best_epoch,
        machine=machine,
        metrics=results,
        failures=failures(log_probabilities, test.targets, outcomes),
        weakest=f"{weakest.replace('_', ' ')}: {worst[weakest]:.1%} at severity {max(robustness[weakest])}",
    )


def render(template: str, *, metrics: Mapping[str, float], images: int, **about: Any) -> str:
    """A card from its template.

    Args:
        metrics: the run's final metrics by name.
        images: test images, which the interval of the accuracy is about.
        about: whatever else the template asks for.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")), undefined=StrictUndefined, trim_blocks=True
    )
    low, high = stats.wilson(round(metrics["test/accuracy"] * images), images)
    return environment.get_template(template).render(
        metrics=metrics, images=images, low=low, high=high, percent=lambda share: f"{share:.2%}", **about
    )


def failures(log_probabilities: np.ndarray, targets: np.ndarray, outcomes: tuple[str, ...]) -> str:
    """The most frequent errors in a sentence."""
    counts = classification.confusion(log_probabilities, targets)
    np.fill_diagonal(counts, 0)
    if not counts.any():
        return f"It answered none of the {len(targets):,} test images wrong."
    pairs = np.column_stack(np.unravel_index(np.argsort(-counts, axis=None, kind="stable"), counts.shape))
    most = [
        f"{outcomes[true]} taken for {outcomes[said]} ({counts[true, said]})"
        for true, said in pairs[:MAX_FAILURES]
        if counts[true, said]
    ]
    return f"It answered {counts.sum():,} of the {len(targets):,} test images wrong, most often {', '.join(most)}."
