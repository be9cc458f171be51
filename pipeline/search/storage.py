"""The trials of a search in a database of Optuna's, which several processes share and none needs to survive."""

import hashlib
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from pipeline.errors import InputError, PipelineError, first_line
from pipeline.files import make_folder
from pipeline.search import Pruning

# So many whole trainings before one is compared with their median.
COMPLETE_FIRST = 4
# One in so many goes on at each rung of halving.
REDUCTION = 3
# Seconds that a process waits for another that writes to the same SQLite file.
WRITING_S = 60
# Of Optuna's tables; MLflow's database has others.
TABLES = {"studies", "trials", "version_info"}


class NumberedSampler(BaseSampler):
    """The tree-structured Parzen estimator, with random numbers that depend on a trial's number alone.

    So a search that was killed goes on with the values that it would have tried anyway. Bergstra et al., "Algorithms
    for Hyper-Parameter Optimization", NeurIPS 2011.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def _of(self, trial: FrozenTrial, field: str = "") -> TPESampler:
        digest = hashlib.sha256(f"{self.seed} {trial.number} {field}".encode()).digest()
        return TPESampler(seed=int.from_bytes(digest[:4]))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._of(trial, param_name).sample_independent(study, trial, param_name, param_distribution)


def create_pruner(kind: Pruning, epochs: int) -> BasePruner:
    """What ends a trial early, after a third of its epochs at least, that will not be the best.

    median: it is worse than half of the whole trainings were at the same epoch. halving: it is not among the best third
    of all that came to an epoch (Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020).
    hyperband: the same, begun at several epochs (Li et al., JMLR 18, 2018).
    """
    # Until then the learning rate rises, and who warms up sooner is ahead.
    least = max(1, epochs // REDUCTION)
    pruners: Mapping[Pruning, BasePruner] = {
        "median": MedianPruner(n_startup_trials=COMPLETE_FIRST, n_warmup_steps=least),
        "halving": SuccessiveHalvingPruner(least, REDUCTION),
        "hyperband": HyperbandPruner(least, epochs, REDUCTION),
        "none": NopPruner(),
    }
    return pruners[kind]


def default_storage(root: Path) -> str:
    """Address of the database of all searches that have no other."""
    return f"sqlite:///{root / 'searches.db'}"


def is_local(url: str) -> bool:
    """Whether only processes of this machine can use the database."""
    return url.startswith("sqlite")


def open_study(url: str, name: str, *, first: Mapping[str, Any], seed: int, pruner: BasePruner) -> Study:
    """The trials of the search of this name, as far as there are any; callers let one process at a time in here.

    Args:
        first: the values that are tried first.

    Raises:
        InputError: the database cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        if is_local(url) and (file := make_url(url).database):
            make_folder(Path(file).absolute().parent)
            with closing(sqlite3.connect(file, timeout=WRITING_S)) as connection:
                tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
                if tables and not tables >= TABLES:
                    raise InputError(f"The storage {masked(url)} is another program's database: name a new file.")
                # Readers and a writer do not wait for each other.
                connection.execute("PRAGMA journal_mode = WAL")
        waiting = {"connect_args": {"timeout": WRITING_S}} if is_local(url) else {"pool_pre_ping": True}
        storage = RDBStorage(url, engine_kwargs=waiting)
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            sampler=NumberedSampler(seed),
            pruner=pruner,
        )
        if not study.get_trials(deepcopy=False):
            study.enqueue_trial(dict(first))
    except (SQLAlchemyError, sqlite3.Error, ImportError, RuntimeError, optuna.exceptions.OptunaError) as error:
        raise InputError(f"The storage {masked(url)} cannot be used: {first_line(error)}.") from error
    return study


def broken(url: str, error: Exception) -> PipelineError:
    """What to say where the database fails in the middle of a search."""
    why = first_line(error.__cause__ or error)
    return PipelineError(f"The storage {masked(url)} failed: {why}. What was tried is kept: the same command goes on.")


def masked(url: str) -> str:
    """An address without a password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return f"'{url}'"
