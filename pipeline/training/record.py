"""A result in the tracking server and the registry: metrics, pictures, tables, model, card."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.comparison import protocol
from pipeline.config import TrainConfig
from pipeline.data.images import Dataset, Splits
from pipeline.evaluation import profiling
from pipeline.evaluation.predictions import write_answers, write_predictions
from pipeline.metrics.catalog import LOGGED
from pipeline.metrics.epoch import Epoch
from pipeline.names import short_hash
from pipeline.registry import bundle, card, versions
from pipeline.registry.register import VERSION, save_model, version_tags
from pipeline.tracking import runs, schema
from pipeline.tracking.journal import Journal
from pipeline.training.engine.state import Training
from pipeline.training.evaluate import Answers, Result
from pipeline.training.weights import InitialWeights


def budget(config: TrainConfig, splits: Splits) -> dict[str, Any]:
    """What the config may spend on these images."""
    return protocol.budget(epochs=config.epochs, images=len(splits.train), pretrained=config.weights != "none")


def record(
    journal: Journal,
    result: Result,
    training: Training,
    dataset: Dataset,
    splits: Splits,
    start: InitialWeights,
    *,
    total_s: float,
    register: bool,
) -> None:
    """Say a result with its pictures, tables and model, and that the run is finished: all of it or nothing."""
    config, answers = training.config, result.answers
    final = {
        **{f"test/{name}": value for name, value in result.scores.items()},
        "time/train_s": result.train_s,
        **{f"time/{name}": value for name, value in profiling.seconds_to_goals(training.history).items()},
        **{f"cost/{name}": value for name, value in result.cost.items()},
    }
    registered_name = versions.registered_name(config.dataset, config.model)
    tags = version_tags(
        journal.said("open")[0].content["tags"],
        accuracy=final["test/accuracy"],
        test_images=len(dataset.test),
    ) | {schema.SOURCE: dataset.source, "seed": str(config.seed)}
    model_card = card.write(
        config,
        name=registered_name,
        version=VERSION,
        test=dataset.test,
        log_probabilities=training.task.log_probabilities(answers.predictions),
        outcomes=training.task.outcomes,
        results=final,
        robustness=result.robustness,
        protocol=protocol.fields(dataset, splits),
        budget=budget(config, splits),
        weights=start.lineage or config.weights,
        best_epoch=training.best.index,
        machine=profiling.machine(training.device),
    )
    with journal.workspace() as folder:
        report, model, files = folder / "report", folder / "model", folder / "bundle"
        report.mkdir()
        write_report(report, answers, training, dataset)
        if answers.validation is not None:
            write_answers(report / schema.VALIDATED, answers.validation, splits.val.targets, training.task.outcomes)
        files.mkdir()
        bundle.write(
            files,
            config=config,
            model=training.model,
            images=dataset.test,
            calibration=answers.calibration,
            typical=answers.typical,
        )
        save_model(model, bundle=files, example=dataset.test.images[:2], task=config.task, classes=len(dataset.classes))
        robustness = {f"{schema.CORRUPTED}{name}": curve for name, curve in result.robustness.items()}
        about = {"registered_name": registered_name if register else "", "card": model_card, "tags": tags}
        with journal.transaction():
            journal.say("artifacts", files=report)
            journal.say("model", about, files=model)
            journal.say("metrics", {"points": runs.final_points({}, robustness)})
            journal.say("scores", {"groups": groups(journal, final | {"time/total_s": total_s}, training.best)})
            runs.end(journal, "FINISHED")


def groups(journal: Journal, final: Mapping[str, float], best: Epoch) -> list[dict[str, Any]]:
    """The final metrics and those of the best epoch, each as a point, together with those of the same data set."""
    # As they were said at the time, so that the run has them once.
    epochs = [point for record in journal.said("metrics") for point in record.content["points"]]
    chosen = [point for point in epochs if point[3] == best.index and point[0].startswith("val/")]
    # MLflow's pages show them in this order: what a comparison shows first comes first.
    shown = list(LOGGED.values())
    final = dict(sorted(final.items(), key=lambda entry: shown.index(entry[0]) if entry[0] in shown else len(shown)))
    found: dict[str, dict[str, Any]] = {}
    for point in [*runs.final_points(final), *chosen]:
        dataset = runs.measured_on(journal, point[0])
        group = found.setdefault(json.dumps(dataset), {"dataset": dataset, "points": []})
        group["points"].append(point)
    return list(found.values())


def write_report(folder: Path, answers: Answers, training: Training, dataset: Dataset) -> None:
    """Write pictures, per-class scores and the predictions on the test images into a folder."""
    # Only now: a training begins a second earlier without what draws.
    from pipeline.evaluation import figures

    config, task, best, test_set = training.config, training.task, training.best, dataset.test
    about = f"{config.model} on {dataset.name}, seed {config.seed}"
    write_predictions(
        folder,
        test_set,
        # As the registered model answers; the loss is of before.
        answers.calibrated,
        outcomes=task.outcomes,
        about=f"{about}: the {len(test_set):,} test images, epoch {best.index}",
    )
    pictures = {
        "learning_curves": figures.learning_curves(
            training.history, best, f"{about}: {len(training.val):,} validation images"
        ),
        **task.pictures(answers.predictions, task.samples(test_set), f"{about}, epoch {best.index}"),
    }
    figures.save(pictures, folder)
    chosen = {"epoch": best.index, "chosen_by": "val/accuracy, of equal ones the later", **best.metrics}
    (folder / schema.BEST_EPOCH).write_text(json.dumps(chosen, indent=2))


def training_tags(
    config: TrainConfig,
    *,
    protocol_fields: Mapping[str, Any],
    budget: Mapping[str, Any],
    examined_on: Mapping[str, Any],
) -> dict[str, str]:
    """What a training's run can be found and grouped by."""
    params = config.params()
    return {
        schema.KIND: schema.TRAINING,
        schema.DATASET: config.dataset,
        schema.DATASET_SHA256: config.dataset_sha256,
        schema.ARCHITECTURE: config.model,
        schema.TASK: config.task,
        schema.DEVICE: config.device,
        schema.TORCH: version("torch"),
        schema.TORCHVISION: version("torchvision"),
        schema.CONFIG_KEY: config.key,
        schema.RECIPE_KEY: short_hash({name: value for name, value in params.items() if name != "seed"}),
        schema.PROTOCOL: protocol.fingerprint(protocol_fields),
        schema.PROTOCOL_FIELDS: json.dumps(protocol_fields),
        schema.BUDGET: json.dumps(budget),
        schema.SCENES: json.dumps(examined_on) if examined_on else "",
    }
