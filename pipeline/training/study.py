"""Many trainings under one protocol: every architecture, every seed, one MLflow run that holds them together."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from pipeline.config import TrainConfig, resolve
from pipeline.data.images import Dataset
from pipeline.errors import PipelineError, has_no_room, reason
from pipeline.files import process_lock
from pipeline.names import short_hash
from pipeline.tracking import runs, schema
from pipeline.tracking.client import launcher_run
from pipeline.tracking.journal import Journal
from pipeline.tracking.sender import Sender
from pipeline.training import continuation, weights
from pipeline.training.continuation import Place
from pipeline.training.engine.state import check_build
from pipeline.training.run import train

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of a study: its journal, and the reason of each training that failed."""

    journal: Journal
    failures: Mapping[str, str]


def plan(
    names: Sequence[str],
    seeds: int,
    dataset: Dataset,
    *,
    source: str | None,
    options: Mapping[str, Any],
    tuned: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[TrainConfig]:
    """Every config of a study, so that a wrong option is found before the first hour is spent.

    Args:
        seeds: how many times each architecture is trained, with the seeds 0, 1, ...
        source: where weights come from, None for each architecture's own default.
        tuned: options of single architectures in place of these.

    Raises:
        InputError: an option does not fit one of the architectures or this machine.
    """
    configs = []
    for name in names:
        weights_of = weights.find(name, source, {})
        stored = weights.stored(weights_of, name, classes=dataset.classes)
        configs += [
            resolve(
                name,
                dataset,
                weights=weights_of,
                stored=stored,
                seed=seed,
                **{**options, **(tuned or {}).get(name, {})},
            )
            for seed in range(seeds)
        ]
        check_build(configs[-1], dataset)
    return sorted(configs, key=lambda config: config.seed)


def key(dataset: Dataset, *, source: str | None, options: Mapping[str, Any]) -> str:
    """What makes two calls the same study: data and options, not which architectures and how many seeds."""
    return short_hash({"dataset": dataset.sha256, "weights": source, **options})


def run(
    dataset: Dataset,
    configs: Sequence[TrainConfig],
    *,
    study_key: str,
    name: str,
    place: Place,
    sender: Sender,
    register: bool = True,
    tuning: Mapping[str, str] | None = None,
) -> Outcome:
    """Train what is not finished yet; an earlier study of the same key is continued.

    A training that was cut is resumed from its checkpoint, one that failed without leaving one starts again in a run
    of its own. One failing training does not stop the others, but a full disk does.

    Args:
        tuning: by architecture what was spent on the search for its recipe, as JSON.

    Raises:
        InputError: the study is being run elsewhere.
    """
    failures: dict[str, str] = {}
    tags = {
        schema.KIND: schema.STUDY,
        schema.STUDY_KEY: study_key,
        schema.DATASET: dataset.name,
        schema.DATASET_SHA256: dataset.sha256,
    }
    with ExitStack() as stack:
        lock = place.root / "journals" / f"study-{study_key}.lock"
        stack.enter_context(process_lock(lock, "This study is being run"))
        journal = continuation.find_study(study_key, name, place)
        if journal.run_id != launcher_run():
            runs.nest_launcher_run("continued", under=journal.run_id)
        stack.enter_context(runs.recording(journal, sender, tags=tags))
        runs.say_images(journal, dataset.train, f"{dataset.name}-{runs.TRAINING}", context=runs.TRAINING)
        runs.say_images(journal, dataset.test, f"{dataset.name}-{runs.TEST}", context=runs.TEST)
        study = {"journal": journal.key, "key": study_key, "run_id": journal.run_id or ""}
        for number, config in enumerate(configs, start=1):
            label = f"{config.model} seed {config.seed}"
            position = f"[{number}/{len(configs)}] {label}"
            # Each time: what another host began at the same moment may not have been there to see.
            continuation.check_rivals(journal, study_key, place)
            try:
                standing = continuation.find_training(config, place, sender, study=study)
                if standing.finished:
                    logger.info("%s: finished before", position)
                    continue
                doing = "resuming" if standing.journal else "training"
                logger.info("%s: %s on %s in %s", position, doing, config.device, config.precision)
                result, _ = train(
                    config,
                    dataset,
                    root=place.root,
                    sender=sender,
                    start=weights.load(config.weights, config.model, config.model_args, classes=dataset.classes),
                    journal=standing.journal,
                    study=study,
                    register=register,
                    tuning=(tuning or {}).get(config.model, ""),
                )
            except Exception as error:
                if has_no_room(error):
                    raise
                # Whatever it is: the others go on. The run of this one keeps the traceback.
                failures[label] = str(error) if isinstance(error, PipelineError) else reason(error) or repr(error)
                logger.warning("%s: failed: %s", position, failures[label])
                continue
            logger.info("%s: %s", position, result.summary())
        reasons = "; ".join(f"{label}: {reason}" for label, reason in failures.items())
        runs.end(journal, "FAILED" if failures else "FINISHED", failure=reasons)
    return Outcome(journal, failures)
