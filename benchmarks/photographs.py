"""Photographs that were never taken: digits of a data set as ink on paper, in every kind of light and place.

Variants of reading pictures are judged on these, never on the label of a real picture.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image
from scipy import ndimage

HEIGHT, WIDTH = 480, 640
PAPER, INK = (0.93, 0.91, 0.87), (0.15, 0.16, 0.3)
BLACK, PENCIL = (0.1, 0.1, 0.1), (0.65, 0.65, 0.65)
RED, BLUE, ORANGE = (0.8, 0.1, 0.1), (0.1, 0.1, 0.8), (0.95, 0.55, 0.1)
PENS = ((BLACK, RED), (BLACK, BLUE), (BLUE, ORANGE), (RED, ORANGE), (BLACK, PENCIL))


def single(image: np.ndarray, random: np.random.Generator, *, share: float = 0.4) -> np.ndarray:
    """One digit, this share of the picture high, somewhere on it: ink float (H, W) from 0 to 1."""
    digit = enlarged(image, round(share * HEIGHT))
    ink = np.zeros((HEIGHT, WIDTH))
    _place(
        ink,
        digit,
        *(random.integers(20, side - inner - 20) for side, inner in zip(ink.shape, digit.shape, strict=True)),
    )
    return ink


def row(
    images: Sequence[np.ndarray], random: np.random.Generator, *, gap: tuple[float, float] = (0.2, 0.8), size: int = 60
) -> np.ndarray:
    """Digits beside each other, so many of their heights apart; negative: they touch."""
    digits = [enlarged(image, round(size * random.uniform(0.9, 1.1))) for image in images]
    width = sum(digit.shape[1] for digit in digits) + round(len(digits) * size * max(gap)) + 60
    ink = np.zeros((HEIGHT, max(WIDTH, width)))
    x, y = 30, int(random.integers(40, HEIGHT - 2 * size))
    for digit in digits:
        _place(ink, digit, y + int(random.integers(-size // 12, size // 12 + 1)), x)
        x += digit.shape[1] + round(size * random.uniform(*gap))
    return ink


def enlarged(image: np.ndarray, height: int) -> np.ndarray:
    """The ink of a digit in a height, sharply as a pen writes it."""
    rows, columns = (np.flatnonzero((image > 60).any(axis)) for axis in (1, 0))
    image = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    size = max(1, round(height * image.shape[1] / image.shape[0])), height
    large = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC), float) / 255
    return ndimage.gaussian_filter(((large - 0.35) * 4).clip(0, 1), 0.6)


def photographed(
    ink: np.ndarray,
    random: np.random.Generator,
    *,
    paper: Sequence[float] = PAPER,
    pen: Sequence[float] | np.ndarray = INK,
    light: np.ndarray | None = None,
    grain: float = 0.015,
) -> np.ndarray:
    """Ink on paper in some light, uint8 (H, W, 3)."""
    colours = np.asarray(paper) * (1 - ink[..., None]) + np.asarray(pen) * ink[..., None]
    light = np.linspace(1, random.uniform(0.7, 1), ink.shape[1])[None] if light is None else light
    colours = colours * light[..., None] + random.normal(0, grain, (*ink.shape, 1))
    return np.rint(255 * colours.clip(0, 1)).astype(np.uint8)


def in_half_shadow(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A hard shadow falls over half of the sheet, at a slant."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    lit = x + random.uniform(-0.5, 0.5) * (y - HEIGHT / 2) < WIDTH * random.uniform(0.4, 0.6)
    light = ndimage.gaussian_filter(np.where(lit, 1.0, random.uniform(0.45, 0.6)), 1)
    return photographed(single(image, random), random, light=light)


def on_a_table(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The sheet takes 30 to 65 % of the picture, the table around it is darker."""
    picture = Image.fromarray(photographed(single(image, random), random)).convert("RGBA")
    side = float(np.sqrt(random.uniform(0.3, 0.65)))
    picture = picture.resize((round(WIDTH * side), round(HEIGHT * side))).rotate(
        random.uniform(-6, 6), Image.Resampling.BICUBIC, expand=True
    )
    wood = random.uniform(0.2, 0.5) * np.array([1, 0.8, 0.6]) + random.normal(0, 0.02, (HEIGHT, WIDTH, 1))
    table = Image.fromarray(np.rint(255 * wood.clip(0, 1)).astype(np.uint8)).convert("RGBA")
    free = max(0, WIDTH - picture.width), max(0, HEIGHT - picture.height)
    table.paste(picture, tuple(int(random.integers(0, side + 1)) for side in free), picture)
    return np.asarray(table.convert("RGB"))


def in_a_box(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A printed box stands around the digit, often thicker and darker than its strokes."""
    ink = single(image, random, share=random.uniform(0.25, 0.6))
    rows, columns = (np.flatnonzero((ink > 0.3).any(axis)) for axis in (1, 0))
    box = np.zeros_like(ink)
    near, thick = int(random.integers(6, 40)), int(random.integers(2, 9))
    top, bottom = max(1, rows[0] - near), min(HEIGHT - 2, rows[-1] + near)
    left, right = max(1, columns[0] - near), min(WIDTH - 2, columns[-1] + near)
    box[top : bottom + 1, left : right + 1] = random.uniform(0.5, 0.9)
    box[top + thick : bottom + 1 - thick, left + thick : right + 1 - thick] = 0
    return photographed(np.maximum(ink, box), random)


def on_lines(image: np.ndarray, random: np.random.Generator, *, squared: bool) -> np.ndarray:
    """Paper with pale blue rules, or squares."""
    ink = single(image, random)
    rules = np.zeros_like(ink)
    step = int(random.integers(24, 60))
    rules[step::step] = rules[1 + step :: step] = 0.3
    if squared:
        rules[:, step::step] = rules[:, 1 + step :: step] = 0.3
    return photographed(np.maximum(ink, rules), random)


def in_two_pens(
    images: Sequence[np.ndarray], random: np.random.Generator, pens: Sequence[Sequence[Sequence[float]]] = PENS
) -> np.ndarray:
    """The first digits of a row are written in one pen, the others in another."""
    ink = row(images, random)
    columns = (ink > 0.1).any(0)
    gaps, middle = np.flatnonzero(~columns), np.flatnonzero(columns).mean()
    beyond = np.arange(ink.shape[1]) > gaps[np.abs(gaps - middle).argmin()]
    first, second = random.permutation(pens[random.integers(len(pens))])
    return photographed(ink, random, pen=np.where(beyond[None, :, None], second, first))


def under_an_oblique_shadow(images: Sequence[np.ndarray], random: np.random.Generator) -> np.ndarray:
    """The edge of a shadow, sharp or soft, crosses a digit of a row at a slant."""
    ink = row(images, random)
    y, x = np.mgrid[: ink.shape[0], : ink.shape[1]]
    down, along = random.permutation(np.argwhere(ink > 0.5))[0]
    slant = np.radians(random.uniform(20, 70)) * random.choice([-1, 1])
    beyond = (x - along) * np.cos(slant) + (y - down) * np.sin(slant) > 0
    dark = ndimage.gaussian_filter(beyond.astype(float), random.uniform(0.5, 20))
    return photographed(ink, random, light=1 - dark * random.uniform(0.15, 0.6))


SINGLE: Mapping[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "uneven light": lambda image, random: photographed(single(image, random), random),
    "light on dark": lambda image, random: 255 - photographed(single(image, random), random, grain=0.01),
    "half in shadow": in_half_shadow,
    "sheet on a table": on_a_table,
    "a thirtieth high": lambda image, random: photographed(single(image, random, share=1 / 30), random, grain=0.004),
    "pale pencil": lambda image, random: photographed(single(image, random), random, pen=(0.72, 0.72, 0.72)),
    "yellow marker": lambda image, random: photographed(single(image, random), random, pen=(0.95, 0.9, 0.2)),
    "in a box": in_a_box,
    "ruled paper": lambda image, random: on_lines(image, random, squared=False),
    "squared paper": lambda image, random: on_lines(image, random, squared=True),
}
ROWS: Mapping[str, Callable[[Sequence[np.ndarray], np.random.Generator], np.ndarray]] = {
    "digits in a row": lambda images, random: photographed(row(images, random), random),
    "small digits in a row": lambda images, random: photographed(row(images, random, size=24), random, grain=0.008),
    "close to each other": lambda images, random: photographed(row(images, random, gap=(0.03, 0.1)), random),
    "touching": lambda images, random: photographed(row(images, random, gap=(-0.06, 0.0)), random),
    "two pens": in_two_pens,
    "under an oblique shadow": under_an_oblique_shadow,
}


def _place(ink: np.ndarray, digit: np.ndarray, top: int, left: int) -> None:
    part = ink[top : top + digit.shape[0], left : left + digit.shape[1]]
    np.maximum(part, digit[: part.shape[0], : part.shape[1]], out=part)
