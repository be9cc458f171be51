"""The processes of one training: begun here, one for each device, or by torchrun."""

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
import torch.distributed

from pipeline.config import TrainConfig
from pipeline.data.images import Dataset
from pipeline.data.splits import split
from pipeline.ending import STOPPING, QuickEnd, ignore
from pipeline.errors import InputError, PipelineError
from pipeline.training.engine.loop import fit
from pipeline.training.engine.ranks import ALONE, Ranks
from pipeline.training.engine.state import Training
from pipeline.training.workers.local import end_with_parent

# Longer than anything that one process does while the others wait for it.
PATIENCE = timedelta(minutes=10)
# Seconds until a process that does not end with the training is ended.
GOODBYE_S = 5.0


def check(config: TrainConfig, dataset: Dataset, devices: int) -> None:
    """Refuse what cannot be shared out.

    Raises:
        InputError: there are fewer devices, or a batch has too few images.
    """
    if config.device == "cuda" and (there := torch.cuda.device_count()) < devices:
        raise InputError(f"devices={devices}: there are {there} GPUs here.")
    images = len(split(dataset, val_size=config.val_size, limit=config.limit).train)
    smallest = images // -(-images // config.batch_size)
    if smallest < 2 * devices:
        raise InputError(
            f"devices={devices} would get fewer than two of the {smallest} images of a batch each: use fewer devices, "
            "or a larger batch_size."
        )


@contextmanager
def together(config: TrainConfig, dataset: Dataset, devices: int, *, sync_batch_norm: bool = False) -> Iterator[Ranks]:
    """The processes of a training: this one, the first, and others, begun by torchrun or ending with the block.

    Args:
        devices: how many, unless torchrun says it.
        sync_batch_norm: as in `Ranks`.

    Raises:
        InputError: it cannot be shared out.
    """
    if by_torchrun := begun_by_torchrun():
        devices = by_torchrun.count
    if devices == 1:
        yield ALONE
        return
    check(config, dataset, devices)
    ranks, threads = Ranks(0, devices, sync_batch_norm), torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        address = "env://" if by_torchrun else f"file://{folder}/ranks"
        spawn = multiprocessing.get_context("spawn").Process
        others = [
            spawn(target=follow, args=(address, replace(ranks, rank=rank), config, dataset), daemon=True)
            for rank in range(1, 1 if by_torchrun else devices)
        ]
        try:
            for other in others:
                other.start()
            join(ranks, config, address)
            yield ranks
        finally:
            leave()
            torch.set_num_threads(threads)
            for other in filter(BaseProcess.is_alive, others):
                other.join(GOODBYE_S)
                other.kill()


def begun_by_torchrun() -> Ranks | None:
    """The processes that torchrun has begun for one training, and which of them this is; None where it has not."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    return Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


def join(ranks: Ranks, config: TrainConfig, address: str) -> None:
    """Let this process be one of several that train together, with its share of the cores or a GPU of its own."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", ranks.count))
    if config.device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", ranks.rank)))
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // here))
    if here == ranks.count:
        # Nobody else shall be able to connect.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if Path("/sys/class/net/lo").exists() else "lo0")
    torch.distributed.init_process_group(
        "nccl" if config.device == "cuda" else "gloo",
        init_method=address,
        rank=ranks.rank,
        world_size=ranks.count,
        timeout=PATIENCE,
    )


def leave() -> None:
    """Let go of the others, which may be gone."""
    with suppress(RuntimeError):
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def follow(address: str, ranks: Ranks, config: TrainConfig, dataset: Dataset) -> None:
    """What a process does that the first one has begun."""
    with QuickEnd():
        threading.Thread(target=end_with_parent, daemon=True).start()
        train_along(ranks, config, dataset, address)


def train_along(ranks: Ranks, config: TrainConfig, dataset: Dataset, address: str = "env://") -> None:
    """Do a process's part of a training whose first process says what is found, and what goes wrong."""
    for number in STOPPING:
        # The first one decides; when it is gone, so is this.
        if number != signal.SIGTERM or address == "env://":
            signal.signal(number, ignore)
    with suppress(PipelineError):
        join(ranks, config, address)
        training = Training(config, split(dataset, val_size=config.val_size, limit=config.limit), ranks=ranks)
        if state := ranks.same_state({}):
            training.load_state_dict(state)
            for _ in fit(training):
                pass
