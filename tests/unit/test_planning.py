"""What it takes to decide: the plan has the test's own error, keeps its promise, and is said in words."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.comparison import needs
from pipeline.comparison.judging import planning, stats

IMAGES = 2000


def trainings(random: np.random.Generator, seeds: int, rate: float, images: int = IMAGES) -> np.ndarray:
    """Which images each got wrong: half of the errors are on images that are hard for all of the architecture."""
    hard = random.random(images) < rate
    luck = np.exp(random.normal(0, 0.1 * (seeds > 1), (seeds, 1)))
    return random.random((seeds, images)) < np.where(hard, 0.5, 0.5 * rate / (1 - rate)) * luck


def design(first: np.ndarray, second: np.ndarray, confidence: float = 0.95) -> planning.Design:
    return planning.Design.of(first, second, stats.spread([first, second]), 2, confidence)


@pytest.mark.parametrize("seeds", [1, 3])
def test_with_the_numbers_of_the_study_the_error_is_that_of_its_test(seeds):
    random = np.random.default_rng(seeds)
    first, second = (trainings(random, seeds, rate) for rate in (0.02, 0.03))
    planned = design(first, second)
    error, _ = planned.error(seeds, IMAGES)
    found = stats.difference(first, second, stats.spread([first, second]))
    assert error == pytest.approx(np.sqrt(found.variance)) and planned.difference == pytest.approx(-found.value)
    fewer, more = planned.error(seeds, IMAGES // 2)[0], planned.error(seeds + 1, IMAGES)[0]
    assert fewer > error and (more < error) == (seeds > 1), "of one seed nobody knows what another would bring"


def test_as_many_images_as_are_planned_find_what_they_promise():
    random = np.random.default_rng(0)
    planned = design(*(trainings(random, 1, rate, 20_000) for rate in (0.01, 0.01)))
    images, equivalent = (int(number) for number in planning.plan(planned, 0.005, 0.8, 1))
    assert 1000 < images < equivalent < 20_000
    found = [
        stats.mcnemar(*(trainings(random, 1, rate, images)[0] for rate in (0.0075, 0.0125))) < 0.05 for _ in range(400)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.08)
    low, high = np.transpose(
        [
            stats.difference(*(trainings(random, 1, 0.01, equivalent) for _ in range(2)), stats.Spread()).interval()
            for _ in range(400)
        ]
    )
    assert np.mean((low >= -0.005) & (high <= 0.005)) == pytest.approx(0.8, abs=0.08)


def test_what_no_number_decides_is_said_to_be_so():
    random = np.random.default_rng(0)
    planned = design(*(trainings(random, 3, 0.02) for _ in range(2)))
    never = replace(planned, difference=0.0)
    assert planning.need(never, None) == planning.Need(np.inf, np.inf)
    # Seeds that differ much hide a small difference, however many images there are.
    assert planning.plan(replace(planned, between=0.01), 0.001, 0.8, 3) == (np.inf, np.inf)
    single = design(*(trainings(random, 1, rate) for rate in (0.02, 0.021)))
    need = planning.need(single, None)
    assert np.isnan(need.seeds) and need.images > IMAGES
    many = planning.need(replace(planned, difference=0.02, between=4e-4), 0.001)
    assert 3 < many.seeds <= planning.MAX_SEEDS


def test_what_would_decide_is_said_in_a_sentence():
    rows = pd.DataFrame(
        {
            "label": ["CNN", "vit", "mlp", "vgg16", "alexnet"],
            "verdict": ["best", "undecided", "undecided", "undecided", "worse"],
            "seeds": 3,
            "seeds_needed": [np.nan, 6, np.inf, np.inf, np.nan],
            "images_needed": [np.nan, 12_345, 12_400, np.inf, np.nan],
        }
    )
    assert needs.would_decide(rows) == (
        "Three more seeds of each or about 13,000 test images in all would decide between CNN and vit; about 13,000 "
        "test images in all between CNN and mlp; nothing within reach between CNN and vgg16: "
        "with 80 % probability, if the differences stay as they are."
    )
    assert needs.would_decide(rows.iloc[[0, 4]]) == ""
    many = pd.DataFrame(
        {
            "label": ["CNN", "vit", "mlp", "vgg16", "alexnet"],
            "verdict": ["best", *["undecided"] * 4],
            "seeds": 1,
            "seeds_needed": np.nan,
            "images_needed": [np.nan, 93_000, 1_100, 4_800, 1_400],
        }
    )
    assert needs.would_decide(many) == (
        "About 1,100 test images in all would decide between CNN and mlp; about 93,000 test images in all between CNN "
        "and vit; what the others need lies in between: with 80 % probability, if the differences stay as they are."
    )
