"""One training from its config to a finished MLflow run, resumable after every epoch."""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from pipeline.comparison import protocol
from pipeline.config import TrainConfig, title
from pipeline.data.images import Dataset
from pipeline.data.splits import split
from pipeline.errors import Interrupted
from pipeline.evaluation import profiling
from pipeline.metrics.epoch import Epoch
from pipeline.tracking import runs, schema
from pipeline.tracking.journal import Journal
from pipeline.tracking.sender import Sender
from pipeline.training import continuation
from pipeline.training.engine.checkpoint import Checkpoint
from pipeline.training.engine.loop import Diverged, fit
from pipeline.training.engine.ranks import ALONE, Ranks
from pipeline.training.engine.state import Training
from pipeline.training.evaluate import Result, test
from pipeline.training.progress import Progress
from pipeline.training.record import budget, record, training_tags
from pipeline.training.system import SystemMetrics
from pipeline.training.weights import FRESH, InitialWeights


def train(
    config: TrainConfig,
    dataset: Dataset,
    *,
    root: Path,
    sender: Sender,
    start: InitialWeights = FRESH,
    journal: Journal | None = None,
    study: Mapping[str, str] | None = None,
    name: str = "",
    register: bool = True,
    tuning: str = "",
    ranks: Ranks = ALONE,
) -> tuple[Result, Journal]:
    """Train and test one config; what there is to record is said in a journal, which the sender tells the server.

    Args:
        start: the weights to start from; not needed when a checkpoint of the training exists.
        journal: of a training to go on with; its checkpoint is used if there is one.
        study: the study that it belongs to: the key of its journal and its own.
        name: what a new run is called, by default after its architecture and seed.
        register: whether the model gets a version in the registry.
        tuning: what was spent on the search for its recipe, as JSON, empty for the recipe of the architecture's file.
        ranks: the processes that train it together, of which this is the first.

    Returns:
        the result and the journal, whose `run_id` is known once the server has it.

    Raises:
        InputError: the config cannot be built.
        PipelineError: the loss became infinite or not a number, or the server refuses the run.
    """
    started = time.perf_counter()
    splits = split(dataset, val_size=config.val_size, limit=config.limit)
    training = Training(config, splits, start.state, ranks)
    tags = training_tags(
        config,
        protocol_fields=protocol.fields(dataset, splits),
        budget=budget(config, splits),
        examined_on=training.task.examined_on,
    ) | {schema.MACHINE: profiling.machine(training.device, processes=ranks.count)}
    if repeated := dataset.test_images_also_in_train:
        tags[schema.REPEATED] = str(repeated)
    if start.lineage:
        tags[schema.LINEAGE] = start.lineage
    if tuning:
        tags[schema.TUNING] = tuning
    if not register:
        tags[schema.TRIAL] = "true"
    if ranks.count > 1:
        tags[schema.PROCESSES] = str(ranks.count)
    journal = journal or continuation.begin_training(
        config, root, study=study, name=name or title(config.model, {}, seed=config.seed)
    )
    with ExitStack() as stack:
        stack.enter_context(runs.recording(journal, sender, tags=tags))
        if saved := Checkpoint(journal.folder).load():
            training.load_state_dict(saved["training"])
            started -= saved["elapsed"]
        ranks.same_state(training.state_dict())
        if not journal.said("params"):
            with journal.transaction():
                journal.say("params", config.params())
                runs.say_images(journal, dataset.train, f"{dataset.name}-training", context=runs.TRAINING)
                examined = {runs.VALIDATION: training.samples, runs.TEST: training.task.samples(dataset.test)}
                for context, samples in examined.items():
                    for kind, part in samples.items():
                        suffix = "" if kind == "single" else f"-{kind}"
                        runs.say_images(journal, part, f"{dataset.name}-{context}{suffix}", context=context)
        meter = profiling.Meter(training.device)
        stack.enter_context(SystemMetrics(journal))
        with Progress(config, steps=training.steps, done=len(training.history)) as progress:
            for epoch in kept_epochs(training, journal, started=started, report=progress.step):
                meter.update()
                progress.epoch(epoch)

        spent = meter.read()
        if saved or multiprocessing.parent_process():
            # What was used before the training was cut is not known, nor what another one used beside it.
            spent.pop("energy_j", None)
        result = test(training, splits, spent)
        total_s = time.perf_counter() - started
        record(journal, result, training, dataset, splits, start, total_s=total_s, register=register)
    return result, journal


def kept_epochs(
    training: Training,
    journal: Journal,
    *,
    started: float,
    report: Callable[[int, int, float], None] = lambda epoch, step, loss: None,
) -> Iterator[Epoch]:
    """Train as `fit` does; what was trained before and every new epoch is said in the journal, and kept beside it.

    Interrupted within an epoch, it keeps that, too.

    Args:
        started: when the training began, by `time.perf_counter`, had it never been interrupted.

    Raises:
        Diverged: the loss is no longer a finite number.
    """
    checkpoint = Checkpoint(journal.folder)

    def save() -> None:
        elapsed = time.perf_counter() - started
        checkpoint.save(training=training.state_dict(), config=training.config.params(), elapsed=elapsed)

    for epoch in training.history:
        runs.say_epoch(journal, epoch)
    try:
        for epoch in fit(training, report=report):
            # The checkpoint first: what it holds is said on resuming, what only the journal had is lost.
            save()
            runs.say_epoch(journal, epoch)
            yield epoch
    except Interrupted:
        save()
        raise
    except Diverged:
        # It would again.
        checkpoint.remove()
        raise
