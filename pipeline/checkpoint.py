"""What survives a kill -9: one file a training, replaced after every epoch, and a lock while it is trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from pipeline.errors import InputError
from pipeline.files import replacing


class Checkpoint:
    """The checkpoint of one MLflow run, in a folder of all of them.

    Raises:
        InputError: on entering, another process is training this run.
    """

    def __init__(self, root: Path, run_id: str) -> None:
        self.run_id = run_id
        self.path = root / "checkpoints" / f"{run_id}.pt"
        self.lock = FileLock(self.path.with_suffix(".lock"))

    def __enter__(self) -> "Checkpoint":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.lock.acquire(timeout=0)
        except Timeout as error:
            raise InputError(f"Run {self.run_id} is being trained by another process: wait for it to end.") from error
        return self

    def __exit__(self, *exception: object) -> None:
        self.lock.release()
        self.lock_path.unlink(missing_ok=True)

    @property
    def lock_path(self) -> Path:
        return Path(self.lock.lock_file)

    def save(self, *, training: Mapping[str, Any], config: Mapping[str, str], elapsed: float) -> None:
        """Replace the file as a whole.

        Args:
            training: `Training.state_dict()`.
            config: `TrainConfig.params()`, for whoever looks at the file alone.
            elapsed: seconds this run has taken so far, earlier processes included.
        """
        content = {"run_id": self.run_id, "config": dict(config), "elapsed": elapsed, "training": dict(training)}
        with replacing(self.path) as temporary:
            torch.save(content, temporary)

    def load(self) -> dict[str, Any] | None:
        """What was saved last, on the CPU, or None."""
        if not self.path.exists():
            return None
        return torch.load(self.path, map_location="cpu", weights_only=True)

    def remove(self) -> None:
        """Forget what was saved: the run is finished."""
        self.path.unlink(missing_ok=True)
