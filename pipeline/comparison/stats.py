"""How sure a comparison is: confidence intervals and tests of pairs.

What takes a second to import is imported where it is needed: a comparison of thousands of runs shall take three.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtr, stdtrit

CONFIDENCE = 0.95
RESAMPLES = 10_000
# From here on Student's distribution is the normal one.
MAX_FREEDOM = 1e9
# Resamples drawn at once: their counts take memory.
BLOCK = 500


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


def welch(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p-value that two sets of at least two repeated trainings have the same mean, whatever their spread.

    Welch, "The generalization of Student's problem when several different population variances are involved",
    Biometrika 1947.
    """
    if np.ptp(first) == np.ptp(second) == 0:
        return float(first[0] == second[0])
    from scipy.stats import ttest_ind

    return float(ttest_ind(first, second, equal_var=False).pvalue)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Exact two-sided p-value that two runs err equally often on the same images.

    McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 1947.

    Args:
        first, second: bool (N,), which images each answered wrong.
    """
    from scipy.stats import binomtest

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    return float(binomtest(only_first, only_first + only_second).pvalue) if only_first + only_second else 1.0


def resample(wrong: Sequence[np.ndarray], *, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Error rates (len(wrong), resamples) of repeated trainings on other images and with other seeds.

    Images and seeds are drawn with replacement, the same images for all: Owen, "The pigeonhole bootstrap", Annals of
    Applied Statistics 2007, arXiv:0712.1111, which errs on the safe side.

    Args:
        wrong: for each architecture bool (seeds, N), which images each of its trainings answered wrong.
    """
    images = wrong[0].shape[1]
    # Where no training errs, nothing depends on how often an image is drawn: all these are one outcome of the draw.
    missed = np.flatnonzero(np.any([runs.any(0) for runs in wrong], axis=0))
    shares = np.append(np.full(len(missed), 1 / images), 1 - len(missed) / images)
    generator = np.random.default_rng(seed)
    blocks = []
    for start in range(0, resamples, BLOCK):
        block = min(BLOCK, resamples - start)
        counts = generator.multinomial(images, shares, size=block)[:, :-1].astype(np.float32)
        rates = [counts @ runs[:, missed].T.astype(np.float32) / images for runs in wrong]
        blocks.append([(rate * seed_weights(generator, *rate.shape)).sum(1) for rate in rates])
    return np.concatenate(blocks, axis=1)


def seed_weights(generator: np.random.Generator, resamples: int, seeds: int) -> np.ndarray:
    """How much each seed weighs in each resample: (resamples, seeds).

    Its share of n draws; as these vary too little by (n - 1) / n, their distance from the mean is stretched.
    """
    if seeds == 1:
        return np.ones((resamples, 1))
    shares = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    return 1 / seeds + (shares - 1 / seeds) * np.sqrt(seeds / (seeds - 1))


def bootstrap_p_value(first: np.ndarray, second: np.ndarray, drawn: np.ndarray) -> float:
    """Two-sided p-value that two architectures err equally often, over other images and other seeds.

    The difference in units of its deviation over resamples, against Student's t. How well that deviation is known
    depends on how much of it comes from the few seeds: the degrees of freedom are those of Satterthwaite, "An
    approximate distribution of estimates of variance components", Biometrics Bulletin 1946.

    Args:
        first, second: bool (seeds, N) of at least two seeds, which images each training answered wrong.
        drawn: (resamples,), the difference of their error rates over `resample`.
    """
    rates = [runs.mean(1) for runs in (first, second)]
    difference, variance = rates[0].mean() - rates[1].mean(), drawn.var()
    if variance == 0:
        return float(difference == 0)
    of_seeds = [rate.var(ddof=1) / len(rate) for rate in rates]
    uncertainty = sum(part**2 / (len(rate) - 1) for part, rate in zip(of_seeds, rates, strict=True))
    freedom = variance**2 / uncertainty if uncertainty else MAX_FREEDOM
    return float(2 * stdtr(min(freedom, MAX_FREEDOM), -abs(difference) / np.sqrt(variance)))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p-values adjusted for testing several pairs at once.

    Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 1979.
    """
    if not len(p_values):
        return np.empty(0)
    from statsmodels.stats.multitest import multipletests

    return multipletests(p_values, method="holm")[1]
