"""How sure a comparison is: confidence intervals and tests of pairs.

What takes a second to import is imported where it is needed: a comparison of thousands of runs shall take three.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

CONFIDENCE = 0.95
# From here on Student's distribution is the normal one.
MAX_FREEDOM = 1e9


def wilson(right: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, such as one run's accuracy on so many test images.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 1927.
    """
    from scipy.stats import binomtest

    interval = binomtest(right, count).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def student(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean of at least two repeated trainings."""
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
    half = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * error
    return mean - half, mean + half


def welch(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """Whether two sets of at least two repeated trainings have the same mean, whatever their spread.

    Welch, "The generalization of Student's problem when several different population variances are involved",
    Biometrika 1947.

    Returns:
        two-sided p-value, and the 95 % interval of the difference.
    """
    if np.ptp(first) == np.ptp(second) == 0:
        return float(first[0] == second[0]), first[0] - second[0], first[0] - second[0]
    from scipy.stats import ttest_ind

    found = ttest_ind(first, second, equal_var=False)
    interval = found.confidence_interval(CONFIDENCE)
    return float(found.pvalue), float(interval.low), float(interval.high)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Exact two-sided p-value that two runs err equally often on the same images.

    McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 1947.

    Args:
        first, second: bool (N,), which images each answered wrong.
    """
    from scipy.stats import binomtest

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    return float(binomtest(only_first, only_first + only_second).pvalue) if only_first + only_second else 1.0


@dataclass(frozen=True)
class Spread:
    """How much repeated trainings of a study differ in their error rates, beyond what the choice of images explains.

    The variance of an error rate over seeds is taken to be a share of its square, the same for every architecture:
    few seeds of each tell little, all of them together more.

    Attributes:
        share: that share, at least 0.
        uncorrected: the same with what the images explain left in it, which says how well `share` is known.
        freedom: degrees of freedom of both.
    """

    share: float = 0.0
    uncorrected: float = 0.0
    freedom: int = 0


def spread(wrong: Iterable[np.ndarray]) -> Spread:
    """The spread over the seeds of all architectures of a study together.

    Args:
        wrong: for each architecture bool (seeds, N), which images each of its trainings answered wrong.
    """
    freedom, squares, of_seeds, of_images = 0, 0.0, 0.0, 0.0
    for runs in wrong:
        seeds, images = runs.shape
        if seeds < 2:
            continue
        rates, shares = runs.mean(1), runs.mean(0)
        # The residual of seeds crossed with images: a training errs on other images than its like does.
        residual = runs.var() - shares.var() - rates.var()
        freedom += seeds - 1
        squares += (seeds - 1) * rates.mean() ** 2
        of_seeds += (seeds - 1) * rates.var(ddof=1)
        of_images += seeds * residual / (images - 1)
    if not squares:
        return Spread(freedom=freedom)
    return Spread(max(0.0, (of_seeds - of_images) / squares), of_seeds / squares, freedom)


@dataclass(frozen=True)
class Estimate:
    """An error rate, or a difference of two, with its variance over other images and other seeds."""

    value: float
    variance: float
    freedom: float

    @property
    def p_value(self) -> float:
        """Two-sided, that the value is 0."""
        if self.variance == 0:
            return float(self.value == 0)
        return float(2 * stdtr(self.freedom, -abs(self.value) / np.sqrt(self.variance)))

    @property
    def interval(self) -> tuple[float, float]:
        """Student's 95 % interval."""
        half = float(stdtrit(self.freedom, (1 + CONFIDENCE) / 2)) * np.sqrt(self.variance)
        return float(self.value - half), float(self.value + half)


def difference(first: np.ndarray, second: np.ndarray, among: Spread) -> Estimate:
    """How much more often one architecture errs than another, on other images and with other seeds.

    Images are crossed with seeds, and seeds nested in architectures, as cases and readers in studies of diagnostic
    imaging: Obuchowski and Rockette, "Hypothesis testing of diagnostic accuracy for multiple readers and multiple
    tests", Communications in Statistics 1995; Gallas, "One-shot estimate of MRMC variance", Academic Radiology 2006.
    The degrees of freedom are those of Satterthwaite, "An approximate distribution of estimates of variance
    components", Biometrics Bulletin 1946.

    Args:
        first, second: bool (seeds, N), which images each training answered wrong.
    """
    return _estimate(
        first.mean(0) - second.mean(0), sum(runs.mean() ** 2 / len(runs) for runs in (first, second)), among
    )


def accuracy_interval(wrong: np.ndarray, among: Spread) -> tuple[float, float]:
    """95 % interval of the accuracy on other images and with other seeds.

    Wilson's, of as many images as a single training would need to be known as well: Korn and Graubard, "Confidence
    intervals for proportions with small expected number of positive counts", Survey Methodology 1998.

    Args:
        wrong: bool (seeds, N), which images each training answered wrong.
    """
    from statsmodels.stats.proportion import proportion_confint

    rate, images = wrong.mean(), wrong.shape[1]
    of = _estimate(wrong.mean(0), rate**2 / len(wrong), among)
    if of.variance:
        normal, own = (stdtrit(freedom, (1 + CONFIDENCE) / 2) for freedom in (MAX_FREEDOM, of.freedom))
        images = rate * (1 - rate) / of.variance * (normal / own) ** 2
    low, high = proportion_confint(rate * images, images, alpha=1 - CONFIDENCE, method="wilson")
    return float(1 - high), float(1 - low)


def _estimate(shares: np.ndarray, weight: float, among: Spread) -> Estimate:
    """The mean of what each image contributes, (N,); a spread of 1 over seeds would add `weight` to its variance."""
    of_images = shares.var(ddof=1) / len(shares)
    variance = of_images + weight * among.share
    # Of the variance over images, whose distribution is far from normal: most images are easy.
    fourth = ((shares - shares.mean()) ** 4).mean()
    uncertainty = (fourth - shares.var() ** 2) / len(shares) ** 3
    if among.freedom:
        uncertainty += 2 * (weight * among.uncorrected) ** 2 / among.freedom
    freedom = 2 * variance**2 / uncertainty if uncertainty > 0 else MAX_FREEDOM
    return Estimate(float(shares.mean()), float(variance), float(min(freedom, MAX_FREEDOM)))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p-values adjusted for testing several pairs at once.

    Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 1979.
    """
    if not len(p_values):
        return np.empty(0)
    from statsmodels.stats.multitest import multipletests

    return multipletests(p_values, method="holm")[1]
