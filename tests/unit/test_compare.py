"""The comparison: what is averaged and what is not, what is held against each other, and what is written."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.comparison import summary, tables, tuning
from pipeline.comparison.compare import MAX_TESTED_ROWS, Comparison, compare
from pipeline.errors import InputError
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
            "config_key": f"{architecture}{recipe}{seed}{split_seed}",
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

    def read_predictions(self, training: TrainingRun) -> pd.DataFrame | None:
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

    python -m tests.unit.test_compare
    """
    assert recorded_table() == GOLDEN.read_text()


def recorded_table() -> str:
    """Two protocols, seeds, ties, a detector, one that failed."""
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


def test_who_is_tied_and_who_is_worse():
    # Of 1,000 images: the same errors and five more; and errors elsewhere, too many for chance.
    found = compared(training("cnn", 10), training("vit", 15), training("mlp", 60, first=500))
    assert found.table["verdict"].tolist() == ["best", "tied", "worse"]
    assert found.table["gap_to_best"].tolist() == pytest.approx([0, 0.005, 0.05])
    assert set(found.pairs["test"]) == {"McNemar"} and len(found.pairs) == 3
    pair = found.pairs.set_index(["first", "second"]).loc[("cnn", "vit")]
    # Five images that only one gets wrong: 2 / 2^5, the largest of three, so not raised by Holm.
    assert pair["p_value"] == pytest.approx(0.0625) and pair["p_holm"] == pytest.approx(0.0625)
    assert "worse by 5.00 pp, p < 0.001" in tables.markdown(found)


def test_repeated_trainings_are_held_against_each_other_by_images_and_seeds():
    found = compared(*[training("cnn", 10 + seed, seed=seed) for seed in range(3)],
                     *[training("mlp", 60 + seed, seed=seed, first=300) for seed in range(3)])  # fmt: skip
    assert set(found.pairs["test"]) == {"crossed"} and found.pairs["p_value"][0] < 0.001
    assert found.table["verdict"].tolist() == ["best", "worse"]
    gap = found.table.set_index("architecture").loc["mlp"]
    assert 0 < gap["gap_low"] < gap["gap_to_best"] < gap["gap_high"]
    assert "(behind by " in tables.verdict_with_interval("accuracy", gap)


def test_another_metric_ranks_and_is_tested_over_seeds():
    rows = [training(name, 10, seed=seed, metrics={"test/loss": loss + seed / 1e3})
            for name, loss in (("mlp", 0.1), ("cnn", 0.2)) for seed in range(3)]  # fmt: skip
    found = compared(*rows, metric="loss")
    assert found.table["architecture"].tolist() == ["mlp", "cnn"]
    assert set(found.pairs["test"]) == {"Welch"} and found.table["verdict"].tolist() == ["best", "worse"]
    assert compared(*rows, sort="architecture").table["architecture"].tolist() == ["cnn", "mlp"]


def test_protocols_are_never_mixed_and_the_difference_is_named():
    found = compared(*STUDY, training("vit", 1, split_seed=1))
    assert [list(rows["architecture"]) for _, rows in found.groups()] == [["cnn", "mlp"], ["vit"]]
    assert found.table["verdict"].tolist() == ["best", "worse", "best"]
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
    assert len(found.groups()) == 1 and found.table["verdict"].tolist() == ["best", "worse"]


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
    assert "worse by 20.00 pp, p < 0.001" in out and "faster_rcnn †" in out and "mobilenet_v2 †" in out


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


def test_an_unknown_ending_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(InputError, match=r"use one of \.csv, \.md, \.json, \.parquet"):
        tables.write(compared(*STUDY), tmp_path / "table.xls")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        tables.write(compared(*STUDY), tmp_path / "file" / "table.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


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
    assert tables.title(found, "p0", found.table) in tags["mlflow.note.content"]
    many = compared(*[training("mlp", 10 + number, recipe=f"{number:04}") for number in range(100)])
    text = summary.description(many)
    assert len(text) <= summary.LONGEST and text.endswith("The rest is in comparison.md, among the artifacts.")
