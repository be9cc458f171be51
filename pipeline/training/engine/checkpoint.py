"""What survives a kill -9: the last two states of a training, each in a file whose name tells its content's hash."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline.files import atomic_write

logger = logging.getLogger(__name__)

# To be counted up when what a checkpoint holds changes.
VERSION = 1
KEPT = 2


class Checkpoint:
    """The checkpoints of one training, in its folder: `checkpoint-EPOCHS-SHA256.pt`, a step within one as decimals."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self) -> list[Path]:
        """Those there are, the newest first."""
        return sorted(
            self.folder.glob("checkpoint-*.pt"), key=lambda path: float(path.stem.split("-")[1]), reverse=True
        )

    def save(self, *, training: Mapping[str, Any], config: Mapping[str, str], elapsed: float) -> None:
        """Write the file as a whole, and remove all but the last two.

        Args:
            training: `Training.state_dict()`.
            config: `TrainConfig.params()`, for whoever looks at the file alone.
            elapsed: seconds this training has taken so far, earlier processes included.
        """
        content = {"version": VERSION, "config": dict(config), "elapsed": elapsed, "training": dict(training)}
        epochs = str(len(training["history"]))
        if training.get("begun"):
            epochs += f".{training['begun']['step']:09}"
        with atomic_write(self.folder / "checkpoint.new") as temporary:
            # By its path: a signal that raised within a file of Python's would end torch's writer, and the process.
            torch.save(content, temporary)
            digest = sha256(temporary)
        (self.folder / "checkpoint.new").replace(self.folder / f"checkpoint-{epochs}-{digest}.pt")
        for old in self.files()[KEPT:]:
            old.unlink()

    def load(self) -> dict[str, Any] | None:
        """The newest that is whole, on the CPU, or None; what is damaged is set aside."""
        for path in self.files():
            try:
                if sha256(path) != path.stem.split("-")[2]:
                    raise ValueError("its content is not what was written")
                content = torch.load(path, map_location="cpu", weights_only=True)
                if content["version"] != VERSION:
                    raise ValueError(f"it is of version {content['version']}, not {VERSION}")
                if not {"training", "elapsed", "config"} <= set(content):
                    raise ValueError("a part of it is missing")
            except Exception as error:
                # Arbitrary bytes make the reader fail in arbitrary ways.
                place = path.rename(path.with_suffix(".damaged"))
                logger.warning("The checkpoint %s cannot be used, %s: set aside as %s.", path, error, place.name)
            else:
                return content
        return None

    def remove(self) -> None:
        """Forget what was saved: going on from it would fail again."""
        for path in self.files():
            path.unlink()


def sha256(path: Path) -> str:
    """Hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
