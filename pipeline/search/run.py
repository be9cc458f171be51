"""A search from its space to a recipe, alone or together with other processes."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count

from filelock import FileLock
from optuna.exceptions import StorageInternalError
from optuna.study import Study

from pipeline.config import title
from pipeline.data.images import Dataset
from pipeline.errors import InputError, has_no_room, why_failed
from pipeline.files import make_folder
from pipeline.names import short_hash
from pipeline.search.progress import Progress
from pipeline.search.record import record
from pipeline.search.results import Result, result_of
from pipeline.search.search import Search
from pipeline.search.storage import broken, create_pruner, open_study
from pipeline.search.worker import Worker
from pipeline.tracking import queries, runs, schema
from pipeline.tracking.client import launcher_run
from pipeline.tracking.journal import Journal
from pipeline.tracking.sender import Sender
from pipeline.training import continuation
from pipeline.training.continuation import Place
from pipeline.training.weights import InitialWeights
from pipeline.training.workers.work import Engine, Line

logger = logging.getLogger(__name__)

# Seconds that the last of several processes waits for another to let go of the search's run.
LETTING_GO_S = 30
# What the database knows once a process has said what was found: a hash of that.
SAID = "what was found"


@dataclass(frozen=True)
class Part:
    """What one process does in a search: trials until the budget is spent, and then trainings with fresh seeds.

    Attributes:
        number: among the processes.
        study: the key of the journal of the search's run, if whoever began it has it, the search's own, and the run's.
    """

    number: int
    search: Search
    start: InitialWeights
    study: Mapping[str, str]

    @property
    def position(self) -> str:
        """Which process says something."""
        return f"({self.number})"

    @property
    def label(self) -> str:
        """What it is called."""
        return f"search {self.search.name}"

    def do(self, dataset: Dataset, place: Place, sender: Sender) -> str:
        """Do it; why it failed, empty where it did not.

        Raises:
            Exception: there is no room on the disk, of which every other process would fail as well.
        """
        try:
            self.work(dataset, place, sender)
        except StorageInternalError as error:
            return str(broken(self.search.storage, error))
        except Exception as error:
            if has_no_room(error):
                raise
            return why_failed(error)
        return ""

    def work(self, dataset: Dataset, place: Place, sender: Sender) -> bool:
        """Do it; whether nothing is left to be done by others."""
        with alone(self.search, place):
            trials = open_trials(self.search)
        with Progress(self.search, trials) as progress:
            worker = Worker(
                self.search,
                trials,
                dataset,
                place=place,
                sender=sender,
                start=self.start,
                alone=alone(self.search, place),
                study=self.study,
                progress=progress,
            )
            worker.try_all()
            return not worker.others_train() and worker.confirm()


def alone(search: Search, place: Place) -> FileLock:
    """Held while a trial is taken, so that no two on this machine take the same."""
    return FileLock(place.root / "journals" / f"search-{search.key}.lock")


def open_trials(search: Search) -> Study:
    """The trials of a search, as far as there are any."""
    base = search.space.base
    pruner = create_pruner(search.pruning, base.epochs)
    return open_study(search.storage, search.name, first=search.space.own, seed=base.seed, pruner=pruner)


def run(
    search: Search,
    dataset: Dataset,
    *,
    place: Place,
    sender: Sender,
    start: InitialWeights,
    several: bool,
    engine: Engine | None = None,
) -> tuple[Result, Journal] | None:
    """Try recipes until the budget is spent, and record the best.

    The same search goes on with the trials that there are, one that was cut with its last epoch. Any number of
    processes may run it at once; the last of them says what was found.

    Args:
        several: whether this process has other searches as well, so that the launcher's run is not this one's.
        engine: begins other processes, which leave little or nothing of the search to this one.

    Returns:
        what was found, and the journal of the search's run; None where another process says it.

    Raises:
        InputError: the database cannot be used.
        PipelineError: no trial was completed, or the database failed.
    """
    make_folder(place.root / "journals")
    with ExitStack() as stack:
        with alone(search, place):
            trials = open_trials(search)
            journal = hold(search, place, several=several)
            if journal:
                stack.enter_context(recording(journal, search, dataset, sender))
        study = {"journal": journal.key if journal else "", "key": search.key, "run_id": run_id(search, journal, place)}
        if not several and study["run_id"] != launcher_run():
            runs.nest_launcher_run("continued" if journal else "joined", under=study["run_id"])
        try:
            if engine:
                share(
                    search,
                    trials,
                    engine,
                    partial(Part, search=search, start=start, study=study),
                    dataset,
                    place,
                    sender,
                )
            if not Part(0, search, start, study).work(dataset, place, sender):
                return None
            found = result_of(search, trials)
            if not journal:
                journal = wait_for(search, place, lambda: is_said(trials, found))
                if not journal:
                    return None
                stack.enter_context(recording(journal, search, dataset, sender))
            record(journal, trials, found)
            trials.set_user_attr(SAID, hashed(found))
        except StorageInternalError as error:
            raise broken(search.storage, error) from error
    return found, journal


def is_said(trials: Study, found: Result) -> bool:
    """Whether a process has said that this was found."""
    return trials.user_attrs.get(SAID) == hashed(found)


def hashed(found: Result) -> str:
    """What tells a result from those of fewer trials or trainings."""
    return short_hash({"sentences": found.sentences()})


def share(
    search: Search,
    trials: Study,
    engine: Engine,
    part: Callable[[int], Part],
    dataset: Dataset,
    place: Place,
    sender: Sender,
) -> None:
    """Let other processes try recipes until the budget is spent; each that ends before is replaced unless it failed."""
    failed = False

    def parts() -> Iterator[Part]:
        for number in count(1):
            if failed or search.is_spent(trials.get_trials(deepcopy=False)):
                return
            yield part(number)

    with closing(engine(parts(), dataset, place, sender)) as events:
        for event in events:
            if isinstance(event, Line):
                logger.log(event.level, event.text)
                continue
            one, failure = event
            if failure:
                failed = True
                logger.warning("%s %s: failed: %s", one.position, one.label, failure)


@contextmanager
def recording(journal: Journal, search: Search, dataset: Dataset, sender: Sender) -> Iterator[None]:
    """Say that the search begins or goes on, on which images, and, when the block ends early, how."""
    base = search.space.base
    tags = {
        schema.KIND: schema.SEARCH,
        schema.STUDY_KEY: search.key,
        schema.DATASET: base.dataset,
        schema.DATASET_SHA256: base.dataset_sha256,
        schema.ARCHITECTURE: base.model,
    }
    with runs.recording(journal, sender, tags=tags):
        if not journal.said("params"):
            with journal.transaction():
                journal.say("params", base.params())
                runs.say_images(journal, dataset.train, f"{dataset.name}-{runs.TRAINING}", context=runs.TRAINING)
        yield


def hold(search: Search, place: Place, *, several: bool) -> Journal | None:
    """The journal of the search's run, None where another process has it."""
    base = search.space.base
    try:
        journal = continuation.find_search(
            search.key, title(f"{base.dataset} {base.model} search", search.space.fixed), place
        )
    except InputError:
        return None
    if several and journal.run_id == launcher_run():
        journal.note(run_id=None)
    return journal


def wait_for(search: Search, place: Place, is_said: Callable[[], bool]) -> Journal | None:
    """The same, when another process has let go of it; None where that one has said what was found.

    Raises:
        InputError: it does not let go of it.
    """
    deadline = time.monotonic() + LETTING_GO_S
    while not is_said():
        if journal := hold(search, place, several=True):
            if not is_said():
                return journal
            if journal.said("open"):
                journal.close()
            else:
                journal.remove()
        elif time.monotonic() > deadline:
            raise InputError("This search's run is being recorded by another process: run the same command again.")
        else:
            time.sleep(0.2)
    return None


def run_id(search: Search, journal: Journal | None, place: Place) -> str:
    """Id of the search's run, empty while the server has none or is away."""
    if journal or place.client is None or place.experiment_id is None:
        return (journal.run_id if journal else None) or ""
    experiment = place.experiment_id
    found = continuation.answer(
        lambda: queries.find_studies(experiment, search.key, kind=schema.SEARCH, most=1, client=place.client)
    )
    return found[0].info.run_id if found else ""
