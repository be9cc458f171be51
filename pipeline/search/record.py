"""What a search found, in its run: the recipe, a table of all trials, pictures, metrics."""

import json
import statistics
import warnings
from collections.abc import Sequence

import numpy as np
from optuna.importance import get_param_importances
from optuna.study import Study

from pipeline.search.results import Result
from pipeline.tracking import runs, schema
from pipeline.tracking.journal import Journal

# So many points draw a curve.
POINTS = 40


def record(journal: Journal, study: Study, result: Result) -> None:
    """Say what was found, and that the search is finished."""
    # Only now: what draws takes two seconds to import, which the trials do not wait for.
    from pipeline.search import figures

    base = result.search.space.base
    recipe = {
        "architecture": base.model,
        "recipe": result.search.space.recipe(result.values),
        "whose": result.name,
        "dataset": base.dataset,
        "dataset_sha256": base.dataset_sha256,
        "weights": base.weights,
        "val_accuracy": result.best.value,
        "own_accuracy": result.own,
        "val_images": base.val_size,
        "fresh_seeds": result.fresh,
        "trials": sum(result.counts.values()),
        "images_seen": result.images,
        "validation_looked_at": result.looks,
        "expected_accuracy": thinned(result.expected),
        "importance": importance(study),
    }
    with journal.workspace() as folder:
        files = folder / "search"
        files.mkdir()
        (files / schema.TUNED_RECIPE).write_text(json.dumps(recipe, indent=2))
        (files / "summary.md").write_text("\n\n".join(result.sentences()) + "\n")
        study.trials_dataframe().to_csv(files / "trials.csv", index=False)
        figures.save(study, result, files)
        metrics = {
            "search/val_accuracy": result.best.value or 0.0,
            "search/trials": float(sum(result.counts.values())),
            **{f"search/{word}": float(count) for word, count in result.counts.items()},
            "search/images_seen": float(result.images),
            "search/validation_looked_at": float(result.looks),
            **{f"search/{name.replace(' ', '_')}": statistics.mean(scores) for name, scores in result.fresh.items()},
        }
        series = {"search/expected_accuracy": {int(count): score for count, score in thinned(result.expected).items()}}
        with journal.transaction():
            journal.say("artifacts", files=files)
            journal.say("metrics", {"points": runs.final_points(metrics, series)})
            runs.end(journal, "FINISHED")


def thinned(expected: Sequence[float]) -> dict[str, float]:
    """The expected best accuracy by the number of trials; of many trials at growing distances."""
    counts = np.unique(np.geomspace(1, max(1, len(expected)), POINTS).round().astype(int))
    return {str(count): round(expected[count - 1], 6) for count in counts.tolist() if expected}


def importance(study: Study) -> dict[str, float]:
    """Which share of what trials differ in each field explains, where they differ and there are enough."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return {field: round(share, 3) for field, share in get_param_importances(study).items()}
    except (ValueError, RuntimeError):
        return {}
