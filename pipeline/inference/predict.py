"""What a registered model says of images in files, written as it comes."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet
from tqdm import tqdm

from pipeline.errors import InputError
from pipeline.files import ANSWERS, atomic_write, check_ending
from pipeline.inference import digitize, image_files
from pipeline.inference.digitize import Framed
from pipeline.metrics.catalog import SCORE_THRESHOLD
from pipeline.registry.loading import BATCH, RegisteredModel

# Of so many classes the probability is given.
BEST = 3


@dataclass(frozen=True)
class Item:
    """An image on its way through a model: the file it is from, its position there, and how it was made."""

    file: str
    position: int
    framed: Framed


def predict(model: RegisteredModel, path: Path, output: Path, *, raw: bool) -> tuple[int, int]:
    """Answer for every image in a file or a folder, and write the answers.

    A file among several that cannot be read is reported and skipped, as is an image among several that shows nothing.

    Args:
        output: ends in .csv, .jsonl or .parquet; appears when all is done.
        raw: take pictures as they are.

    Returns:
        how many images were answered, how many files or images among several were skipped.

    Raises:
        InputError: the only file cannot be read.
    """
    check_ending(output, ANSWERS)
    files = image_files.find(path)
    if output.resolve() in [file.resolve() for file in files]:
        raise InputError(f"{output} is the input: write the answers to another file.")
    bar = tqdm(
        total=len(files) if path.is_dir() else image_files.count(path),
        unit="image",
        unit_scale=True,
        leave=False,
        disable=not sys.stderr.isatty(),
    )
    skipped = 0

    def skip(error: InputError) -> None:
        nonlocal skipped
        skipped += 1
        tqdm.write(f"Skipped: {error}", file=sys.stderr)

    def items() -> Iterator[Item]:
        for file in files:
            try:
                for block in image_files.blocks(file, model.shape):
                    yield from frames(block, model.shape, raw=raw, skip=skip)
            except InputError as error:
                if len(files) == 1:
                    raise
                skip(error)

    answered = 0
    with bar, _written(output, schema(model)) as write:
        for batch in batches(items()):
            write(answers(model, batch))
            answered += len(batch)
            bar.update(len(batch))
    return answered, skipped


def frames(
    block: image_files.Block, shape: tuple[int | None, int | None], *, raw: bool, skip: Callable[[InputError], None]
) -> Iterator[Item]:
    """The images of a block, each as the model takes it.

    Args:
        skip: told of an image among several that shows nothing.

    Raises:
        InputError: the only image shows nothing, or the size is not the model's and it must not be changed.
    """
    height, width = block.images.shape[1:]
    fits = shape in ((None, None), (height, width))
    if raw and not fits:
        raise InputError(
            f"{block.file} has images of {width} x {height} px, the model takes {shape[1]} x {shape[0]}: "
            "leave --raw out, and they are fitted."
        )
    for position, image in enumerate(block.images, start=block.first):
        if raw or (digitize.is_framed(image, shape) if block.is_picture else fits):
            yield Item(str(block.file), position, Framed(image, 1.0, 0.0, 0.0))
            continue
        name = str(block.file) if block.is_picture else f"{block.file}, image {position},"
        try:
            yield Item(
                str(block.file), position, digitize.normalize_digit(digitize.segment_ink(image, name=name), shape)
            )
        except InputError as error:
            if block.is_picture:
                raise
            skip(error)


def batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Up to BATCH items of one size at a time."""
    batch: list[Item] = []
    for item in items:
        if len(batch) == BATCH or (batch and batch[0].framed.image.shape != item.framed.image.shape):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def answers(model: RegisteredModel, batch: Sequence[Item]) -> pd.DataFrame:
    """A row an image with the most probable classes, or for a detector a row a box, in pixels of the file's image."""
    found = model.answer(np.stack([item.framed.image for item in batch]))
    origin = pd.DataFrame({"file": [item.file for item in batch], "image": [item.position for item in batch]})
    classes = np.array(model.classes, object)
    if model.task == "detection":
        image, row = np.nonzero((found[:, :, 5] >= 0) & (found[:, :, 4] >= SCORE_THRESHOLD))
        rows = found[image, row].astype(float)
        boxes = [batch[at].framed.to_picture(box[None])[0] for at, box in zip(image.tolist(), rows[:, :4], strict=True)]
        sides = pd.DataFrame(np.reshape(boxes, (-1, 4)), columns=["x1", "y1", "x2", "y2"]).round(2)
        table = origin.iloc[image].reset_index(drop=True).join(sides)
        return table.assign(label=classes[rows[:, 5].astype(int)], probability=rows[:, 4])
    shares = np.exp(model.log_probabilities(found)).astype(float)
    best = np.argsort(-shares, axis=1, kind="stable")[:, :BEST]
    for rank, of in enumerate(best.T, start=1):
        origin[f"label{ending(rank)}"] = classes[of]
        origin[f"probability{ending(rank)}"] = np.take_along_axis(shares, of[:, None], 1)[:, 0]
    return origin


def schema(model: RegisteredModel) -> pa.Schema:
    """The columns of the answers and their types."""
    origin = [("file", pa.string()), ("image", pa.int64())]
    if model.task == "detection":
        sides = [(side, pa.float64()) for side in ("x1", "y1", "x2", "y2")]
        return pa.schema([*origin, *sides, ("label", pa.string()), ("probability", pa.float64())])
    best = [
        (f"{name}{ending(rank)}", kind)
        for rank in range(1, min(BEST, len(model.classes)) + 1)
        for name, kind in (("label", pa.string()), ("probability", pa.float64()))
    ]
    return pa.schema([*origin, *best])


def ending(rank: int) -> str:
    """What the columns of the best class but one, but two, ... end in."""
    return "" if rank == 1 else f"_{rank}"


@contextmanager
def _written(path: Path, columns: pa.Schema) -> Iterator[Callable[[pd.DataFrame], object]]:
    """Yield what appends a table to a file that appears whole or not at all."""
    with atomic_write(path) as temporary:
        if path.suffix == ".parquet":
            with parquet.ParquetWriter(temporary, columns) as writer:
                yield lambda table: writer.write_table(pa.Table.from_pandas(table, columns, preserve_index=False))
            return
        with temporary.open("w", newline="") as file:
            if path.suffix == ".csv":
                file.write(",".join(columns.names) + "\n")
                yield lambda table: table.to_csv(file, index=False, header=False, float_format="%.6g")
            else:
                yield lambda table: file.writelines(
                    json.dumps(row, ensure_ascii=False) + "\n" for row in table.round(6).to_dict("records")
                )
