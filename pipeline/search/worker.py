"""One process's part in a search: it takes trials from the database until what may be spent is spent."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import StorageInternalError
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial

from pipeline.config import TrainConfig, title
from pipeline.data.images import Dataset, Splits
from pipeline.data.splits import split
from pipeline.errors import InputError, has_no_room, why_failed
from pipeline.files import process_lock
from pipeline.metrics.epoch import Epoch
from pipeline.search import trial
from pipeline.search.progress import Progress
from pipeline.search.results import candidates, confirmation
from pipeline.search.search import COMPLETE, FAILED, PRUNED, RUNNING, Search
from pipeline.search.space import Values
from pipeline.search.storage import is_local
from pipeline.search.trial import SCORE, Outcome
from pipeline.tracking import schema
from pipeline.tracking.journal import Journal, Removed
from pipeline.tracking.sender import Sender
from pipeline.training.continuation import Place, is_gone
from pipeline.training.weights import InitialWeights

# Optuna's databases keep no longer texts.
LONGEST = 2000


@dataclass(frozen=True)
class Task:
    """A training to be done.

    Attributes:
        label: what the database calls it: `trial 7`, or by which name it keeps what values brought with a fresh seed.
        name: what people do.
        trial: that it decides; None where values already chosen are trained with a fresh seed.
        told: the last epoch that the database knows of.
    """

    label: str
    name: str
    values: Values
    config: TrainConfig
    journal: Journal
    trial: Trial | None = None
    told: int = 0


class Worker:
    """Takes trials one after another; several may work on one search.

    Args:
        alone: held while a trial is taken, so that no two on this machine take the same.
        study: the key of the journal of the search's run, if this process has it, and the search's own.
    """

    def __init__(
        self,
        search: Search,
        trials: Study,
        dataset: Dataset,
        *,
        place: Place,
        sender: Sender,
        start: InitialWeights,
        alone: FileLock,
        study: Mapping[str, str],
        progress: Progress,
    ) -> None:
        self.search, self.trials, self.dataset, self.start = search, trials, dataset, start
        self.splits = self.splits_for(search.space.base)
        self.place, self.sender, self.alone, self.study, self.progress = place, sender, alone, study, progress

    def splits_for(self, config: TrainConfig) -> Splits:
        """The images of a training."""
        return split(self.dataset, val_size=config.val_size, limit=config.limit, fold=config.fold)

    def try_all(self) -> None:
        """Train trials until the budget is spent."""
        self.tidy()
        while task := self.next():
            self.do(task, self.splits)

    def confirm(self) -> bool:
        """Train the best trial's values and the recipe's own with fresh seeds; whether that is done."""
        for name, values, seed, fold in self.unconfirmed():
            config = self.search.space.config(values, seed=seed, fold=fold)
            splits = self.splits_for(config) if fold else self.splits
            config = replace(config, val_size=len(splits.val))
            label, name = confirmation(values, seed, fold), title(name, {"fold": fold} if fold else {}, seed=seed)
            with self.alone:
                journal = self.claim(label, name, config) if label not in self.trials.user_attrs else None
            if journal:
                self.do(Task(label, name, values, config, journal), splits)
        return not self.unconfirmed()

    def unconfirmed(self) -> list[tuple[str, Values, int, str]]:
        """What is still to be trained with fresh seeds: a name, values, a seed and a fold each."""
        done = self.trials.user_attrs
        return [
            (name, values, seed, fold)
            for seed, fold in self.search.fresh
            for name, values in candidates(self.search, self.trials.get_trials(deepcopy=False)).items()
            if confirmation(values, seed, fold) not in done
        ]

    def others_train(self) -> bool:
        """Whether another process on this machine is in the middle of a trial."""
        trials = self.trials.get_trials(deepcopy=False, states=(RUNNING,))
        return any(self.is_held(f"trial {left.number}") for left in trials)

    # --- Training --------------------------------------------------------------------------------------------------

    def do(self, task: Task, splits: Splits) -> None:
        """Train; what goes wrong is said of the trial, and the next one is taken."""
        try:
            trial.train(
                task.config,
                splits,
                journal=task.journal,
                sender=self.sender,
                start=self.start,
                prune=partial(self.prune, task),
                tell=partial(self.tell, task),
            )
        except Exception as error:
            # Refused by the tracking server, as the next one would be.
            refused = not task.journal.folder.exists()
            if refused or has_no_room(error) or isinstance(error, StorageInternalError):
                raise
            self.fail(task, why_failed(error))

    def prune(self, task: Task, epoch: Epoch) -> bool:
        """Whether a trial is not worth another epoch."""
        self.progress.epoch(task.name, epoch)
        if task.trial is None:
            return False
        if epoch.index > task.told:
            task.trial.report(epoch.metrics[SCORE], epoch.index)
        return epoch.index < task.config.epochs and task.trial.should_prune()

    def tell(self, task: Task, outcome: Outcome) -> None:
        """Tell the database how a training ended."""
        best = outcome.best
        if task.trial is None:
            self.trials.set_user_attr(task.label, outcome.facts())
        else:
            for name, value in outcome.facts().items():
                task.trial.set_user_attr(name, value)
            state = PRUNED if outcome.pruned else COMPLETE
            self.trials.tell(task.trial.number, None if outcome.pruned else best.metrics[SCORE], state)
        ended = f"pruned in epoch {outcome.epochs} at" if outcome.pruned else f"in epoch {best.index}"
        self.progress.end(task.name, task.values, f"{ended} {best.metrics[SCORE]:.2%} val accuracy")

    def fail(self, task: Task, why: str) -> None:
        """A training that failed is one of the search's results."""
        why = why[:LONGEST]
        if task.trial is None:
            self.trials.set_user_attr(task.label, {"failure": why})
        else:
            task.trial.set_user_attr("failure", why)
            self.trials.tell(task.trial.number, state=FAILED)
        self.progress.end(task.name, task.values, f"failed: {why}", failed=True)

    # --- Taking ----------------------------------------------------------------------------------------------------

    def next(self) -> Task | None:
        """A trial that a killed process left, or a new one; None when the budget is spent."""
        with self.alone:
            for left in self.trials.get_trials(deepcopy=False, states=(RUNNING,)):
                if self.is_left(left):
                    return self.task(Trial(self.trials, left._trial_id), told=left.last_step or 0)
            if self.search.is_spent(self.trials.get_trials(deepcopy=False)):
                return None
            return self.task(self.trials.ask())

    def is_left(self, trial: FrozenTrial) -> bool:
        """Whether whoever trained a trial on this machine is no more."""
        label = f"trial {trial.number}"
        # Without a journal it is another machine's, or it was killed between taking the trial and noting so.
        if self.is_held(label) or not (is_local(self.search.storage) or self.journals(label=label)):
            return False
        # Its end is told before it is let go of.
        return self.trials.get_trials(deepcopy=False)[trial.number].state == RUNNING

    def task(self, taken: Trial, *, told: int = 0) -> Task:
        """What to do for a trial of the database."""
        values = {field: suggest(taken, field, kind) for field, kind in self.search.space.distributions.items()}
        label, config = f"trial {taken.number}", self.search.space.config(values)
        journal = self.claim(label, label, config)
        assert journal is not None, "whoever has one is asked before"
        return Task(label, label, values, config, journal, taken, told)

    def claim(self, label: str, name: str, config: TrainConfig) -> Journal | None:
        """The journal of a trial, a new one where there is none; None where another process has it."""
        for folder, about in self.journals(label=label):
            try:
                journal = Journal(folder, doing=f"{about['name']} is being trained")
            except Removed:
                continue
            except InputError:
                return None
            if about["config"] == config.params() and not is_gone(journal, self.place):
                return journal
            journal.remove()
        return trial.begin(config, self.place.root, label=label, name=name, study=self.study)

    def journals(self, **wanted: Any) -> list[tuple[Path, dict[str, Any]]]:
        """The journals here of this search's trials."""
        return self.place.journals(kind=schema.SEARCH_TRIAL, study_key=self.search.key, **wanted)

    def is_held(self, label: str) -> bool:
        """Whether another process trains this."""
        try:
            for folder, _ in self.journals(label=label):
                with process_lock(folder.with_name(f"{folder.name}.lock"), ""):
                    pass
        except InputError:
            return True
        return False

    def tidy(self) -> None:
        """Say in the journals of trials whose processes were killed after they told the database how these ended."""
        known = {f"trial {one.number}": one.user_attrs for one in self.trials.get_trials() if one.state.is_finished()}
        known |= self.trials.user_attrs
        for folder, about in self.journals():
            if about["label"] not in known:
                continue
            with suppress(InputError):
                journal = Journal(folder, doing=f"{about['name']} is being trained")
                self.sender.add(journal)
                if not journal.ended:
                    trial.end(journal, known[about["label"]])
                self.sender.leave(journal)


def suggest(trial: Trial, field: str, kind: BaseDistribution) -> Any:
    """The value of a field in a trial: the one that it has, or the sampler's."""
    if isinstance(kind, CategoricalDistribution):
        return trial.suggest_categorical(field, kind.choices)
    if isinstance(kind, IntDistribution):
        return trial.suggest_int(field, kind.low, kind.high, log=kind.log)
    assert isinstance(kind, FloatDistribution)
    return trial.suggest_float(field, kind.low, kind.high, log=kind.log)
