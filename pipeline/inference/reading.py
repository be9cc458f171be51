"""From a picture to the images that a model is asked about, and from its answers to what stands on the picture."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pipeline.inference.digitize import Framed, is_framed, normalize_digit, segment_ink
from pipeline.inference.segments import Candidate, choose, find_lines_of_writing
from pipeline.inference.signs import are_signs


@dataclass(frozen=True)
class Reading:
    """A picture on its way through a model.

    Attributes:
        framed: the images to ask about: the picture as a whole, or every candidate for a digit on it.
        boxes: where they are, float (N, 4): x1, y1, x2, y2 in pixels of the picture.
        lines: the candidates, line by line in the order of the images; none where there is nothing to choose.
        small: boxes, float (N, 4), of marks that may be written and are not asked about, as a decimal point.
    """

    framed: tuple[Framed, ...]
    boxes: np.ndarray
    lines: tuple[tuple[Candidate, ...], ...] = ()
    small: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))

    def choose(self, log_probabilities: np.ndarray) -> tuple[list[list[int]], np.ndarray]:
        """The positions of the images that show the digits, line by line in reading order.

        Args:
            log_probabilities: of the best class of each image.

        Returns:
            these, and the boxes, float (N, 4), of the marks that are passed over: small ones and signs.
        """
        if not self.lines:
            return [[0]], self.small
        chosen, passed, first = [], [*self.small], 0
        for line in self.lines:
            marks = choose(line, log_probabilities[first : first + len(line)])
            signs = are_signs([line[at].ink for at in marks])
            chosen.append([first + at for at, sign in zip(marks, signs, strict=True) if not sign])
            passed += [self.boxes[first + at] for at, sign in zip(marks, signs, strict=True) if sign]
            first += len(line)
        return chosen, np.reshape(passed, (-1, 4))


def are_characters(classes: Sequence[str]) -> bool:
    """Whether there may be several on a picture, one beside the other: digits or letters."""
    return all(len(name) == 1 and name.isalnum() for name in classes)


def as_it_is(image: np.ndarray) -> Reading:
    """An image of the model's own format."""
    return Reading((Framed(image, 1.0, 0.0, 0.0),), np.array([[0.0, 0.0, *image.shape[::-1]]]))


def read_picture(picture: np.ndarray, shape: tuple[int | None, int | None], *, name: str, characters: bool) -> Reading:
    """What a model of images of a shape is to be asked about a picture, uint8 (H, W).

    Args:
        characters: whether the classes are characters, of which there may be several; what is found on pictures of
            other things belongs together.

    Raises:
        InputError: there is no ink on it, or no writing; the text begins with its name.
    """
    framed = is_framed(picture, shape)
    if framed and not characters:
        return as_it_is(picture)
    ink = segment_ink(picture, name=name)
    if shape[0] is None or not characters:
        return Reading((normalize_digit(ink, shape),), ink.box[None], small=ink.left_out)
    lines, low = find_lines_of_writing(ink, name=name)
    small = np.concatenate([ink.left_out, low])
    if framed and len(lines) == len(lines[0]) == 1:
        return replace(as_it_is(picture), small=small)
    candidates = [candidate for line in lines for candidate in line]
    images = [normalize_digit(candidate.ink, shape) for candidate in candidates]
    if framed and len(lines) == 1:
        # Nobody knows better than who made it how a digit lies in a frame of the model's size.
        whole = [at for at, one in enumerate(candidates) if (one.first, one.last) == (0, candidates[-1].last)]
        images = [Framed(picture, 1.0, 0.0, 0.0) if at in whole else image for at, image in enumerate(images)]
    boxes = np.array([candidate.ink.box for candidate in candidates])
    return Reading(tuple(images), boxes, tuple(map(tuple, lines)), small)


def text(lines: Sequence[Sequence[str]]) -> str:
    """What stands on a picture, given the labels of each line, as one string."""
    apart = "" if all(len(label) == 1 for line in lines for label in line) else " "
    return " ".join(apart.join(line) for line in lines)
