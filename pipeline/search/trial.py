"""One trial: a training that only validation judges, resumable after every epoch; the test images are not looked at."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.exceptions import StorageInternalError

from pipeline.config import TrainConfig
from pipeline.data.images import Splits
from pipeline.errors import Interrupted, PipelineError, has_no_room
from pipeline.metrics.epoch import Epoch
from pipeline.tracking import runs, schema
from pipeline.tracking.journal import Journal
from pipeline.tracking.sender import Sender
from pipeline.training import continuation
from pipeline.training.engine.checkpoint import Checkpoint
from pipeline.training.engine.state import Training
from pipeline.training.run import kept_epochs
from pipeline.training.weights import InitialWeights

SCORE = "val/accuracy"
# A trial in which the process is killed so often without a new epoch is given up: it would end the next one, too.
MOST_DEATHS = 3


@dataclass(frozen=True)
class Outcome:
    """What a trial brought.

    Attributes:
        best: the epoch with the best validation.
        epochs: how many there were.
        pruned: whether it was ended early.
    """

    best: Epoch
    epochs: int
    seconds: float
    pruned: bool

    def facts(self) -> dict[str, float]:
        """The same as numbers by name, as a database keeps them."""
        found = {"epoch": self.best.index, "epochs": self.epochs, "seconds": self.seconds, "pruned": float(self.pruned)}
        return {**found, **self.best.metrics}


def begin(config: TrainConfig, root: Path, *, label: str, name: str, study: Mapping[str, str]) -> Journal:
    """A new journal of a trial.

    Args:
        label: what the database calls it.
        name: what people do.
        study: the key of the search's journal, where this process has it, and the search's own.
    """
    about = {"study": dict(study), "study_key": study["key"], "label": label, "config": config.params()}
    return continuation.begin(root, schema.SEARCH_TRIAL, f"{config.model} {name}", **about)


def train(
    config: TrainConfig,
    splits: Splits,
    *,
    journal: Journal,
    sender: Sender,
    start: InitialWeights,
    prune: Callable[[Epoch], bool],
    tell: Callable[[Outcome], None],
) -> None:
    """Train a config until its last epoch or until it is not worth it; what there is to record is said in the journal.

    Args:
        journal: with a checkpoint to go on from, if there is one.
        prune: asked after every epoch, those of an earlier process included, whether it is not.
        tell: told how it ended, before the run says so.

    Raises:
        PipelineError: the loss is no longer a finite number, or the process was killed too often.
    """
    started = time.perf_counter()
    tags = {
        schema.KIND: schema.SEARCH_TRIAL,
        schema.DATASET: config.dataset,
        schema.DATASET_SHA256: config.dataset_sha256,
        schema.ARCHITECTURE: config.model,
        schema.DEVICE: config.device,
    }
    with runs.recording(journal, sender, tags=tags), given_up(journal):
        count_deaths(journal)
        training = Training(config, splits, start.state)
        if saved := Checkpoint(journal.folder).load():
            training.load_state_dict(saved["training"])
            started -= saved["elapsed"]
        journal.say("params", config.params(), once="params")
        pruned = any(map(prune, training.history)) or any(map(prune, kept_epochs(training, journal, started=started)))
        outcome = Outcome(training.best, len(training.history), training.seconds, pruned)
        tell(outcome)
        end(journal, outcome.facts())


def end(journal: Journal, facts: Mapping[str, Any]) -> None:
    """Say how a trial ended.

    Args:
        facts: of its outcome, or why it failed.
    """
    if "failure" in facts:
        return runs.end(journal, "FAILED", failure=facts["failure"])
    final = {
        "trial/accuracy": facts[SCORE],
        "trial/epochs": facts["epochs"],
        "trial/pruned": facts["pruned"],
        "time/train_s": facts["seconds"],
    }
    with journal.transaction():
        journal.say("metrics", {"points": runs.final_points(final)}, once="final")
        runs.end(journal, "FINISHED")


def count_deaths(journal: Journal) -> None:
    """Remember that a trial is begun or gone on with, in case that ends the process.

    Raises:
        PipelineError: it has too often.
    """
    epoch = len(journal.said("metrics"))
    begun = [*journal.about.get("begun", []), epoch]
    if begun.count(epoch) > MOST_DEATHS:
        raise PipelineError(f"Its process was killed {MOST_DEATHS} times in epoch {epoch + 1}: is memory short?")
    journal.note(begun=begun)


@contextmanager
def given_up(journal: Journal) -> Iterator[None]:
    """Forget what was trained where the block fails: it would again, unless a disk or the database is to blame."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        # Asked to stop, not killed by what it did.
        journal.note(begun=[])
        raise
    except Exception as error:
        if not has_no_room(error) and not isinstance(error, StorageInternalError):
            Checkpoint(journal.folder).remove()
        raise
