"""Intervals, tests and calibration: known answers from the literature, and simulations of what they promise."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import norm
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_of_statsmodels

from pipeline.comparison.judging import stats
from pipeline.metrics import classification


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    # Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 1998, table I,
    # method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_published(right, count, low, high):
    assert stats.wilson(right, count) == pytest.approx((low, high), abs=5e-5)


def test_student_as_published():
    # NIST/SEMATECH e-Handbook, 1.3.5.2: with t of 0.975 and 194 degrees of freedom 1.9723, mean 9.261460,
    # deviation 0.022789, the interval is 9.258242 to 9.264679.
    values = np.random.default_rng(0).standard_normal(195)
    values = 9.261460 + 0.022789 * (values - values.mean()) / values.std(ddof=1)
    assert stats.student(values) == pytest.approx((9.258242, 9.264679), abs=2e-6)


def test_mcnemar_as_published():
    # Fagerland, Lydersen and Laake, "The McNemar test for binary matched-pairs data", BMC Medical Research Methodology
    # 2013: airway hyper-responsiveness before and after a transplantation, 1 and 7 discordant pairs, exact p 0.0703.
    first = np.array([True] * 1 + [False] * 7 + [True] * 1 + [False] * 12)
    second = np.array([False] * 1 + [True] * 7 + [True] * 1 + [False] * 12)
    assert stats.mcnemar(first, second) == pytest.approx(0.0703, abs=5e-5)
    assert stats.mcnemar(first, second) == pytest.approx(mcnemar_of_statsmodels([[1, 1], [7, 12]]).pvalue)
    assert stats.mcnemar(first, first) == 1


def test_many_pairs_at_once_are_adjusted_as_published():
    # Of 0.01, 0.04, 0.03 and 0.005 Holm's correction leaves the smallest two below 0.05; who knows that they are
    # independent can do little better.
    apart = [(0, 1), (2, 3), (4, 5), (6, 7)]
    found = stats.simultaneous([0.01, 0.04, 0.03, 0.005], apart, np.eye(8))
    independent = [1 - 0.99**3, 1 - 0.97**2, 1 - 0.97**2, 1 - 0.995**4]
    assert found.p_values == pytest.approx(independent, abs=6e-3) and (found.p_values <= [0.03, 0.06, 0.06, 0.02]).all()
    # Sidak's level, of four that are independent.
    assert found.confidence == pytest.approx(0.95 ** (1 / 4), abs=1e-3)
    assert len(stats.simultaneous([], [], np.empty((0, 0))).p_values) == 0
    alone = stats.simultaneous([0.03], [(0, 1)], np.eye(2))
    assert alone.p_values.tolist() == [0.03] and alone.confidence == 0.95


def test_all_pairs_of_equals_are_tukeys():
    # All differences among seven: the 95 % quantile of the studentized range with infinite freedom is 4.170, so the
    # largest difference is one of 2.949 standard deviations (Miller, "Simultaneous Statistical Inference", 1981).
    pairs = list(combinations(range(7), 2))
    found = stats.simultaneous([0.5] * 21, pairs, np.eye(7))
    assert norm.isf((1 - found.confidence) / 2) == pytest.approx(4.170 / np.sqrt(2), abs=0.03)


def test_welch_as_published():
    # Student's data on sleep, "The probable error of a mean", Biometrika 1908; R's documentation of t.test gives
    # p = 0.07939 for Welch's test of them, and the interval -3.3654832 to 0.2054832.
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = stats.welch(first, second)
    assert (found.p_value, *found.interval()) == pytest.approx((0.07939, -3.3654832, 0.2054832), abs=5e-6)
    assert stats.welch([1.0, 1.0], [1.0, 1.0]).p_value == 1
    surely = stats.welch([1.0, 1.0], [2.0, 2.0])
    assert surely.p_value == 0 and surely.interval() == (-1, -1)


def test_an_interval_of_a_paired_difference_as_published():
    # Bonett and Price's interval of the same patients' difference, 1 and 7 of 21: from -0.507 to -0.003, here with
    # Student's quantile instead of the normal one, as the freedom of few patients is small.
    first = np.array([[True] * 1 + [False] * 7 + [True] * 1 + [False] * 12])
    second = np.array([[False] * 1 + [True] * 7 + [True] * 1 + [False] * 12])
    found = stats.difference(first, second, stats.Spread())
    error = np.sqrt((10 / 23 - (6 / 23) ** 2) / 23)
    assert found.value == pytest.approx(-6 / 21) and np.sqrt(found.variance) == pytest.approx(error, rel=0.03)
    # Who err on the same images may still differ on others: of 360, by about three.
    same = np.zeros((1, 360), bool)
    low, high = stats.difference(same, same, stats.Spread()).interval()
    assert -0.015 < low < -0.005 and high == -low


def test_calibration_error_as_published():
    # The example of torchmetrics' documentation of the multiclass calibration error: 3 bins, l1, 0.2000.
    predictions = np.array([[0.25, 0.20, 0.55], [0.55, 0.05, 0.40], [0.10, 0.30, 0.60], [0.90, 0.05, 0.05]])
    assert classification.calibration_error(np.log(predictions), np.array([0, 1, 2, 0]), bins=3) == pytest.approx(0.2)


def test_calibration_error_of_one_who_is_always_half_sure():
    sure = np.log(np.full((1000, 2), 0.5))
    sure[:, 0] += 1e-9
    targets = np.arange(1000) % 2
    assert classification.calibration_error(sure, targets) == pytest.approx(0, abs=1e-6)
    assert classification.calibration_error(sure, np.zeros(1000, int)) == pytest.approx(0.5, abs=1e-6)


# --- Simulations ---------------------------------------------------------------------------------------------------

IMAGES, REPETITIONS = 10_000, 400


def simulate(generator, chances: np.ndarray, seeds: int, spread: float) -> np.ndarray:
    """Which images some trainings get wrong: images differ in difficulty, trainings in luck."""
    luck = np.exp(generator.normal(0, spread, seeds))
    return generator.random((seeds, len(chances))) < chances * luck[:, None]


def p_value(first: np.ndarray, second: np.ndarray) -> float:
    if len(first) == 1:
        return stats.mcnemar(first[0], second[0])
    return stats.difference(first, second, stats.spread([first, second])).p_value


# The spread is that of the error rate over seeds, as a share of it; a single run has none: its test is about the run.
@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (2, 0.5), (3, 0.05), (3, 0.5), (5, 0.1)])
def test_identical_models_are_rarely_told_apart(seeds, spread):
    alarms = 0
    for repetition in range(REPETITIONS):
        generator, chances = images(seeds, repetition)
        first, same = (simulate(generator, chances, seeds, spread) for _ in range(2))
        alarms += p_value(first, same) < 0.05
    # As many as 5 % are, up to two standard deviations of so many repetitions.
    assert alarms <= 0.05 * REPETITIONS + 2 * np.sqrt(0.05 * 0.95 * REPETITIONS)


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "spread"), [(2, 0.3), (3, 0.0), (5, 0.1)])
def test_an_interval_holds_the_accuracy_on_other_images_and_seeds(seeds, spread):
    """Of seven architectures, whose seeds are looked at together."""
    held = []
    for repetition in range(60):
        generator, chances = images(seeds, repetition)
        study = [simulate(generator, chances / np.exp(spread**2 / 2), seeds, spread) for _ in range(7)]
        among = stats.spread(study)
        limits = [stats.accuracy_interval(wrong, among, wrong.mean()) for wrong in study]
        held += [low <= 0.99 <= high for low, high in limits]
    # The seven share their images, and with them their luck: 60 draws of images count, not 420.
    assert 0.95 - 3 * np.sqrt(0.05 * 0.95 / 60) <= np.mean(held)


def test_the_crossed_test_is_that_of_the_components_of_variance():
    # By hand: images of which one only errs, and seeds whose rates differ.
    first = np.array([[True, False, False, False], [True, True, False, False]])
    second = np.zeros((2, 4), bool)
    found = stats.difference(first, second, stats.Spread(share=0.5, uncorrected=0.5, freedom=1))
    shares = np.array([1, 0.5, 0, 0])
    assert found.value == pytest.approx(shares.mean())
    of_images = np.append(shares, [1, -1]).var(ddof=1) / 6
    assert found.variance == pytest.approx(of_images + 0.5 * shares.mean() ** 2 / 2)
    low, high = found.interval()
    assert low < 0 < found.value < high and 0.05 < found.p_value < 1
    same = stats.difference(first, first, stats.spread([first, first]))
    assert same.value == 0 and same.p_value == 1
    nothing = stats.difference(second, second, stats.spread([second, second]))
    assert nothing.p_value == 1
    # Without an error Wilson's interval remains, that of the images alone.
    assert stats.accuracy_interval(second, stats.spread([second]), second.mean()) == pytest.approx(stats.wilson(4, 4))


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (3, 0.03), (5, 0.1)])
def test_half_a_point_is_found(seeds, spread):
    found = 0
    for repetition in range(REPETITIONS // 2):
        generator, chances = images(seeds, repetition)
        better = simulate(generator, chances, seeds, spread)
        worse = simulate(generator, chances + 0.005, seeds, spread)
        found += p_value(better, worse) < 0.05
    assert found >= 0.9 * REPETITIONS // 2


def images(seeds: int, repetition: int) -> tuple[np.random.Generator, np.ndarray]:
    """A source of chance, and the chance of each image to be answered wrong.

    One image in a hundred on average: most are easy, a few are hard for everyone.
    """
    generator = np.random.default_rng([seeds, repetition])
    return generator, generator.beta(0.05, 4.95, IMAGES)
