"""How many seeds or test images it takes to decide between two architectures."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtrit

from pipeline.comparison.judging import stats
from pipeline.comparison.judging.stats import Spread

# How likely a decision shall be.
POWER = 0.8
# More are not to be had.
MAX_SEEDS, MAX_IMAGES = 20, 10_000_000


@dataclass(frozen=True)
class Design:
    """Two architectures, and what the variance of their difference in accuracy is made of.

    Attributes:
        difference: as it was found.
        images, seeds: test images, and trainings of each, of the one that has fewer, in the study that it was found in.
        shared: variance over images of what all seeds of an architecture have in common.
        own: variance over images of what each seed does by itself, with one seed of each.
        between: variance over seeds, with one seed of each; None where no architecture was trained twice.
        uncorrected: the same with what the images explain left in it, which says how well it is known.
        present: these two with the seeds that there are.
        freedom: degrees of freedom of these.
        architectures: all of the study, whose seeds together say how much seeds differ.
        confidence: of the interval of this pair, so that all of the study hold at once.
    """

    difference: float
    images: int
    seeds: int
    shared: float
    own: float
    between: float | None
    uncorrected: float
    present: tuple[float, float]
    freedom: int
    architectures: int
    confidence: float

    @classmethod
    def of(
        cls, first: np.ndarray, second: np.ndarray, among: Spread, architectures: int, confidence: float
    ) -> "Design":
        """From bool (seeds, N), which images each training answered wrong."""
        seeds, images = min(len(first), len(second)), first.shape[1]
        shares = first.mean(0) - second.mean(0)
        own = sum(float(runs.var(0, ddof=1).mean()) for runs in (first, second) if seeds > 1)
        of_images = stats.difference(first, second, Spread()).variance * images
        weight = sum(float(runs.mean()) ** 2 for runs in (first, second))
        present = sum(float(runs.mean()) ** 2 / len(runs) for runs in (first, second))
        return cls(
            difference=-float(shares.mean()),
            images=images,
            seeds=seeds,
            shared=max(0.0, of_images - own / seeds),
            own=own,
            between=weight * among.share if among.freedom else None,
            uncorrected=weight * among.uncorrected,
            present=(present * among.share, present * among.uncorrected),
            freedom=among.freedom,
            architectures=architectures,
            confidence=confidence,
        )

    def error(self, seeds: int, images: float) -> tuple[float, float]:
        """Standard error of the difference with so many seeds of each and test images, and its interval in these.

        Where no architecture was trained twice it is that of two trainings, as it is tested then.
        """
        between, uncorrected = (self.between or 0.0) / seeds, self.uncorrected / seeds
        known = self.architectures * (seeds - 1)
        if seeds == self.seeds:
            (between, uncorrected), known = self.present, self.freedom
        variance, freedom = (self.shared + self.own / seeds) / images, float(stats.MAX_FREEDOM)
        if known and uncorrected:
            variance += between
            # As `stats._estimate` has it, but for the images, which are many.
            freedom = min(variance**2 / (uncorrected**2 / known), freedom)
        return float(np.sqrt(variance)), float(stdtrit(freedom, (1 + self.confidence) / 2))

    def told_apart(self, difference: float, seeds: int, images: float) -> float:
        """How likely it is that a true difference is told from none."""
        error, errors = self.error(seeds, images)
        return float(ndtr(abs(difference) / error - errors)) if error else float(difference != 0)

    def shown_equivalent(self, difference: float, margin: float, seeds: int, images: float) -> float:
        """How likely it is that the interval of a true difference is within the margin."""
        error, errors = self.error(seeds, images)
        if not error:
            return float(abs(difference) <= margin)
        return max(0.0, float(sum(ndtr((margin + side * difference) / error - errors) for side in (1, -1)) - 1))


@dataclass(frozen=True)
class Need:
    """What would decide.

    Attributes:
        seeds: of each architecture, with the test images that there are; infinite where not even MAX_SEEDS would do,
            NaN where nobody knows how much seeds differ.
        images: test images, with the seeds that there are; infinite where not even MAX_IMAGES would do.
    """

    seeds: float
    images: float


def need(design: Design, margin: float | None) -> Need:
    """What it takes to tell the difference that was found from none, or to show it to be within the margin.

    Seeds take the place of readers, and test images that of cases, in Hillis, Obuchowski and Berbaum, "Power estimation
    for multireader ROC methods: an updated and unified approach", Academic Radiology 2011.
    """

    def power(seeds: int, images: float) -> float:
        told = design.told_apart(design.difference, seeds, images)
        shown = 0.0 if margin is None else design.shown_equivalent(design.difference, margin, seeds, images)
        return max(told, shown)

    numbers = range(design.seeds + 1, MAX_SEEDS + 1)
    seeds = next((float(seeds) for seeds in numbers if power(seeds, design.images) >= POWER), np.inf)
    return Need(np.nan if design.between is None else seeds, enough(lambda images: power(design.seeds, images), POWER))


def plan(design: Design, margin: float, power: float, seeds: int) -> tuple[float, float]:
    """How many test images a study of architectures that vary as much needs with so many seeds of each.

    Args:
        power: how likely each decision shall be.

    Returns:
        to tell those apart that differ by the margin; to show those equivalent that do not differ.
    """
    return (
        enough(lambda images: design.told_apart(margin, seeds, images), power),
        enough(lambda images: design.shown_equivalent(0.0, margin, seeds, images), power),
    )


def enough(power: Callable[[int], float], wanted: float) -> float:
    """The least number of test images with which a decision is likely enough; infinite beyond MAX_IMAGES.

    Args:
        power: how likely it is with so many.
    """
    if power(MAX_IMAGES) < wanted:
        return np.inf
    low, high = 1, MAX_IMAGES
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= wanted else (middle, high)
    return float(high)
