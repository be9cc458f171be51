"""How often a comparison is wrong about simulated trainings: false verdicts, intervals that miss, differences missed.

The same of promotions, where one challenger after another is tried.

    python -m benchmarks.statistics

Seven architectures answer 10,000 images each; images differ in difficulty, seeds in luck. Exit code 1 when more than
promised is wrong. With `--output` a run that was cut goes on.
"""

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import click
import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline.cli.process import run
from pipeline.comparison.judging import stats
from pipeline.comparison.judging.pairs import SIGNIFICANT, examine_answers
from pipeline.comparison.judging.verdicts import verdict
from pipeline.ending import catch_signals

ARCHITECTURES, IMAGES = 7, 10_000
# Of a beta distribution of the images' chances to be answered wrong: most are easy, a few are hard.
HARDNESS = 0.05
RATES = (0.003, 0.01, 0.1)
SEEDS = (2, 3, 5, 10)
# Deviation of a training's error rate over seeds, as a share of it.
SPREADS = (0.0, 0.1, 0.3, 0.5)
# Of the error rate of the one architecture that is worse, where one is, and the margin within which none is.
WORSE_BY = 0.002
# Of promotions: histories, challengers in each, and how much less the one errs that is better.
HISTORIES, CHALLENGERS, BETTER = 400, 40, 0.6
ATTEMPTS = (1, 5, 40)
# Three standard deviations of what the number of repetitions leaves open are added.
MOST_FALSE = 0.05


@click.command()
@click.option("--repetitions", type=click.IntRange(1), default=150, show_default=True, help="Studies of each kind.")
@click.option("--seed", default=0, show_default=True, help="Of the simulation.")
@click.option("--output", type=click.Path(path_type=Path), help="A CSV file that keeps each line as it is found.")
def main(repetitions: int, seed: int, output: Path | None) -> None:
    """Print a line for each kind of study."""
    catch_signals()
    kinds = list(product(RATES, SPREADS, SEEDS, (True, False)))
    equals = pd.DataFrame(hunt(*kind, seed) for kind in product(RATES, (True, False)))
    print(
        f"\n{HISTORIES} simulated champions a line, {CHALLENGERS} challengers each, one after the other; a better one "
        f"errs {1 - BETTER:.0%} less.\n"
    )
    print(equals.to_markdown(index=False, floatfmt=".3f"))
    found = pd.read_csv(output).to_dict("records") if output and output.exists() else []
    for kind in tqdm(kinds[len(found) :], leave=False, disable=None):
        found.append(examine(*kind, repetitions, seed))
        if output:
            pd.DataFrame(found).to_csv(output, index=False)
    table = pd.DataFrame(found)
    print(f"\n{repetitions} simulated studies a line, of {ARCHITECTURES} architectures and {IMAGES:,} images.\n")
    print(table.to_markdown(index=False, floatfmt=".3f"))
    most = MOST_FALSE + 3 * np.sqrt(MOST_FALSE * (1 - MOST_FALSE) / repetitions)
    false = table[[name for name in table.columns if name.startswith("false")]]
    wrong = int((false > most).any(axis=1).sum())
    most = MOST_FALSE + 3 * np.sqrt(MOST_FALSE * (1 - MOST_FALSE) / HISTORIES)
    replaced = int((equals["replaced by an equal one"] > most).sum())
    broken = [f"In {wrong} of {len(table)} kinds of study false verdicts are too many."] * bool(wrong)
    broken += [f"In {replaced} of {len(equals)} kinds of history too many champions are replaced."] * bool(replaced)
    sys.exit(" ".join(broken) or 0)


def hunt(rate: float, shared: bool, seed: int) -> dict[str, object]:
    """How often one of many challengers that are equal to a champion takes its place, and one that is better."""
    replaced, naively, found = [], [], []
    for history in range(HISTORIES):
        random = np.random.default_rng([seed, history])
        common = chances(random, rate)
        champion, *challengers = (
            random.random(IMAGES) < share * (common if shared else chances(random, rate))
            for share in (*[1.0] * (CHALLENGERS + 1), BETTER)
        )
        p_values = [stats.mcnemar(wrong, champion) if wrong.sum() < champion.sum() else 1.0 for wrong in challengers]
        better = p_values.pop()
        replaced.append(any(p_value < stats.level(attempt) for attempt, p_value in enumerate(p_values, start=1)))
        naively.append(min(p_values) < SIGNIFICANT)
        found.append([better < stats.level(attempt) for attempt in ATTEMPTS])
    as_attempt = {
        f"better one found, attempt {attempt}": share
        for attempt, share in zip(ATTEMPTS, np.mean(found, 0), strict=True)
    }
    return {
        "errors": f"{rate:.1%}",
        "hard images": "the same for all" if shared else "each its own",
        "replaced by an equal one": np.mean(replaced),
        "without counting": np.mean(naively),
        **as_attempt,
    }


def chances(random: np.random.Generator, rate: float) -> np.ndarray:
    """Of each image to be answered wrong."""
    return random.beta(HARDNESS, HARDNESS * (1 - rate) / rate, IMAGES)


def expected(rate: float, spread: float) -> float:
    """The error rate over all images and seeds: below `rate`, as no image is answered wrong more often than always."""
    random = np.random.default_rng(0)
    drawn = np.concatenate([chances(random, rate) for _ in range(200)])
    return float(np.minimum(1, drawn * np.exp(random.normal(-(spread**2) / 2, spread, len(drawn)))).mean())


def examine(rate: float, spread: float, seeds: int, shared: bool, repetitions: int, seed: int) -> dict[str, object]:
    """What goes wrong in studies of equal architectures and in those where one is worse, and what is found."""
    false, false_by_holm, missed, equal, false_of_worse, found, found_by_holm = ([] for _ in range(7))
    truth = 1 - expected(rate, spread)
    for study in studies(rate, spread, seeds, shared, repetitions, seed, 0.0):
        pairs, intervals = compared(study)
        false.append((pairs["p_adjusted"] < SIGNIFICANT).any())
        false_by_holm.append((pairs["p_holm"] < SIGNIFICANT).any())
        missed += [not low <= truth <= high for low, high in intervals]
        equal += list(pairs["verdict"] == "equivalent")
    for study in studies(rate, spread, seeds, shared, repetitions, seed, WORSE_BY):
        pairs, _ = compared(study)
        of_worse = pairs["first"] == "0"
        wrong = np.where(of_worse, pairs["verdict"].isin(["better", "equivalent"]), pairs["verdict"] == "better")
        false_of_worse.append((wrong | (~of_worse & (pairs["verdict"] == "worse"))).any())
        found += list(pairs["p_adjusted"][of_worse] < SIGNIFICANT)
        found_by_holm += list(pairs["p_holm"][of_worse] < SIGNIFICANT)
    return {
        "errors": f"{rate:.1%}",
        "seeds differ by": f"{spread:.0%}",
        "seeds": seeds,
        "hard images": "the same for all" if shared else "each its own",
        "false, all equal": np.mean(false),
        "by Holm": np.mean(false_by_holm),
        "false, one worse": np.mean(false_of_worse),
        "intervals that miss": np.mean(missed),
        f"{WORSE_BY * 100:.1f} points found": np.mean(found),
        "found by Holm": np.mean(found_by_holm),
        "equal shown": np.mean(equal),
    }


def compared(study: list[np.ndarray]) -> tuple[pd.DataFrame, list[tuple[float, float]]]:
    """All pairs as `compare` examines them, with a margin of WORSE_BY, and the intervals of the accuracies."""
    known = {str(number): wrong for number, wrong in enumerate(study)}
    examined = examine_answers({label: list(1 - wrong.mean(1)) for label, wrong in known.items()}, known)
    pairs = examined.pairs
    words = [verdict(pair.low, pair.high, pair.p_adjusted, WORSE_BY) for pair in pairs.itertuples()]
    return pairs.assign(verdict=words, p_holm=holm(pairs["p_value"])), list(examined.intervals.values())


def holm(p_values: pd.Series) -> pd.Series:
    """The p-values as one adjusts them who knows nothing of how the pairs hang together."""
    remaining = len(p_values) + 1 - p_values.rank(method="first")
    return (p_values * remaining).clip(upper=1).iloc[p_values.argsort()].cummax().sort_index()


def studies(
    rate: float, spread: float, seeds: int, shared: bool, repetitions: int, seed: int, worse_by: float
) -> Iterator[list[np.ndarray]]:
    """Simulated studies: for each architecture bool (seeds, N), which images each training answers wrong.

    Args:
        worse_by: how much more often the first errs.
    """
    for repetition in range(repetitions):
        random = np.random.default_rng([seed, repetition])
        common = chances(random, rate)
        study = []
        for number in range(ARCHITECTURES):
            own = (common if shared else chances(random, rate)) * (1 + (worse_by / rate if not number else 0))
            luck = np.exp(random.normal(-(spread**2) / 2, spread, seeds))
            study.append(random.random((seeds, IMAGES)) < own * luck[:, None])
        yield study


if __name__ == "__main__":
    run(main, "benchmarks.statistics")
