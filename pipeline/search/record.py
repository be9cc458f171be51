"""What a search found, in its run: the recipe, a table of all trials, pictures, metrics."""

import json
import statistics

from optuna.study import Study

from pipeline.search import figures
from pipeline.search.results import Result
from pipeline.tracking import runs, schema
from pipeline.tracking.journal import Journal


def record(journal: Journal, study: Study, result: Result) -> None:
    """Say what was found, and that the search is finished."""
    base = result.search.space.base
    recipe = {
        "architecture": base.model,
        "recipe": result.search.space.recipe(result.values),
        "whose": result.name,
        "dataset": base.dataset,
        "dataset_sha256": base.dataset_sha256,
        "weights": base.weights,
        "val_accuracy": result.best.value,
        "val_images": base.val_size,
        "fresh_seeds": result.fresh,
        "trials": sum(result.counts.values()),
        "images_seen": result.images,
        "validation_looked_at": result.looks,
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
        series = {"search/expected_accuracy": dict(enumerate(result.expected, start=1))}
        with journal.transaction():
            journal.say("artifacts", files=files)
            journal.say("metrics", {"points": runs.final_points(metrics, series)})
            runs.end(journal, "FINISHED")
