"""Pictures of a search: Optuna's own, and the expected best accuracy by the number of trials."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot
from matplotlib.figure import Figure
from optuna.study import Study
from optuna.visualization import matplotlib as optuna_plots

from pipeline.evaluation import figures
from pipeline.search.results import Result
from pipeline.search.search import COMPLETE


def save(study: Study, result: Result, folder: Path) -> None:
    """Write the pictures into a folder; which of them say something depends on how many trials were completed."""
    base = result.search.space.base
    measure = f"accuracy on {base.val_size:,} validation images"
    plots: dict[str, Callable[[Study], Any]] = {
        "history": partial(optuna_plots.plot_optimization_history, target_name=measure)
    }
    if sum(trial.state == COMPLETE for trial in study.get_trials(deepcopy=False)) > 2:
        plots["importance"] = partial(optuna_plots.plot_param_importances, target_name=measure)
        plots["parallel_coordinates"] = partial(optuna_plots.plot_parallel_coordinate, target_name=measure)
    figures.save({"expected_accuracy": expected(result)}, folder)
    # Optuna changes the style of all pictures, and calls its own experimental.
    with warnings.catch_warnings(), matplotlib.rc_context():
        warnings.simplefilter("ignore")
        pyplot.switch_backend("agg")
        for name, plot in plots.items():
            try:
                figure = plot(study).figure
            except (ValueError, RuntimeError):
                # As where all trials have the same score, and nothing is more important than anything else.
                continue
            figure.suptitle(f"{base.model} on {base.dataset}")
            figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")
            pyplot.close(figure)


def expected(result: Result) -> Figure:
    """The expected best accuracy of so many trials drawn at random from those that were made."""
    base = result.search.space.base
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    trials = range(1, len(result.expected) + 1)
    axes.plot(trials, [100 * score for score in result.expected], marker="." if len(trials) < 30 else "")
    if result.own is not None:
        axes.axhline(100 * result.own, color="grey", linestyle="--", label="the recipe's own values")
        axes.legend()
    axes.set_xlabel("trials")
    axes.set_ylabel("expected best accuracy (%)")
    axes.set_title(f"{base.model} on {base.dataset}: {base.val_size:,} validation images")
    return figure
