"""Many trainings under one protocol: every architecture, every seed, one MLflow run that holds them together."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from pipeline.config import TrainConfig, resolve
from pipeline.data.images import Dataset
from pipeline.files import process_lock
from pipeline.names import short_hash
from pipeline.tracking import runs, schema
from pipeline.tracking.client import launcher_run
from pipeline.tracking.journal import Journal
from pipeline.tracking.sender import Sender
from pipeline.training import continuation, weights
from pipeline.training.continuation import Place
from pipeline.training.engine.state import check_build, operations
from pipeline.training.workers import Engine, Task, in_turn


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
    engine: Engine = in_turn,
    tuning: Mapping[str, str] | None = None,
) -> Outcome:
    """Train what is not finished yet; an earlier study of the same key is continued.

    One failing training does not stop the others, but a full disk does.

    Args:
        engine: does the trainings, several at a time or one after the other.
        tuning: by architecture what was spent on the search for its recipe, as JSON.

    Raises:
        InputError: the study is being run elsewhere.
    """
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

        if engine is not in_turn:
            # What takes longest first: begun last, it would end alone.
            configs = sorted(configs, key=lambda config: (config.seed, -operations(config, dataset)))

        def tasks() -> Iterator[Task]:
            for number, config in enumerate(configs, start=1):
                # Each time: what another host began at the same moment may not have been there to see.
                continuation.check_rivals(journal, study_key, place)
                yield Task(f"[{number}/{len(configs)}]", config, study, register, (tuning or {}).get(config.model, ""))

        with closing(engine(tasks(), dataset, place, sender)) as ended:
            failures = {task.label: failure for task, failure in ended if failure}
        continuation.take_over(study_key, place, sender)
        reasons = "; ".join(f"{label}: {reason}" for label, reason in failures.items())
        runs.end(journal, "FAILED" if failures else "FINISHED", failure=reasons)
    return Outcome(journal, failures)
