"""Many trainings under the same conditions: every architecture, every seed, one MLflow run that holds them together."""

import itertools
import logging
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import Any

import models
from pipeline.config import TRAINING_VERSION, TrainConfig, resolve, title
from pipeline.data.images import Dataset
from pipeline.errors import InputError, has_no_room, why_failed
from pipeline.files import process_lock
from pipeline.names import short_hash
from pipeline.tracking import runs, schema
from pipeline.tracking.client import launcher_run
from pipeline.tracking.journal import Journal
from pipeline.tracking.sender import Sender
from pipeline.training import continuation, weights
from pipeline.training.continuation import Place
from pipeline.training.engine.state import check_build, operations
from pipeline.training.run import train
from pipeline.training.workers.local import in_turn
from pipeline.training.workers.overview import Overview
from pipeline.training.workers.work import Engine, Line

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """A study's trainings on one data set.

    Attributes:
        tuning: by architecture what was spent on the search for its recipe, as JSON.
    """

    dataset: Dataset
    configs: Sequence[TrainConfig]
    tuning: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """One training of a study.

    Attributes:
        position: where it stands among all, for people.
        label: what it and its run are called.
        study: the key of the study's journal, its own, and its run's id.
        tuning: as `run.train` takes it.
    """

    position: str
    label: str
    config: TrainConfig
    study: Mapping[str, str]
    register: bool
    tuning: str = ""

    def do(self, dataset: Dataset, place: Place, sender: Sender) -> str:
        """Train what is not finished yet; why it failed, empty where it did not.

        A training that was cut is resumed from its checkpoint, one that failed without leaving one starts again in a
        run of its own.

        Raises:
            Exception: there is no room on the disk, of which every other training would fail as well.
        """
        config, position = self.config, f"{self.position} {self.label}"
        try:
            check_code(config)
            standing = continuation.find_training(config, place, sender, study=self.study)
            if standing.finished:
                logger.info("%s: finished before", position)
                return ""
            doing = "resuming" if standing.journal else "training"
            logger.info("%s: %s on %s in %s", position, doing, config.device, config.precision)
            result, _ = train(
                config,
                dataset,
                root=place.root,
                sender=sender,
                start=weights.load(config.weights, config.model, config.model_args, classes=dataset.classes),
                journal=standing.journal,
                study=self.study,
                name=self.label,
                register=self.register,
                tuning=self.tuning,
            )
        except Exception as error:
            if has_no_room(error):
                raise
            # Whatever it is: the others go on. The run of this one keeps the traceback.
            failure = why_failed(error)
            logger.warning("%s: failed: %s", position, failure)
            return failure
        logger.info("%s: %s", position, result.summary())
        return ""


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
        first = resolve(name, dataset, weights=weights_of, stored=stored, **{**options, **(tuned or {}).get(name, {})})
        check_build(first, dataset)
        configs += [replace(first, seed=seed) for seed in range(seeds)]
    return sorted(configs, key=lambda config: config.seed)


def key(datasets: Sequence[Dataset], *, source: str | None, options: Mapping[str, Any]) -> str:
    """What makes two calls the same study: data and options, not which architectures and how many seeds."""
    return short_hash({"dataset": ",".join(sorted(each.sha256 for each in datasets)), "weights": source, **options})


def run(
    parts: Sequence[Part],
    *,
    study_key: str,
    name: str,
    place: Place,
    sender: Sender,
    register: bool = True,
    engine: Engine = in_turn,
) -> Outcome:
    """Train what is not finished yet; an earlier study of the same key is continued.

    One failing training does not stop the others, but a full disk does.

    Args:
        engine: does the trainings of a part, several at a time or one after the other.

    Raises:
        InputError: the study is being run elsewhere.
    """
    tags = {
        schema.KIND: schema.STUDY,
        schema.STUDY_KEY: study_key,
        schema.DATASET: ", ".join(part.dataset.name for part in parts),
        schema.DATASET_SHA256: ", ".join(part.dataset.sha256 for part in parts),
    }
    with ExitStack() as stack:
        lock = place.root / "journals" / f"study-{study_key}.lock"
        stack.enter_context(process_lock(lock, "This study is being run"))
        journal = continuation.find_study(study_key, name, place)
        if journal.run_id != launcher_run():
            runs.nest_launcher_run("continued", under=journal.run_id)
        stack.enter_context(runs.recording(journal, sender, tags=tags))
        for part in parts:
            runs.say_images(journal, part.dataset.train, f"{part.dataset.name}-{runs.TRAINING}", context=runs.TRAINING)
            runs.say_images(journal, part.dataset.test, f"{part.dataset.name}-{runs.TEST}", context=runs.TEST)
        study = {"journal": journal.key, "key": study_key, "run_id": journal.run_id or ""}
        names = labels(parts)
        begun = itertools.count(1)
        failures: dict[str, str] = {}

        def tasks(part: Part) -> Iterator[Task]:
            configs = part.configs
            if engine is not in_turn:
                configs = longest_first(part)
            for config in configs:
                # Each time: what another host began at the same moment may not have been there to see.
                continuation.check_rivals(journal, study_key, place)
                position, spent = f"[{next(begun)}/{len(names)}]", part.tuning.get(config.model, "")
                yield Task(position, names[config.key], config, study, register, spent)

        overview = stack.enter_context(Overview(len(names), several=engine is not in_turn))
        for part in parts:
            with closing(engine(tasks(part), part.dataset, place, sender)) as events:
                for event in events:
                    if isinstance(event, Line):
                        overview.hear(event)
                        continue
                    task, failure = event
                    overview.end(task, failure)
                    if failure:
                        failures[task.label] = failure
        continuation.take_over(study_key, place, sender)
        reasons = "; ".join(f"{label}: {reason}" for label, reason in failures.items())
        runs.end(journal, "FAILED" if failures else "FINISHED", failure=reasons)
    return Outcome(journal, failures)


def longest_first(part: Part) -> list[TrainConfig]:
    """A part's trainings, seed by seed: what takes longest would, if it were begun last, end alone."""
    work: dict[str, float] = {}

    def order(config: TrainConfig) -> tuple[int, float]:
        # Those that differ in their seed alone do the same.
        alike = replace(config, seed=0).key
        if alike not in work:
            work[alike] = operations(config, part.dataset)
        return config.seed, -work[alike]

    return sorted(part.configs, key=order)


def labels(parts: Sequence[Part]) -> dict[str, str]:
    """What each training of a study is called, by its config's key: what it takes to tell it from the others."""
    configs = [config for part in parts for config in part.configs]
    told = [name for name in ("dataset", "limit") if len({getattr(config, name) for config in configs}) > 1]
    return {
        config.key: title(config.model, {name: getattr(config, name) for name in told}, seed=config.seed)
        for config in configs
    }


def check_code(config: TrainConfig) -> None:
    """Refuse to train what the code on this machine makes otherwise than that of whoever planned it.

    Raises:
        InputError: the project's version here is another.
    """
    here = (models.get(config.model).sha256, TRAINING_VERSION)
    if here != (config.architecture_sha256, config.training_version):
        raise InputError(
            f"{platform.node()} has another version of this project than the machine that began the study: bring both "
            "to the same."
        )
