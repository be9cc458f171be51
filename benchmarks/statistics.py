"""How often a comparison is wrong about simulated trainings: false verdicts, intervals that miss, differences missed.

    python -m benchmarks.statistics

Seven architectures answer 10,000 images each; images differ in difficulty, seeds in luck. Exit code 1 when more than
promised is wrong.
"""

import sys
from collections.abc import Iterator
from itertools import combinations, product

import click
import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline.cli.process import run
from pipeline.comparison import stats
from pipeline.comparison.pairs import SIGNIFICANT
from pipeline.ending import catch_signals

ARCHITECTURES, IMAGES = 7, 10_000
# Of a beta distribution of the images' chances to be answered wrong: most are easy, a few are hard.
HARDNESS = 0.05
RATES = (0.003, 0.01, 0.1)
SEEDS = (2, 3, 5, 10)
# Deviation of a training's error rate over seeds, as a share of it.
SPREADS = (0.0, 0.1, 0.3, 0.5)
# Of the error rate of the one architecture that is worse, where one is.
WORSE_BY = 0.002
# Three standard deviations of what the number of repetitions leaves open are added.
MOST_FALSE = 0.05


@click.command()
@click.option("--repetitions", type=click.IntRange(1), default=150, show_default=True, help="Studies of each kind.")
@click.option("--seed", default=0, show_default=True, help="Of the simulation.")
def main(repetitions: int, seed: int) -> None:
    """Print a line for each kind of study."""
    catch_signals()
    kinds = list(product(RATES, SPREADS, SEEDS, (True, False)))
    table = pd.DataFrame(examine(*kind, repetitions, seed) for kind in tqdm(kinds, leave=False, disable=None))
    print(f"\n{repetitions} simulated studies a line, of {ARCHITECTURES} architectures and {IMAGES:,} images.\n")
    print(table.to_markdown(index=False, floatfmt=".3f"))
    most = MOST_FALSE + 3 * np.sqrt(MOST_FALSE * (1 - MOST_FALSE) / repetitions)
    wrong = int((table["some false verdict"] > most).sum())
    sys.exit(f"In {wrong} of {len(table)} kinds of study false verdicts are too many." if wrong else 0)


def examine(rate: float, spread: float, seeds: int, shared: bool, repetitions: int, seed: int) -> dict[str, object]:
    """What goes wrong in studies of equal architectures, and how often one that is worse is found."""
    false, missed, found = [], [], []
    for study, worse in zip(
        studies(rate, spread, seeds, shared, repetitions, seed, 0.0),
        studies(rate, spread, seeds, shared, repetitions, seed, WORSE_BY),
        strict=True,
    ):
        among = stats.spread(study)
        p_values = [stats.difference(*pair, among).p_value for pair in combinations(study, 2)]
        false.append(stats.holm(p_values).min() < SIGNIFICANT)
        intervals = [stats.accuracy_interval(wrong, among) for wrong in study]
        missed += [not low <= 1 - rate <= high for low, high in intervals]
        among = stats.spread(worse)
        p_values = [stats.difference(*pair, among).p_value for pair in combinations(worse, 2)]
        # The first of all pairs are those of the one that is worse.
        found += list(stats.holm(p_values)[: ARCHITECTURES - 1] < SIGNIFICANT)
    return {
        "errors": f"{rate:.1%}",
        "seeds differ by": f"{spread:.0%}",
        "seeds": seeds,
        "hard images": "the same for all" if shared else "each its own",
        "some false verdict": np.mean(false),
        "intervals that miss": np.mean(missed),
        f"{WORSE_BY * 100:.1f} points found": np.mean(found),
    }


def studies(
    rate: float, spread: float, seeds: int, shared: bool, repetitions: int, seed: int, worse_by: float
) -> Iterator[list[np.ndarray]]:
    """Simulated studies: for each architecture bool (seeds, N), which images each training answers wrong.

    Args:
        worse_by: how much more often the first errs.
    """
    for repetition in range(repetitions):
        random = np.random.default_rng([seed, repetition])
        chances = random.beta(HARDNESS, HARDNESS * (1 - rate) / rate, IMAGES)
        study = []
        for number in range(ARCHITECTURES):
            own = (chances if shared else random.permutation(chances)) * (1 + (worse_by / rate if not number else 0))
            luck = np.exp(random.normal(-(spread**2) / 2, spread, seeds))
            study.append(random.random((seeds, IMAGES)) < own * luck[:, None])
        yield study


if __name__ == "__main__":
    run(main, "benchmarks.statistics")
