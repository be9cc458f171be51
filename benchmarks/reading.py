"""How well a registered model reads pictures: real ones, photographs made from training images, and no digits at all.

    python -m benchmarks.reading --model-uri models:/mnist-cnn@champion

Exit code 1 when it reads worse than promised.
"""

import csv
import string
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import matplotlib
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from tqdm import tqdm

from benchmarks import photographs, runs
from pipeline.cli.process import run
from pipeline.comparison.judging.stats import wilson
from pipeline.data import grey, sources
from pipeline.errors import InputError
from pipeline.files import default_root
from pipeline.inference.predict import Item, answers
from pipeline.inference.reading import are_characters, as_it_is, read_picture
from pipeline.registry import loading

# Groups of real pictures, what they are together, and the share of them that is read wholly right, as promised.
PROMISED = {
    "single digits": (("photo", "scan", "paint", "paint28", "canvas"), 0.99),
    "boxed cells": (("scanbox",), 0.95),
    "cells of 32 px": (("cell32",), 0.97),
    "several digits": (("multi",), 0.85),
}
MAX_CHARACTER_ERRORS = 0.04
# Of letters, faces and noise together.
MIN_UNSURE = 0.8
# Training images that show how many digits are marked unsure; a tenth as many faces.
SAMPLED = 1000
FONTS = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral")


@dataclass(frozen=True)
class Read:
    """What a model read on one picture, and what stands on it."""

    group: str
    label: str
    said: str
    unsure: bool

    @property
    def errors(self) -> int:
        """Characters that are wrong, missing or too many: the edit distance."""
        row = list(range(len(self.said) + 1))
        for number, right in enumerate(self.label, start=1):
            before, row[0] = row[0], number
            for at, said in enumerate(self.said, start=1):
                before, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, before + (right != said))
        return row[-1]


@click.command()
@click.option("--model-uri", required=True, help="Registered model: models:/NAME@ALIAS or models:/NAME/VERSION.")
@click.option("--pictures", default="../shared/real", show_default=True, help="Folder of real pictures and index.csv.")
@runs.dataset_option
@click.option("--each", type=click.IntRange(1), default=200, show_default=True, help="Made photographs of each kind.")
def main(model_uri: str, pictures: str, dataset: str, each: int) -> None:
    """Print how many pictures of each kind are read right, and how much else is marked unsure."""
    model = loading.load(model_uri)
    train = sources.load(dataset, default_root()).train
    names = np.array(train.classes)[train.targets]
    print(f"\n{model.label}: photographs of each kind, made from training images of {dataset}\n")
    made = [
        read(model, *one) for one in tqdm(list(made_pictures(train.images, names, each)), leave=False, disable=None)
    ]
    print(table(made))
    broken = []
    folder = Path(pictures)
    if (folder / "index.csv").is_file():
        real = [read(model, *one) for one in tqdm(list(real_pictures(folder)), leave=False, disable=None)]
        print(f"\nReal pictures of {folder}\n")
        print(table(real))
        broken += judge(real)
    if model.task == "classification":
        own = [read(model, "training images", *one) for one in zip(names[:SAMPLED], train.images, strict=False)]
        others = [read(model, *one) for one in no_digits()]
        print("\nMarked unsure, or refused\n")
        print(table_of_unsure([*own, *others]))
        if np.mean([one.unsure for one in others]) < MIN_UNSURE:
            broken.append("what is no digit")
    if broken:
        sys.exit(f"More is promised: {', '.join(broken)}.")


def read(model: loading.RegisteredModel, group: str, label: str, picture: np.ndarray) -> Read:
    """What a model reads on a picture, uint8 (H, W)."""
    try:
        if picture.shape == model.shape and not label:
            reading = as_it_is(picture)
        else:
            reading = read_picture(picture, model.shape, name=group, characters=are_characters(model.classes))
    except InputError:
        return Read(group, label, "", unsure=True)
    rows = answers(model, [Item(group, 0, reading)])
    return Read(group, label, "".join(rows["label"]), unsure=bool(rows["unsure"].any()))


def made_pictures(images: np.ndarray, names: np.ndarray, each: int) -> Iterator[tuple[str, str, np.ndarray]]:
    """Made photographs: kind, label, picture."""
    random = np.random.default_rng(0)
    for kind, make in photographs.SINGLE.items():
        for at in random.integers(len(images), size=each):
            yield kind, str(names[at]), grey.plainest(make(images[at], random))
    for kind, make_row in photographs.ROWS.items():
        for _ in range(each):
            chosen = random.integers(len(images), size=random.integers(2, 7))
            yield kind, "".join(names[chosen]), grey.plainest(make_row(images[chosen], random))


def real_pictures(folder: Path) -> Iterator[tuple[str, str, np.ndarray]]:
    """The pictures that a folder's index.csv lists: group, label, picture."""
    with (folder / "index.csv").open() as file:
        for row in csv.DictReader(file):
            yield row["group"], row["label"], grey.read(folder / row["file"], name=row["file"])


def no_digits() -> Iterator[tuple[str, str, np.ndarray]]:
    """Printed letters, drawn faces and noise: kind, no label, picture."""
    random = np.random.default_rng(0)
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for font in FONTS:
        for letter in string.ascii_letters:
            paper = Image.new("L", (300, 300), 240)
            large = ImageFont.truetype(str(fonts / f"{font}.ttf"), 170)
            ImageDraw.Draw(paper).text((150, 150), letter, fill=30, font=large, anchor="mm")
            yield "letters", "", np.array(paper)
    for _ in range(SAMPLED // 10):
        yield "faces", "", face(random)
        yield "noise", "", random.integers(0, 256, (28, 28)).astype(np.uint8)
        clouds = ndimage.gaussian_filter(random.normal(size=(28, 28)), random.uniform(0.7, 3))
        yield "clouds", "", np.rint(255 * (clouds - clouds.min()) / np.ptp(clouds)).astype(np.uint8)


def face(random: np.random.Generator) -> np.ndarray:
    """A face drawn with a pen."""
    paper = Image.new("L", (300, 300), 240)
    draw = ImageDraw.Draw(paper)
    wide, high = random.uniform(70, 120, 2)
    draw.ellipse((150 - wide, 150 - high, 150 + wide, 150 + high), outline=30, width=8)
    for side in (-1, 1):
        x, y, size = 150 + side * 0.4 * wide, 150 - 0.3 * high, random.uniform(5, 12)
        draw.ellipse((x - size, y - size, x + size, y + size), fill=30)
    draw.line((150, 150 - 0.1 * high, 150 - 8, 150 + 0.2 * high), fill=30, width=6)
    draw.arc((150 - 0.5 * wide, 150, 150 + 0.5 * wide, 150 + 0.6 * high), 20, 160, fill=30, width=8)
    return np.array(paper)


def judge(real: list[Read]) -> list[str]:
    """Print what is promised of groups of real pictures; the names of those that are read worse."""
    print()
    broken = []
    for name, (groups, promised) in PROMISED.items():
        chosen = [one for one in real if one.group in groups]
        share = np.mean([one.said == one.label for one in chosen])
        errors = sum(one.errors for one in chosen) / sum(len(one.label) for one in chosen)
        print(f"{name}: {share:.1%} of {len(chosen)} right, {promised:.0%} promised; {errors:.1%} of characters wrong")
        if share < promised or (groups == ("multi",) and errors >= MAX_CHARACTER_ERRORS):
            broken.append(name)
    return broken


def table(pictures: Iterable[Read]) -> str:
    """By group: pictures, those wholly right with their interval, and characters wrong."""
    rows = []
    for group, of in groupby(pictures):
        right = sum(one.said == one.label for one in of)
        low, high = wilson(right, len(of))
        rows.append(
            {
                "pictures of": group,
                "number": len(of),
                "wholly right": f"{right / len(of):.1%}",
                "95 % interval": f"{low:.1%} to {high:.1%}",
                "characters wrong": f"{sum(one.errors for one in of) / sum(len(one.label) for one in of):.1%}",
                "unsure": f"{np.mean([one.unsure for one in of]):.1%}",
            }
        )
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def table_of_unsure(pictures: Iterable[Read]) -> str:
    """By group: pictures, and the share that is marked."""
    rows = [
        {"pictures of": group, "number": len(of), "unsure": f"{np.mean([one.unsure for one in of]):.1%}"}
        for group, of in groupby(pictures)
    ]
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def groupby(pictures: Iterable[Read]) -> list[tuple[str, list[Read]]]:
    """Pictures by group, in the order in which the groups come."""
    groups: dict[str, list[Read]] = {}
    for one in pictures:
        groups.setdefault(one.group, []).append(one)
    return list(groups.items())


if __name__ == "__main__":
    run(main, "benchmarks.reading")
