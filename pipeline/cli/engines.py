"""Who does the trainings of a study or a search: the options, and the engine that they ask for."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import Auto, Finite, options

if TYPE_CHECKING:
    from pipeline.training.workers.work import Engine


def engine_options(auto: str) -> Callable:
    """The options.

    Args:
        auto: how many trainings there are at a time on this machine where nothing is said.
    """
    return options(
        click.option(
            "--engine",
            type=click.Choice(["local", "ray"]),
            default="local",
            show_default=True,
            help="Who does the trainings: processes of this machine, or a Ray cluster.",
        ),
        click.option(
            "--workers",
            type=Auto(click.IntRange(1, 10_000)),
            default="auto",
            show_default=True,
            help=f"Trainings at a time, each in a process with its share of the cores; auto: {auto}, or as many as a "
            "cluster has room for.",
        ),
        click.option(
            "--address",
            default="auto",
            show_default=True,
            help="A Ray cluster's: ray://HOST:10001, HOST:6379, or auto for the one that this machine belongs to.",
        ),
        click.option(
            "--cpus", type=click.IntRange(1), default=1, show_default=True, help="Cores of each training on Ray."
        ),
        click.option(
            "--gpus",
            type=Auto(Finite(0)),
            default="auto",
            show_default=True,
            help="GPUs of each training on Ray: 0.5 lets two share one; auto: one where it trains on GPUs.",
        ),
    )


def chosen_engine(
    engine: str,
    workers: int | None,
    address: str,
    cpus: int,
    gpus: float | None,
    *,
    auto: int,
    device: str,
    storage: str = "",
) -> "Engine":
    """The engine that these options ask for.

    Args:
        auto: trainings at a time on this machine where nothing is said.
        device: that they train on.
        storage: address of a database that all use.
    """
    from pipeline.training.workers.cluster import Cluster
    from pipeline.training.workers.local import on_this_machine

    if engine == "local":
        return on_this_machine(workers or auto)
    gpus = float(device == "cuda") if gpus is None else gpus
    return Cluster(address, cpus, gpus, most=workers, databases=(storage,) if storage else ()).do
