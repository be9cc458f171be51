"""How sure a comparison is: confidence intervals and tests of pairs.

What takes a second to import is imported where it is needed: a comparison of thousands of runs shall take three.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

CONFIDENCE = 0.95
# From here on Student's distribution is the normal one.
MAX_FREEDOM = 1e9
# How often the chance of many comparisons at once is drawn: so often that a p-value of 0.05 is known to 0.002, of very
# many comparisons less often, within so much memory.
MAX_DRAWS, MAX_NUMBERS = 20_000, 4_000_000


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
    """A mean, or a difference of two, with its variance over what might have been drawn instead."""

    value: float
    variance: float
    freedom: float

    @property
    def p_value(self) -> float:
        """Two-sided, that the value is 0."""
        if self.variance == 0:
            return float(self.value == 0)
        return float(2 * stdtr(self.freedom, -abs(self.value) / np.sqrt(self.variance)))

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Student's interval."""
        half = float(stdtrit(self.freedom, (1 + confidence) / 2)) * np.sqrt(self.variance)
        return float(self.value - half), float(self.value + half)


def welch(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """By how much two sets of at least two repeated trainings differ in their mean, whatever their spread.

    Welch, "The generalization of Student's problem when several different population variances are involved",
    Biometrika 1947.
    """
    parts = [float(np.var(values, ddof=1)) / len(values) for values in (first, second)]
    uncertainty = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (first, second), strict=True))
    freedom = sum(parts) ** 2 / uncertainty if uncertainty else MAX_FREEDOM
    return Estimate(float(np.mean(first) - np.mean(second)), sum(parts), freedom)


def difference(first: np.ndarray, second: np.ndarray, among: Spread) -> Estimate:
    """How much more often one architecture errs than another, on other images and with other seeds.

    Images are crossed with seeds, and seeds nested in architectures, as cases and readers in studies of diagnostic
    imaging: Obuchowski and Rockette, "Hypothesis testing of diagnostic accuracy for multiple readers and multiple
    tests", Communications in Statistics 1995; Gallas, "One-shot estimate of MRMC variance", Academic Radiology 2006.
    The degrees of freedom are those of Satterthwaite, "An approximate distribution of estimates of variance
    components", Biometrics Bulletin 1946. As few errors hide how much chance there is, the variance is that with two
    images more, on each of which only one of the two errs: Bonett and Price, "Adjusted Wald confidence interval for a
    difference of binomial proportions based on paired data", Journal of Educational and Behavioral Statistics 2012.

    Args:
        first, second: bool (seeds, N), which images each training answered wrong.
    """
    shares = first.mean(0) - second.mean(0)
    weight = sum(runs.mean() ** 2 / len(runs) for runs in (first, second))
    return replace(_estimate(np.append(shares, [1, -1]), weight, among), value=float(shares.mean()))


def covariance(shares: np.ndarray, weights: Sequence[float], among: Spread) -> np.ndarray:
    """(K, K) of error rates over other images, which they share, and other seeds, which they do not.

    Args:
        shares: (K, N), how often each erred on each image.
        weights: (K,), what a spread of 1 over seeds would add to the variance of each.
    """
    return np.atleast_2d(np.cov(shares)) / shares.shape[1] + np.diag(np.asarray(weights) * among.share)


def accuracy_interval(wrong: np.ndarray, among: Spread, rate: float) -> tuple[float, float]:
    """95 % interval of the accuracy on other images and with other seeds.

    Wilson's, of as many images as a single training would need to be known as well: Korn and Graubard, "Confidence
    intervals for proportions with small expected number of positive counts", Survey Methodology 1998.

    Args:
        wrong: bool (seeds, N), which images each training answered wrong.
        rate: how often they did, and others that were not looked through.
    """
    from statsmodels.stats.proportion import proportion_confint

    images: float = wrong.shape[1]
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
    squares = (shares - shares.mean()) ** 2
    fourth = (squares * squares).mean()
    uncertainty = (fourth - squares.mean() ** 2) / len(shares) ** 3
    if among.freedom:
        uncertainty += 2 * (weight * among.uncorrected) ** 2 / among.freedom
    freedom = 2 * variance**2 / uncertainty if uncertainty > 0 else MAX_FREEDOM
    return Estimate(float(shares.mean()), float(variance), float(min(freedom, MAX_FREEDOM)))


def level(attempt: int) -> float:
    """Below what the p-value of this test of a series must be, so that any number of them err in at most 5 % of cases.

    Alpha spending, as in Tian and Ramdas, "Online control of the familywise error rate", Statistical Methods in Medical
    Research 2021: each test has a share of 5 % that the number of those after it does not change.

    Args:
        attempt: 1 for the first.
    """
    return (1 - CONFIDENCE) * 6 / (np.pi * attempt) ** 2


@dataclass(frozen=True)
class Simultaneous:
    """Several comparisons at once.

    Attributes:
        p_values: adjusted, so that one below 0.05 is wrong in at most 5 % of studies, however many there are.
        confidence: that each interval must have by itself for all to hold at once in 95 % of studies.
    """

    p_values: np.ndarray
    confidence: float


def simultaneous(p_values: Sequence[float], pairs: Sequence[tuple[int, int]], of: np.ndarray) -> Simultaneous:
    """Adjust for comparing many pairs whose differences hang together.

    Step by step from the smallest p-value on, each against the largest of those that remain: Westfall and Young,
    "Resampling-Based Multiple Testing", 1993; Romano and Wolf, "Exact and approximate stepdown methods for multiple
    hypothesis testing", JASA 2005. Chance is drawn from the normal distribution of what is compared, so that it never
    exceeds the correction of Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 1979, which knows nothing of it.

    Args:
        p_values: (P,), of each pair by itself.
        pairs: (P,), which two each is about.
        of: (K, K), the covariance of what is compared.
    """
    own = np.asarray(p_values, float)
    if not len(own):
        return Simultaneous(own, CONFIDENCE)
    first, second = np.asarray(pairs).T
    # So little more that the root exists where two are the same.
    of = of + np.eye(len(of)) * max(1e-9 * of.diagonal().max(), 1e-30)
    draws = min(MAX_DRAWS, MAX_NUMBERS // len(own))
    random = np.random.default_rng(0).standard_normal((draws, len(of)), dtype=np.float32)
    drawn = random @ np.linalg.cholesky(of).T.astype(np.float32)
    deviations = np.sqrt(of[first, first] + of[second, second] - 2 * of[first, second])
    order = np.argsort(own, kind="stable")
    largest = np.abs(drawn[:, first] - drawn[:, second])[:, order] / deviations[order]
    # The largest of those that remain at each step.
    largest = np.maximum.accumulate(largest[:, ::-1], axis=1)[:, ::-1]
    remaining = np.arange(len(own), 0, -1)
    adjusted = np.clip((largest >= -ndtri(own[order] / 2)).mean(0), own[order], np.minimum(1, remaining * own[order]))
    result = np.empty(len(own))
    result[order] = np.maximum.accumulate(adjusted)
    confidence = 2 * float(ndtr(np.quantile(largest[:, 0], CONFIDENCE))) - 1
    return Simultaneous(result, float(np.clip(confidence, CONFIDENCE, 1 - (1 - CONFIDENCE) / len(own))))
