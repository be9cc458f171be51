"""Many trainings under one protocol: every architecture, every seed, one MLflow run that holds them together."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import PUBLISHED, TrainConfig, resolve
from pipeline.data.images import Dataset
from pipeline.errors import PipelineError
from pipeline.files import process_lock
from pipeline.names import short_hash
from pipeline.tracking import queries, runs, schema
from pipeline.tracking.client import current_experiment, launcher_run
from pipeline.tracking.training_run import is_finished
from pipeline.training import weights
from pipeline.training.run import resumable, train
from pipeline.training.state import check_build

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of a study: its run, and the reason of each training that failed."""

    run_id: str
    failures: Mapping[str, str]


def plan(
    names: Sequence[str], seeds: int, dataset: Dataset, *, source: str | None, options: Mapping[str, Any]
) -> list[TrainConfig]:
    """Every config of a study, so that a wrong option is found before the first hour is spent.

    Args:
        seeds: how many times each architecture is trained, with the seeds 0, 1, ...
        source: where weights come from, None for each architecture's own default.

    Raises:
        InputError: an option does not fit one of the architectures or this machine.
    """
    configs = []
    for name in names:
        weights_of = weights.find(name, source, {})
        # Published weights bring no config of their own; whether they can be had, their training will tell.
        stored = {} if weights_of == PUBLISHED else weights.load(weights_of, name, {}, classes=dataset.classes).stored
        configs += [
            resolve(name, dataset, weights=weights_of, stored=stored, seed=seed, **options) for seed in range(seeds)
        ]
        check_build(configs[-1], dataset)
    return sorted(configs, key=lambda config: config.seed)


def key(dataset: Dataset, *, source: str | None, options: Mapping[str, Any]) -> str:
    """What makes two calls the same study: data and options, not which architectures and how many seeds."""
    return short_hash({"dataset": dataset.sha256, "weights": source, **options})


def run(dataset: Dataset, configs: Sequence[TrainConfig], *, study_key: str, root: Path) -> Outcome:
    """Train what is not finished yet; an earlier study of the same key is continued.

    A training that was cut is resumed from its checkpoint, one that failed without leaving one starts again in a run
    of its own. One failing training does not stop the others.
    """
    with process_lock(root / "checkpoints" / f"study-{study_key}.lock", "This study is being run"):
        return _run(dataset, configs, study_key=study_key, root=root)


def _run(dataset: Dataset, configs: Sequence[TrainConfig], *, study_key: str, root: Path) -> Outcome:
    experiment = current_experiment()
    earlier = queries.find_study(experiment, study_key)
    if earlier:
        runs.nest_launcher_run("continued", under=earlier.info.run_id)
    failures: dict[str, str] = {}
    tags = {
        schema.KIND: schema.STUDY,
        schema.STUDY_KEY: study_key,
        schema.DATASET: dataset.name,
        schema.DATASET_SHA256: dataset.sha256,
    }
    run_id = earlier.info.run_id if earlier else launcher_run()
    with runs.open_run(f"{dataset.name} study", tags=tags, run_id=run_id) as study_id:
        for number, config in enumerate(configs, start=1):
            label = f"{config.model} seed {config.seed}"
            position = f"[{number}/{len(configs)}] {label}"
            trainings = queries.find_trainings(experiment, config.key, parent=study_id)
            if any(is_finished(training) for training in trainings):
                logger.info("%s: finished before", position)
                continue
            cut = resumable(trainings, root)
            doing = "resuming" if cut else "training"
            logger.info("%s: %s on %s in %s", position, doing, config.device, config.precision)
            try:
                result = train(
                    config,
                    dataset,
                    root=root,
                    start=weights.load(config.weights, config.model, config.model_args, classes=dataset.classes),
                    run_id=cut,
                )
            except Exception as error:
                # Whatever it is: the others go on. The run of this one keeps the traceback.
                failures[label] = str(error) if isinstance(error, PipelineError) else repr(error)
                logger.warning("%s: failed: %s", position, failures[label])
                continue
            logger.info("%s: %s", position, result.summary())
    if failures:
        runs.mark_failed(study_id, "; ".join(f"{label}: {reason}" for label, reason in failures.items()))
    return Outcome(study_id, failures)
