"""What a registered model says of images in files, written as it comes."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet
from tqdm import tqdm

from pipeline.data.forms.fitting import are_light
from pipeline.errors import InputError
from pipeline.files import ANSWERS, check_ending, output_file
from pipeline.inference import image_files
from pipeline.inference.reading import Reading, are_characters, as_it_is, read_picture, text
from pipeline.inference.segments import reading_order
from pipeline.metrics.catalog import SCORE_THRESHOLD
from pipeline.names import printable
from pipeline.registry.loading import BATCH, RegisteredModel

# Of so many classes the probability is given.
BEST = 3
Form = Literal["rows", "kaggle"]
SUBMISSION = pa.schema([("ImageId", pa.int64()), ("Label", pa.string())])
SIDES = ["x1", "y1", "x2", "y2"]


@dataclass(frozen=True)
class Item:
    """A picture or an image on its way through a model: the file it is from, its position there, what is asked."""

    file: str
    position: int
    reading: Reading


def predict(
    model: RegisteredModel, found: image_files.Found, output: Path, *, raw: bool, form: Form = "rows"
) -> tuple[int, int]:
    """Answer for every image in files, and write the answers.

    A file among several that cannot be read is reported and skipped, as is an image among several that shows nothing.

    Args:
        output: ends in .csv, .jsonl or .parquet; appears when all is done.
        raw: take pictures as they are.
        form: a row a digit, or the two columns of a submission to Kaggle, ImageId from 1 on and Label.

    Returns:
        how many images were answered, how many files or images among several were skipped.

    Raises:
        InputError: the only file cannot be read.
    """
    check_ending(output, ANSWERS)
    files = found.files
    if output.resolve() in [file.resolve() for file in files]:
        raise InputError(f"{output} is the input: write the answers to another file.")
    bar = tqdm(
        total=len(files) if found.in_folder else image_files.count(files[0], model.shape),
        unit="image",
        unit_scale=True,
        leave=False,
        disable=not sys.stderr.isatty(),
    )
    if found.others:
        tqdm.write(f"Passed over: {found.others_in_words()}.", file=sys.stderr)
    skipped = 0

    def skip(error: InputError) -> None:
        nonlocal skipped
        skipped += 1
        tqdm.write(f"Skipped: {error}", file=sys.stderr)

    def items() -> Iterator[Item]:
        for file in files:
            try:
                for block in image_files.blocks(file, model.shape):
                    yield from readings(block, model, raw=raw, skip=skip)
            except InputError as error:
                if len(files) == 1:
                    raise
                skip(error)

    answered = 0
    columns = schema(model) if form == "rows" else SUBMISSION
    with bar, _written(output, columns) as write:
        for batch in batches(items()):
            table = answers(model, batch)
            for (file, image), marks in table[table["left_out"] > 0].groupby(["file", "image"], sort=False)["left_out"]:
                where = f"{file}, image {image}" if image else file
                tqdm.write(f"{where}: {in_words(marks.iloc[0])} taken for no digit and left out.", file=sys.stderr)
            if form == "kaggle":
                numbered = enumerate(files, start=1) if found.in_folder else ()
                table = submission(table, batch, {(printable(file), 0): number for number, file in numbered})
            write(table[columns.names])
            answered += len(batch)
            bar.update(len(batch))
    return answered, skipped


def readings(
    block: image_files.Block, model: RegisteredModel, *, raw: bool, skip: Callable[[InputError], None]
) -> Iterator[Item]:
    """What the model is to be asked about the images of a block.

    Args:
        skip: told of an image among several that shows nothing.

    Raises:
        InputError: the only image shows nothing, or the size is not the model's and it must not be changed.
    """
    height, width = block.images.shape[1:]
    fits = model.shape in ((None, None), (height, width))
    if raw and not fits:
        raise InputError(
            f"{block.file} has images of {width} x {height} px, the model takes {model.shape[1]} x {model.shape[0]}: "
            "leave --raw out, and they are fitted."
        )
    if fits and not (raw or block.is_picture or block.first) and are_light(block.images):
        tqdm.write(
            f"{block.file} has images that are dark on light, and they are answered as they are: if the model learned "
            "from light on dark, give 255 minus them.",
            file=sys.stderr,
        )
    for position, image in enumerate(block.images, start=block.first):
        if raw or (fits and not block.is_picture):
            yield Item(printable(block.file), position, as_it_is(image))
            continue
        name = str(block.file) if block.is_picture else f"{block.file}, image {position},"
        try:
            reading = read_picture(image, model.shape, name=name, characters=are_characters(model.classes))
            yield Item(printable(block.file), position, reading)
        except InputError as error:
            if block.is_picture:
                raise
            skip(error)


def batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Up to BATCH images of one size at a time, but at least one item."""
    batch: list[Item] = []
    images = 0
    for item in items:
        framed = item.reading.framed
        if batch and (images + len(framed) > BATCH or batch[0].reading.framed[0].image.shape != framed[0].image.shape):
            yield batch
            batch, images = [], 0
        batch.append(item)
        images += len(framed)
    if batch:
        yield batch


def answers(model: RegisteredModel, batch: Sequence[Item]) -> pd.DataFrame:
    """A row a digit in reading order, in pixels of the file's picture; of a classifier with the most probable classes.

    Where there is one digit on each picture it is a row a picture. Where marks were passed over, of which `left_out` is
    the number, nothing is sure.
    """
    found = model.answer(np.concatenate([[one.image for one in item.reading.framed] for item in batch]))
    table = (_boxes if model.task == "detection" else _classes)(model, batch, found)
    table["unsure"] = (table["probability"] < model.calibration.sure_from) | (table["left_out"] > 0)
    return table


def in_words(marks: int) -> str:
    """How many marks are something."""
    return "1 mark is" if marks == 1 else f"{marks:,} marks are"


def _classes(model: RegisteredModel, batch: Sequence[Item], found: np.ndarray) -> pd.DataFrame:
    log_probabilities = model.log_probabilities(found)
    rows, first = [], 0
    for item in batch:
        last = first + len(item.reading.framed)
        lines, passed_over = item.reading.choose(log_probabilities[first:last].max(1))
        labels = [[model.classes[log_probabilities[first + at].argmax()] for at in line] for line in lines]
        about = text(labels), len(passed_over)
        boxes = item.reading.boxes
        rows += [(item.file, item.position, first + at, *boxes[at], *about) for line in lines for at in line]
        first = last
    names = ["file", "image", "asked", *SIDES, "text", "left_out"]
    table = pd.DataFrame(rows, columns=names).round(dict.fromkeys(SIDES, 2))
    shares = np.exp(log_probabilities[table.pop("asked").astype(int)]).astype(float)
    classes = np.array(model.classes, object)
    best = np.argsort(-shares, axis=1, kind="stable")[:, :BEST]
    for rank, of in enumerate(best.T, start=1):
        table[f"label{ending(rank)}"] = classes[of]
        table[f"probability{ending(rank)}"] = np.take_along_axis(shares, of[:, None], 1)[:, 0]
    return table


def _boxes(model: RegisteredModel, batch: Sequence[Item], found: np.ndarray) -> pd.DataFrame:
    image, row = np.nonzero((found[:, :, 5] >= 0) & (found[:, :, 4] >= SCORE_THRESHOLD))
    boxes = found[image, row].astype(float)
    framed = [item.reading.framed[0] for item in batch]
    sides = [framed[at].to_picture(box[None])[0] for at, box in zip(image.tolist(), boxes[:, :4], strict=True)]
    table = pd.DataFrame(np.reshape(sides, (-1, 4)), columns=SIDES).round(2)
    table["label"] = np.array(model.classes, object)[boxes[:, 5].astype(int)]
    table["probability"] = boxes[:, 4]
    parts = []
    for at, item in enumerate(batch):
        part = table[image == at]
        lines = reading_order(part[SIDES].to_numpy())
        said = text([part["label"].iloc[line].tolist() for line in lines])
        in_order = part.iloc[[position for line in lines for position in line]]
        left_out = len(item.reading.small)
        parts.append(in_order.assign(file=item.file, image=item.position, text=said, left_out=left_out))
    return pd.concat(parts)


def submission(table: pd.DataFrame, batch: Sequence[Item], places: Mapping[tuple[str, int], int]) -> pd.DataFrame:
    """What Kaggle takes: a row an image, also where nothing was found.

    Args:
        places: the number of each picture in a folder by its file; an image in a file has its own.
    """
    said = dict(zip(zip(table["file"], table["image"], strict=True), table["text"], strict=True))
    keys = [(item.file, item.position) for item in batch]
    numbers = [places.get(key, key[1] + 1) for key in keys]
    return pd.DataFrame({"ImageId": numbers, "Label": [said.get(key, "") for key in keys]})


def schema(model: RegisteredModel) -> pa.Schema:
    """The columns of the answers and their types."""
    of = [("label", pa.string()), ("probability", pa.float64())]
    ranks = 1 if model.task == "detection" else min(BEST, len(model.classes))
    best = [(f"{name}{ending(rank)}", kind) for rank in range(1, ranks + 1) for name, kind in of]
    sides = [(side, pa.float64()) for side in SIDES]
    origin = [("file", pa.string()), ("image", pa.int64())]
    placed = [*origin, *sides, *best] if model.task == "detection" else [*origin, *best]
    last = [("unsure", pa.bool_()), *([] if model.task == "detection" else sides), ("text", pa.string())]
    return pa.schema([*placed, *last])


def ending(rank: int) -> str:
    """What the columns of the best class but one, but two, ... end in."""
    return "" if rank == 1 else f"_{rank}"


@contextmanager
def _written(path: Path, columns: pa.Schema) -> Iterator[Callable[[pd.DataFrame], object]]:
    """Yield what appends a table to a file that appears whole or not at all."""
    with output_file(path) as temporary:
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
