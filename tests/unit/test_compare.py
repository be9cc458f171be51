"""The comparison: what is averaged and what is not, what is held against each other, and what is written."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from autorank import autorank
from hypothesis import given
from hypothesis import strategies as st

from pipeline.comparison import summary, tables, tuning
from pipeline.comparison.compare import MAX_TESTED_ROWS, Comparison, compare
from pipeline.comparison.judging import verdicts, votes
from pipeline.comparison.judging.datasets import over_datasets
from pipeline.comparison.judging.pairs import MAX_TESTED
from pipeline.comparison.page import drawings
from pipeline.comparison.sizes import over_sizes
from pipeline.errors import InputError
from pipeline.metrics import classification
from pipeline.tracking.training_run import Results, TrainingRun

IMAGES = 1000
GOLDEN = Path(__file__).with_name("comparison.md")


def training(
    architecture: str,
    wrong: int,
    *,
    seed: int = 0,
    recipe: str = "",
    first: int = 0,
    split_seed: int = 0,
    status: str = "FINISHED",
    metrics: Mapping[str, float] | None = None,
    **tags: str,
) -> TrainingRun:
    """A training that answered so many of the test images wrong, from the first one on."""
    fields = {"test_images": IMAGES, "test_file": "abc", "split_seed": split_seed}
    return TrainingRun(
        run_id=f"{architecture}{recipe}{seed}",
        name=f"{architecture} seed {seed}",
        status=status,
        tags={
            "architecture": architecture,
            "recipe_key": recipe or architecture,
            "config_key": f"{architecture}{recipe}{seed}{split_seed}{tags.get('dataset', '')}",
            "dataset": "mnist",
            "dataset_sha256": "abc",
            "protocol": f"p{split_seed}",
            "protocol_fields": json.dumps(fields),
            "budget": json.dumps({"epochs": 3, "images_seen": 3000, "pretrained": False}),
            "first_wrong": str(first),
            "wrong": str(wrong),
            **tags,
        },
        params={},
        metrics={
            "test/accuracy": 1 - wrong / IMAGES,
            "test/f1": 0.9,
            "test/loss": 0.1 + wrong / 1e4,
            "time/train_s": 10.0,
            "cost/parameters": 79510.0,
            **(metrics or {}),
        },
    )


class Answers(Results):
    """What such trainings answered, but for one architecture, whose answers are gone."""

    def __init__(self, gone: str = "") -> None:
        super().__init__()
        self.gone = gone

    def read_predictions(self, training: TrainingRun, name: str) -> pd.DataFrame | None:
        if training.tags["architecture"] == self.gone:
            return None
        first, wrong = int(training.tags["first_wrong"]), int(training.tags["wrong"])
        said = np.full(IMAGES, "1")
        said[first : first + wrong] = "7"
        return pd.DataFrame({"target": "1", "prediction": said})


def compared(*trainings: TrainingRun, **options) -> Comparison:
    return compare(trainings, Answers(), **options)


STUDY = [training("mlp", 30), training("cnn", 10), training("mlp", 20, seed=1)]


def test_mean_and_standard_deviation_over_seeds_best_first():
    table = compared(*STUDY).table
    assert table["architecture"].tolist() == ["cnn", "mlp"]
    assert table["seeds"].tolist() == [1, 2]
    assert table["accuracy"].tolist() == pytest.approx([0.99, 0.975])
    assert table["accuracy_std"][1] == pytest.approx(0.00707, abs=1e-5) and pd.isna(table["accuracy_std"][0])
    assert table["interval"].tolist() == ["Wilson", "crossed"]
    # Wilson's interval of 990 of 1,000, and that of 0.97 and 0.98 on other images and with other seeds.
    assert table["low"][0] == pytest.approx(0.9817, abs=1e-4) and table["high"][0] == pytest.approx(0.9946, abs=1e-4)
    assert table["low"][1] < 0.965 and 0.985 < table["high"][1] < 1
    text = tables.markdown(compared(*STUDY))
    assert "99.00" in text and "97.50 ±0.71" in text and "1,000 test images" in text


def test_the_whole_table_is_as_recorded():
    """Any change of what a reader sees shows up here: look at it, and record it anew if it is meant.

    PYTHONPATH=.:tests python tests/unit/test_compare.py
    """
    assert recorded_table() == GOLDEN.read_text()


def recorded_table() -> str:
    """Two protocols, seeds, one undecided, a detector, one that failed."""
    detector = {"test/map": 0.912, "test/map_50": 0.985}
    return tables.markdown(
        compared(
            *[training("cnn", 6 + seed, seed=seed) for seed in range(3)],
            *[training("mlp", 60 + seed, seed=seed, first=300) for seed in range(3)],
            training("vit", 8, machine="two cores"),
            training("faster_rcnn", 15, metrics=detector, machine="a GPU"),
            training("alexnet", 0, status="FAILED"),
            training("cnn", 30, split_seed=1),
        )
    )


def on_several(*wrong: Mapping[str, int]) -> Comparison:
    """Trainings on several data sets, with so many errors."""
    return compared(
        *[
            training(
                name, errors, dataset=f"set {number}", dataset_sha256=f"{number}", protocol=f"p{number}", seed=number
            )
            for number, of in enumerate(wrong)
            for name, errors in of.items()
        ]
    )


def test_over_data_sets_ranks_say_who_is_better():
    found = on_several(
        *[{"cnn": 10 + n, "vit": 20 + n, "mlp": 40 + n, "alexnet": 60 - n} for n in range(8)], {"cnn": 3}
    )
    over = over_datasets(found.groups(), "accuracy")
    assert over is None, "the ninth has one architecture alone"
    found = on_several(*[{"cnn": 10 + n, "vit": 20 + n, "mlp": 40 + n, "alexnet": 60 - n} for n in range(8)])
    over = over_datasets(found.groups(), "accuracy")
    assert over.ranks.to_dict() == {"cnn": 1, "vit": 2, "mlp": 3, "alexnet": 4}
    # Demšar's table 5: 2.569 for four classifiers; and all ranks the same on each of eight sets.
    assert over.critical == pytest.approx(2.569 * (4 * 5 / (6 * 8)) ** 0.5, abs=1e-3)
    assert over.p_value == pytest.approx(scipy.stats.chi2.sf(24, 3))
    assert over.letters.to_dict() == {"cnn": "a", "vit": "ab", "mlp": "bc", "alexnet": "c"}
    text = tables.markdown(found)
    assert "Over 8 data sets: accuracy % on each, and the mean rank" in text and "more than 1.66 apart" in text
    assert "| cnn ᵃ" in text and r"\label{over-data-sets}" in tables.latex(found)
    # Of 100 images each is behind by 10 points or more.
    assert over.margin == 0.005 and over.practice["better"].min() > 0.95
    assert over.practice.sum(axis=1).to_numpy() == pytest.approx(1)
    assert "how probable it is that cnn is better by more than 0.5 pp: than vit 100% (equivalent 0%)" in text


def test_over_data_sets_autorank_finds_the_same():
    random = np.random.default_rng(0)
    wrong = [
        {name: int(random.integers(low, low + 25)) for name, low in {"cnn": 5, "vit": 10, "mlp": 20}.items()}
        for _ in range(9)
    ]
    over = over_datasets(on_several(*wrong).groups(), "accuracy")
    theirs = autorank(over.scores.T, force_mode="nonparametric")
    assert over.p_value == pytest.approx(theirs.pvalue) and over.critical == pytest.approx(theirs.cd, abs=1e-3)
    assert over.ranks.to_dict() == pytest.approx(theirs.rankdf["meanrank"].to_dict())
    theirs = autorank(over.scores.T, approach="bayesian", rope=over.margin, rope_mode="absolute", random_state=0)
    for name, row in over.practice.iterrows():
        ours = row[["better", "equivalent", "worse"]]
        assert list(theirs.posterior_matrix.loc["cnn", name]) == pytest.approx(list(ours), abs=0.02)


def test_over_few_data_sets_nothing_is_told_apart():
    found = on_several({"cnn": 10, "vit": 20, "mlp": 40}, {"cnn": 10, "vit": 20, "mlp": 40, "alexnet": 3})
    text = tables.markdown(found)
    assert "No two can be told apart; of so few data sets nothing else can come." in text and "out: alexnet" in text
    assert over_datasets(compared(*STUDY).groups(), "accuracy") is None
    two = over_datasets(on_several({"cnn": 10, "mlp": 20}, {"cnn": 10, "mlp": 20}).groups(), "accuracy")
    assert two.ranks.to_dict() == {"cnn": 1, "mlp": 2} and two.p_value == 0.5 and set(two.letters) == {"a"}


def test_two_architectures_are_told_apart_on_enough_data_sets():
    found = on_several(*[{"cnn": 10 + n, "mlp": 20 + 2 * n} for n in range(6)])
    text = tables.markdown(found)
    assert found.over_datasets.p_value == pytest.approx(2 / 2**6) and set(found.over_datasets.letters) == {"a", "b"}
    assert "Wilcoxon's signed-rank test" in text and "The two are told apart." in text and "nan" not in text
    assert "Nemenyi" not in drawings.over_datasets(found.over_datasets, "accuracy").drawings[0].caption


def test_ranks_over_data_sets_are_of_one_number_of_training_images():
    def trained(number: int, limit: int, **wrong: int) -> list[TrainingRun]:
        about = {"dataset": f"set {number}", "dataset_sha256": f"{number}", "protocol": f"p{number} {limit}"}
        runs = [training(name, errors, seed=limit, **about) for name, errors in wrong.items()]
        return [replace(run, params={"limit": str(limit)}) for run in runs]

    large = [run for number in range(2) for run in trained(number, 0, cnn=10, mlp=20)]
    small = [run for number in range(3) for run in trained(number, 50, cnn=90, mlp=80)]
    over = compared(*large, *small).over_datasets
    assert (over.limit, list(over.scores), over.otherwise) == (50, ["set 0", "set 1", "set 2"], [])
    over = compared(*large, *trained(2, 50, cnn=90, mlp=80)).over_datasets
    assert (over.limit, list(over.scores), over.otherwise) == (0, ["set 0", "set 1"], ["set 2"])
    text = tables.markdown(compared(*large, *trained(2, 50, cnn=90, mlp=80)))
    assert "With other numbers of training images, so left out: set 2." in text
    assert "Over 3 data sets, 50 training images of each" in tables.markdown(compared(*small))


def test_who_is_ahead_with_how_many_training_images():
    def trained(name: str, wrong: int, size: int) -> TrainingRun:
        fields = json.dumps({"test_images": IMAGES, "training_images": size})
        return training(name, wrong, protocol=f"p{size}", protocol_fields=fields, dataset=f"of {size}")

    errors = {
        100: {"cnn": 100, "vit": 150},
        1000: {"cnn": 50, "vit": 60},
        10_000: {"cnn": 20, "vit": 10},
    }
    found = compared(*[trained(name, wrong, size) for size in errors for name, wrong in errors[size].items()])
    (over,) = over_sizes(found.groups(), found.protocols, "accuracy")
    assert over.scores.index.tolist() == ["vit", "cnn"] and over.scores.columns.tolist() == list(errors)
    # Ten points ahead with 1,000 and as many behind with 10,000: in the middle of the two, on a scale of factors.
    assert over.crossings("accuracy") == [("cnn", "vit", pytest.approx(10**3.5))]
    text = tables.markdown(found)
    assert "below about 3,200 training images cnn is ahead of vit" in text and "accuracy % by training images" in text
    assert over_sizes(compared(*STUDY).groups(), {"p0": {}}, "accuracy") == []


def test_who_is_worse_who_as_good_and_of_whom_that_is_not_known():
    # Of 1,000 images: the same errors and five more; and errors elsewhere, too many for chance.
    found = compared(training("cnn", 10), training("vit", 15), training("mlp", 60, first=500))
    assert found.table["verdict"].tolist() == ["best", "undecided", "worse"]
    assert found.table["gap_to_best"].tolist() == pytest.approx([0, 0.005, 0.05])
    assert set(found.pairs["test"]) == {"McNemar"} and len(found.pairs) == 3
    pairs = found.pairs.set_index(["first", "second"])
    # Five images that only one gets wrong: 2 / 2^5, the largest of three, so not raised.
    assert pairs["p_value"]["cnn", "vit"] == pytest.approx(0.0625) == pairs["p_adjusted"]["cnn", "vit"]
    assert pairs["verdict"].tolist() == ["undecided", "better", "better"]
    assert found.table["margin"].tolist() == [0.005] * 3, "the best is not above 99 %"
    assert re.search(r"worse \(\d\.\d\d to \d\.\d\d\)", tables.markdown(found))
    # Whoever says what would not matter learns more: five images of a thousand are no two points.
    asked = compared(training("cnn", 10), training("vit", 15), training("mlp", 60, first=500), margin=2)
    assert asked.table["verdict"].tolist() == ["best", "equivalent", "worse"]
    assert "Equivalent: shown to be within 2 pp, as was asked for." in tables.markdown(asked)
    # What is decided needs no more; of one seed nobody knows what another would bring.
    assert found.table["images_needed"].notna().tolist() == [False, True, False]
    assert found.table["seeds_needed"].isna().all() and asked.table["images_needed"].isna().all()
    assert "test images in all would decide between cnn and vit" in tables.markdown(found)
    nearly_perfect = compared(training("cnn", 1), training("vit", 1))
    assert nearly_perfect.table["margin"].tolist() == [0.001, 0.001]
    assert nearly_perfect.table["verdict"].tolist() == ["best", "undecided"], "a thousand images cannot show so much"


@pytest.mark.parametrize(
    ("low", "high", "p_value", "margin", "word"),
    [
        (-0.004, 0.003, 0.5, 0.005, "equivalent"),
        (0.001, 0.004, 0.01, 0.005, "equivalent"),
        (0.001, 0.006, 0.01, 0.005, "better"),
        (-0.006, -0.001, 0.01, 0.005, "worse"),
        (-0.001, 0.006, 0.2, 0.005, "undecided"),
        (-0.001, 0.001, 0.2, None, "undecided"),
        (0.0, 0.0, 1.0, 0.0, "equivalent"),
    ],
)
def test_the_words_of_a_verdict(low, high, p_value, margin, word):
    assert verdicts.verdict(low, high, p_value, margin) == word


def test_letters_are_shared_by_those_that_were_not_told_apart():
    # Piepho's first example in its simplest form: neighbours are alike, ends are not.
    chain = {frozenset(pair) for pair in ("ac", "ad", "bd")}
    assert verdicts.letters("abcd", chain) == {"a": "a", "b": "ab", "c": "bc", "d": "c"}
    assert verdicts.letters("ab", set()) == {"a": "a", "b": "a"}
    everybody = {frozenset(pair) for pair in combinations("abcdefgh", 2)}
    assert list(verdicts.letters("abcdefgh", everybody).values()) == list("abcdefgh")
    found = compared(training("cnn", 10), training("vit", 15), training("mlp", 60, first=500))
    assert found.table["letters"].tolist() == ["a", "a", "b"]
    text = tables.markdown(found)
    assert "| cnn ᵃ " in text and "| mlp ᵇ " in text
    gone = compare([training("cnn", 10), training("mlp", 20)], Answers(gone="mlp"))
    assert gone.table["letters"].tolist() == ["", ""] and "Raised letters" not in tables.markdown(gone)


@given(pairs=st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda pair: pair[0] < pair[1])))
def test_two_share_a_letter_exactly_where_they_were_not_told_apart(pairs):
    labels = [str(number) for number in range(8)]
    found = verdicts.letters(labels, {frozenset(map(str, pair)) for pair in pairs})
    for first, second in combinations(range(8), 2):
        assert bool(set(found[str(first)]) & set(found[str(second)])) == ((first, second) not in pairs)
    assert found["0"].startswith("a")


def test_how_likely_a_training_of_one_is_better_than_one_of_another():
    rows = [training(name, wrong, seed=seed) for name, all_wrong in {"cnn": (10, 20, 30), "mlp": (20, 25, 40)}.items()
            for seed, wrong in enumerate(all_wrong)]  # fmt: skip
    (pair,) = compared(*rows).pairs.itertuples()
    # Of nine pairs of trainings the CNN is ahead in seven less one that are equal, which count half.
    assert (pair.first, pair.second) == ("cnn", "mlp") and pair.improvement == pytest.approx(6.5 / 9)
    (by_loss,) = compared(*rows, metric="loss").pairs.itertuples()
    assert by_loss.improvement == pytest.approx(pair.improvement), "less loss is better"
    assert compared(training("cnn", 1), training("mlp", 2)).pairs["improvement"].isna().all()


def test_other_metrics_have_a_margin_only_where_one_says_so():
    rows = [training(name, 10, seed=seed, metrics={"test/loss": loss + seed / 1e3, "test/f1": 0.9 + seed / 1e4})
            for name, loss in (("mlp", 0.1), ("cnn", 0.1005)) for seed in range(3)]  # fmt: skip
    assert "nothing is called equivalent" in tables.markdown(compared(*rows, metric="loss"))
    by_loss = compared(*rows, metric="loss", margin=0.1)
    assert by_loss.table["verdict"].tolist() == ["best", "equivalent"] and by_loss.table["margin"][0] == 0.1
    # F1 is a share, as accuracy is: its margin is in points.
    assert compared(*rows, metric="f1", margin=0.5).table["margin"].tolist() == [0.005, 0.005]


def test_repeated_trainings_are_held_against_each_other_by_images_and_seeds():
    found = compared(*[training("cnn", 10 + seed, seed=seed) for seed in range(3)],
                     *[training("mlp", 60 + seed, seed=seed, first=300) for seed in range(3)])  # fmt: skip
    assert set(found.pairs["test"]) == {"crossed"} and found.pairs["p_value"][0] < 0.001
    assert found.table["verdict"].tolist() == ["best", "worse"]
    gap = found.table.set_index("architecture").loc["mlp"]
    assert 0 < gap["gap_low"] < gap["gap_to_best"] < gap["gap_high"]
    assert re.fullmatch(r"worse \(\d\.\d\d to \d\.\d\d\)", tables.verdict("accuracy", gap))


def test_another_metric_ranks_and_is_tested_over_seeds():
    rows = [training(name, 10, seed=seed, metrics={"test/loss": loss + seed / 1e3})
            for name, loss in (("mlp", 0.1), ("cnn", 0.2)) for seed in range(3)]  # fmt: skip
    found = compared(*rows, metric="loss")
    assert found.table["architecture"].tolist() == ["mlp", "cnn"]
    assert set(found.pairs["test"]) == {"Welch"} and found.table["verdict"].tolist() == ["best", "worse"]
    assert compared(*rows, sort="architecture").table["architecture"].tolist() == ["cnn", "mlp"]


def test_limits_lie_around_what_they_are_of_however_many_trainings_there_are():
    # The newest ones, which alone are looked through where there are many, err much more than the others.
    many = [training("cnn", 400 if seed > MAX_TESTED // 2 else 10, seed=seed) for seed in range(MAX_TESTED + 15)]
    # So does the newest of a few, beside one of another architecture.
    for runs in (many, [training("cnn", wrong, seed=seed) for seed, wrong in enumerate((5, 5, 90))]):
        found = compared(*runs, training("mlp", 30))
        cnn = found.table.set_index("architecture").loc["cnn"]
        assert cnn["low"] < cnn["accuracy"] < cnn["high"]
        (pair,) = found.pairs.itertuples()
        assert pair.low <= pair.difference <= pair.high and pair.test == "crossed"
        assert pair.difference == pytest.approx(found.table["gap_to_best"].max())


def test_how_much_seeds_differ_counts_for_who_has_one_too():
    # Between two trainings of these it would be worse: but it is by no more than what seeds of the mlp differ by.
    assert compared(*STUDY).table["verdict"].tolist() == ["best", "undecided"]
    # What more images would not decide, more seeds would, told in all where one has more of them than the other.
    few = compared(*[training("cnn", wrong, seed=seed) for seed, wrong in enumerate((8, 11, 14))], training("vit", 15))
    said = tables.markdown(few)
    assert "would decide" in said and "more seed" not in said and few.table["images_needed"].max() > 1000
    alike = compared(training("mlp", 30), training("cnn", 10), training("mlp", 31, seed=1))
    assert alike.table["verdict"].tolist() == ["best", "worse"]


def test_protocols_are_never_mixed_and_the_difference_is_named():
    found = compared(*STUDY, training("vit", 1, split_seed=1))
    assert [list(rows["architecture"]) for _, rows in found.groups()] == [["cnn", "mlp"], ["vit"]]
    assert found.table["verdict"].tolist() == ["best", "undecided", "best"]
    assert "Protocol p1 differs from p0: split_seed 1, not 0." in found.notes


def test_another_recipe_and_another_data_set_are_never_averaged():
    other = training("mlp", 500, dataset="digits", dataset_sha256="def", config_key="d")
    found = compared(*STUDY, training("mlp", 400, recipe="c"), other)
    assert len(found.table) == 4
    assert len(set(found.table["label"][found.table["dataset"] == "mnist"])) == 3, "each row has a name of its own"


def test_trainings_recorded_without_a_protocol_are_compared_by_their_data():
    unknown = ("protocol", "protocol_fields", "budget")
    old = [replace(run, tags={k: v for k, v in run.tags.items() if k not in unknown}) for run in STUDY]
    found = compared(*old)
    assert len(found.groups()) == 1 and found.table["verdict"].tolist() == ["best", "undecided"]


def test_a_training_repeated_with_the_same_seed_counts_once():
    assert compared(*STUDY, *STUDY).table["seeds"].tolist() == [1, 2]


def test_notes_on_what_is_not_there():
    found = compared(*STUDY, training("vit", 0, status="FAILED"), training("vgg16", 0, status="RUNNING"),
                     training("cnn", 0, status="FAILED"))  # fmt: skip
    assert "Not in the table, as it failed: vit seed 0." in found.notes, "a later success is no failure"
    assert "Not in the table, as it is still running: vgg16 seed 0." in found.notes
    assert any(note.startswith("cnn had one seed: its interval covers other test images") for note in found.notes)
    gone = compare(STUDY, Answers(gone="mlp"))
    assert "The answers of mlp to the test images are not at hand, so it is not tested." in gone.notes
    assert gone.table["verdict"].tolist() == ["best", ""]


def test_what_was_spent_on_tuning_is_said_and_whether_it_was_equal():
    def tuned(trials: int, images: int) -> str:
        return json.dumps({"source": "runs:/1/recipe.json", "trials": trials, "images_seen": images})

    even = [training("cnn", 4, tuning=tuned(40, 90_000)), training("mlp", 9, tuning=tuned(400, 10_000))]
    (note,) = [note for note in compare(even, Answers()).notes if "tun" in note]
    assert note == (
        "Spent on tuning, on validation: cnn 40 trials that saw 90,000 training images; "
        "mlp 400 trials that saw 10,000 training images."
    )
    uneven = [training("cnn", 4, tuning=tuned(40, 100_000)), even[1], training("vit", 5)]
    notes = [note for note in compare(uneven, Answers()).notes if "tun" in note]
    assert "vit none, its recipe is that of its file" in notes[0]
    assert notes[1] == "cnn was tuned 10 times as much as mlp: the order may come of that."


def test_whether_tuning_changed_the_order_is_said_in_words():
    def tuned(own: float, best: float, **importance: float) -> str:
        return json.dumps({"own_accuracy": own, "val_accuracy": best, "importance": importance})

    runs = {
        "cnn": training("cnn", 1, tuning=tuned(0.97, 0.99, warmup=0.1, lr=0.8, dropout=0.06, augment=0.04)),
        "mlp": training("mlp", 1, tuning=tuned(0.96, 0.98)),
        "vit": training("vit", 1),
    }
    assert tuning.in_words(runs) == (
        "Tuning left the order on validation as it was: cnn, mlp. What mattered most: for cnn lr, warmup, dropout."
    )
    runs["mlp"] = training("mlp", 1, tuning=tuned(0.96, 0.995))
    assert "Tuning changed the order on validation, from cnn, mlp to mlp, cnn." in tuning.in_words(runs)


def test_of_many_rows_the_best_are_tested():
    found = compared(*[training("mlp", 10 + number, recipe=f"{number:04}") for number in range(100)])
    assert len(found.pairs) == MAX_TESTED_ROWS * (MAX_TESTED_ROWS - 1) / 2
    assert any(f"Only the best {MAX_TESTED_ROWS} of the 100" in note for note in found.notes)
    tables.show(found)


def test_the_terminal_shows_at_most_100_columns(capsys):
    names = ["faster_rcnn", "mobilenet_v2", "alexnet"]
    rows = [training(name, 10 + 200 * place, first=place, metrics={"test/map": 0.5, "test/map_50": 0.9})
            for place, name in enumerate(names)]  # fmt: skip
    tables.show(compared(*rows))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert "worse (" in out and "faster_rcnn †" in out and "mobilenet_v2 †" in out


@pytest.mark.parametrize("width", [80, 60])
@pytest.mark.parametrize("metric", ["accuracy", "loss", "train_s"])
def test_a_narrow_terminal_shows_less_but_cuts_nothing(capsys, monkeypatch, metric, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(tables, "WIDTH", width)
    rows = [training(name, 10 + 200 * place, seed=seed, first=place)
            for place, name in enumerate(["faster_rcnn", "mobilenet_v2"]) for seed in range(2)]  # fmt: skip
    tables.show(compared(*rows, metric=metric))
    table = capsys.readouterr().out.split("·")[0]
    assert max(map(len, table.splitlines())) <= width
    assert "faster_rcnn" in table and "mobilenet_v2" in table and "…" not in table


def test_a_metric_that_not_every_seed_has_is_no_mean_and_no_verdict():
    reached = {"mlp": [5.0, np.nan, np.nan], "cnn": [11.0, 11.0, 11.0]}
    rows = [training(name, 10, seed=seed, metrics={"time/to_99_s": seconds})
            for name, times in reached.items() for seed, seconds in enumerate(times)]  # fmt: skip
    found = compared(*rows, metric="to_99_s")
    assert found.table["verdict"].tolist() == ["best", ""] and "nan" not in tables.markdown(found)
    assert pd.isna(found.table.set_index("architecture").loc["mlp", "to_99_s"])


def test_names_are_shown_as_they_are(capsys):
    tables.show(compared(training("mlp", 10), replace(training("cnn", 20, status="FAILED"), name="cnn [/old]")))
    assert "it failed: cnn [/old]" in capsys.readouterr().out


def test_nothing_to_compare():
    with pytest.raises(InputError, match="no finished training"):
        compared()
    with pytest.raises(InputError, match=r"no finished training.*still running: cnn seed 0"):
        compared(training("cnn", 0, status="RUNNING"))
    with pytest.raises(InputError, match="choose another --metric"):
        compared(*STUDY, metric="map")


def test_every_format_holds_the_same_numbers(tmp_path):
    found = compared(*STUDY)
    for ending in (".csv", ".json", ".parquet", ".md"):
        tables.write(found, tmp_path / f"table{ending}")
    read = pd.read_csv(tmp_path / "table.csv", keep_default_na=True)
    pd.testing.assert_frame_equal(read[["accuracy", "low", "high"]], found.table[["accuracy", "low", "high"]])
    parquet = pd.read_parquet(tmp_path / "table.parquet")
    assert parquet["accuracy"].tolist() == found.table["accuracy"].tolist()
    assert json.loads((tmp_path / "table.json").read_text())[1]["accuracy"] == pytest.approx(0.975)
    assert "| architecture" in (tmp_path / "table.md").read_text()


def test_a_table_for_a_paper(tmp_path):
    rows = [training("faster_rcnn", 10, metrics={"test/map": 0.5, "test/map_50": 0.9}), training("mlp", 60, first=300)]
    found = compare([*rows, training("mlp", 62, seed=1, first=300)], Probabilities())
    tables.write(found, tmp_path / "table.tex")
    text = (tmp_path / "table.tex").read_text()
    assert r"\begin{tabular}{lrrrlrrr}" in text and r"\toprule" in text and r"\caption{mnist: 1,000 test images" in text
    assert r"faster\_rcnn \dag{} \textsuperscript{a} & 1 & 99.00 & 98.17--99.46 & best &" in text
    assert r"accuracy \%" in text and r"vote of 2 mlp \ddag{}" in text and "$\\pm$" in text
    table = text.split("\n% ")[0]
    assert table.isascii(), "what the fonts of pdflatex lack"


def test_an_unknown_ending_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(InputError, match=r"use one of \.csv, \.md, \.json, \.parquet"):
        tables.write(compared(*STUDY), tmp_path / "table.xls")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        tables.write(compared(*STUDY), tmp_path / "file" / "table.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match=r"folder\.csv cannot be written: it is a folder"):
        tables.write(compared(*STUDY), tmp_path / "folder.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.csv"]


def test_detectors_examined_on_different_scenes_are_never_one_group_for_their_own_scores():
    small, large = (
        {"metrics": {"test/map": 0.5, "test/map_50": 0.9}, "scenes": json.dumps({"canvas": canvas})}
        for canvas in (64, 96)
    )
    rows = [training("one", 1, recipe="a", **small), training("two", 2, recipe="b", **large)]
    by_accuracy, by_map = (compared(*rows, metric=metric) for metric in ("accuracy", "map"))
    assert len(by_accuracy.groups()) == 1 and len(by_map.groups()) == 2
    assert any("mAP is measured on scenes of their own" in note for note in by_accuracy.notes)
    assert any("differs from" in note and "scenes" in note for note in by_map.notes)


if __name__ == "__main__":
    GOLDEN.write_text(recorded_table())


# --- Names, and what a study's run shows ---------------------------------------------------------------------------


def variant(wrong: int, **params: str) -> TrainingRun:
    """A training with these params, and the model argument `kernel_size` among them."""
    arguments = json.dumps({"kernel_size": int(params.pop("kernel_size", 3)), "channels": [8, 16]})
    known = {"model_args": arguments, "seed": "0", "lr": "0.1", "epochs": "3", "weights": "none", **params}
    return replace(training("cnn", wrong, recipe=json.dumps(known)), params=known)


@pytest.mark.parametrize(
    ("others", "names"),
    [
        ([{"kernel_size": "5"}], ["cnn kernel_size=3", "cnn kernel_size=5"]),
        ([{"lr": "0.2"}, {"lr": "0.3"}], ["cnn lr=0.1", "cnn lr=0.2", "cnn lr=0.3"]),
        ([{"seed": "1"}], ["cnn recipe={recipe}", "cnn recipe={recipe}"]),
        ([{"architecture_sha256": 64 * "a"}], ["cnn", "cnn architecture_sha256=aaaaaa"]),
        (
            [{"weights": "imagenet", "lr": "0.2", "epochs": "5", "batch_size": "9", "freeze": "features"}],
            ["cnn weights=none epochs=3 lr=0.1 +2", "cnn weights=imagenet epochs=5 lr=0.2 +2"],
        ),
    ],
)
def test_variants_are_named_by_what_differs(others, names):
    found = compared(variant(1), *[variant(number, **params) for number, params in enumerate(others, start=2)])
    expected = [re.escape(name).replace(r"\{recipe\}", r".{1,6}") for name in names]
    assert all(re.fullmatch(name, label) for name, label in zip(expected, found.table["label"], strict=True))


def test_a_studys_run_shows_its_leader_what_failed_and_how_long_all_took():
    failed = training("vit", 1, status="FAILED")
    again = [training("alexnet", 9, status=status, metrics={"time/total_s": 5.0}) for status in ("FAILED", "FINISHED")]
    runs = [*STUDY, failed, *again]
    found = compared(*runs)
    shown = summary.metrics(runs, found)
    assert shown["study/trainings"] == 5 and shown["study/failures"] == 1 and shown["study/total_s"] == 5.0
    assert shown["study/best_accuracy"] == pytest.approx(found.table["accuracy"].max())
    assert summary.metrics([failed], None) == {"study/trainings": 1, "study/failures": 1, "study/total_s": 0}
    tags = summary.tags(found)
    assert tags["leader"] == found.table["label"][0]
    assert tables.title(found, "p0") in tags["mlflow.note.content"]
    many = compared(*[training("mlp", 10 + number, recipe=f"{number:04}") for number in range(100)])
    text = summary.description(many)
    assert len(text) <= summary.LONGEST and text.endswith("The rest is in comparison.md, among the artifacts.")


# --- Votes ---------------------------------------------------------------------------------------------------------


class Probabilities(Answers):
    """Those who are right are nearly sure of it, those who are wrong are not."""

    def read_predictions(self, training: TrainingRun, name: str) -> pd.DataFrame | None:
        table = super().read_predictions(training, name)
        if table is not None:
            right = np.where(table["prediction"] == "1", 0.9, 0.4)
            table = table.assign(probability_1=right, probability_7=1 - right)
        return table


def test_what_all_say_together_is_a_row_of_its_own(capsys):
    """Each wrong elsewhere, so that the others outvote it."""
    rows = [training(name, 20, first=100 * place) for place, name in enumerate(("mlp", "cnn", "vit"))]
    seeds = [training("cnn", 30, seed=seed, first=100 * (4 + seed)) for seed in (1, 2)]
    found = compare([*rows, *seeds], Probabilities())
    assert found.votes["label"].tolist() == ["vote of all 3", "vote of 3 cnn"]
    assert found.votes["accuracy"].tolist() == [1, 1] and found.votes["seeds"].tolist() == [1, 3]
    assert found.votes["verdict"].tolist() == ["better", "better"] and (found.votes["gap_high"] <= 0).all()
    assert found.votes["train_s"].tolist() == [30, 30] and found.votes["parameters"].tolist() == [3 * 79510] * 2
    # 0.9 twice and 0.4 once, where one is wrong.
    expected = -(940 * np.log(0.9) + 60 * np.log((0.9 + 0.9 + 0.4) / 3)) / 1000
    assert found.votes["loss"][0] == pytest.approx(expected)
    assert "| vote of all 3 ‡ " in tables.markdown(found) and "‡ An ensemble" in tables.markdown(found)
    tables.show(found)
    assert "vote of 3 cnn ‡" in capsys.readouterr().out
    assert len(found.table) == 3 and set(found.table["architecture"]) == {"mlp", "cnn", "vit"}, "no row of the table"


def test_a_vote_is_scored_as_a_training_is():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(5), 400)
    # Of the fifth class there is no image.
    targets = random.integers(0, 4, 400)
    expected = classification.scores(np.log(probabilities), targets)
    assert votes.scores(probabilities, targets) == pytest.approx(expected)


def test_who_did_best_on_validation_stands_for_the_seeds():
    class Validated(Results):
        def artifact(self, training: TrainingRun, name: str) -> str | None:
            return json.dumps({"val/accuracy": {0: 0.9, 1: 0.95}[int(training.run_id[-1])]})

    runs = [training("mlp", 3), training("mlp", 30, seed=1)]
    assert votes.best_of(runs, Validated()).run_id == "mlp1", "whoever is better on the test images"


def test_without_probabilities_nobody_votes():
    assert compared(*STUDY).votes.empty and "ensemble" not in tables.markdown(compared(*STUDY))
    assert "There is no vote: the probabilities of the answers are not at hand." in compared(*STUDY).notes
    alone = compared(training("mlp", 3), training("mlp", 20, recipe="wide"))
    assert alone.votes.empty and not any("vote" in note for note in alone.notes), "one of an architecture votes"
    assert compare([training("mlp", 3)], Probabilities()).votes.empty
    gone = Probabilities(gone="cnn")
    assert compare(STUDY, gone).votes.empty, "nobody to be judged against"
    assert compare(STUDY, Probabilities(), metric="loss").votes.empty
