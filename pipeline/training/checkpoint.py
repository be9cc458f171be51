"""What survives a kill -9: one file a training, replaced after every epoch, and a lock while it is trained."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from pipeline.files import atomic_write, process_lock


class Checkpoint:
    """The checkpoint of one MLflow run, in a folder of all of them."""

    def __init__(self, root: Path, run_id: str) -> None:
        self.run_id = run_id
        self.path = root / "checkpoints" / f"{run_id}.pt"

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes from training this run.

        Raises:
            InputError: on entering, another process is training it.
        """
        return process_lock(self.path.with_suffix(".lock"), f"Run {self.run_id} is being trained")

    def exists(self) -> bool:
        """Whether there is something to go on from."""
        return self.path.exists()

    def save(self, *, training: Mapping[str, Any], config: Mapping[str, str], elapsed: float) -> None:
        """Replace the file as a whole.

        Args:
            training: `Training.state_dict()`.
            config: `TrainConfig.params()`, for whoever looks at the file alone.
            elapsed: seconds this run has taken so far, earlier processes included.
        """
        content = {"run_id": self.run_id, "config": dict(config), "elapsed": elapsed, "training": dict(training)}
        with atomic_write(self.path) as temporary:
            torch.save(content, temporary)

    def load(self) -> dict[str, Any] | None:
        """What was saved last, on the CPU, or None."""
        if not self.exists():
            return None
        return torch.load(self.path, map_location="cpu", weights_only=True)

    def remove(self) -> None:
        """Forget what was saved: the run is finished."""
        self.path.unlink(missing_ok=True)
