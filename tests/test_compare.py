"""The table: what is averaged, what is not, and what is written."""

import json

import pandas as pd
import pytest

from pipeline import compare
from pipeline.errors import InputError


def trainings(*rows: tuple) -> pd.DataFrame:
    columns = ["architecture", "config_key", "recipe_key", "test/accuracy", "dataset"]
    rest = {"dataset_sha256": "abc", "test/f1": 0.9, "test/loss": 0.1, "time/train_s": 10.0, "cost/parameters": 79510.0}
    return pd.DataFrame([dict(zip(columns, row, strict=True)) | rest for row in rows])


STUDY = trainings(
    ("mlp", "a0", "a", 0.97, "mnist"),
    ("cnn", "b0", "b", 0.99, "mnist"),
    ("mlp", "a1", "a", 0.98, "mnist"),
)


def test_mean_and_standard_deviation_over_seeds_best_first():
    table = compare.summarise(STUDY)
    assert table["architecture"].tolist() == ["cnn", "mlp"]
    assert table["seeds"].tolist() == [1, 2]
    assert table["accuracy"].tolist() == pytest.approx([0.99, 0.975])
    assert table["accuracy_std"][1] == pytest.approx(0.00707, abs=1e-5) and pd.isna(table["accuracy_std"][0])
    text = compare.markdown(table)
    assert "99.00 %" in text and "97.50 ± 0.71 %" in text and "79,510" in text
    assert "dataset" not in text and "recipe" not in text


def test_another_recipe_and_another_data_set_are_never_averaged():
    table = compare.summarise(
        pd.concat([STUDY, trainings(("mlp", "c0", "c", 0.5, "mnist"), ("mlp", "d0", "a", 0.6, "digits"))])
    )
    assert len(table) == 4
    assert {"dataset", "recipe"} <= set(compare.readable(table).columns)


def test_a_training_repeated_with_the_same_seed_counts_once():
    table = compare.summarise(pd.concat([STUDY, STUDY]))
    assert table["seeds"].tolist() == [1, 2]


def test_nothing_to_compare():
    with pytest.raises(InputError, match="no finished training"):
        compare.summarise(pd.DataFrame())


def test_every_format_holds_the_same_numbers(tmp_path):
    table = compare.summarise(STUDY)
    for ending in (".csv", ".json", ".parquet", ".md"):
        compare.write(table, tmp_path / f"table{ending}")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "table.csv"), table)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "table.parquet"), table)
    assert json.loads((tmp_path / "table.json").read_text())[1]["accuracy"] == pytest.approx(0.975)
    assert (tmp_path / "table.md").read_text().startswith("| architecture")


def test_an_unknown_ending_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(InputError, match=r"use one of \.csv, \.md, \.json, \.parquet"):
        compare.write(compare.summarise(STUDY), tmp_path / "table.xls")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        compare.write(compare.summarise(STUDY), tmp_path / "file" / "table.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
