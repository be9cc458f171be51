"""The command that is offered in place of the one that was typed."""

import pytest

from pipeline.cli.launcher import with_changes

WORDS = ["run", ".", "-e", "train", "--env-manager", "uv"]


@pytest.mark.parametrize(
    "typed",
    [
        ["-P", "dataset=mnist"],
        ["-Pdataset=mnist"],
        ["--dataset", "mnist"],
        ["--dataset=my set"],
        ["-P", "val_size=9"],
        [],
    ],
)
def test_parameters_are_replaced_however_they_are_written(typed):
    changed = with_changes(
        [*WORDS[:4], *typed, *WORDS[4:]], {"dataset": "digits", "val_size": None}, "-P {name}={value}"
    )
    assert changed == [*WORDS, "-P", "dataset=digits"]


def test_parameters_of_longer_names_stay():
    kept = ["--weights-file", "dataset", "-P", "my_dataset=x"]
    assert with_changes(kept, {"dataset": "digits", "weights": None}, "--{name} {value}") == [
        *kept,
        "--dataset",
        "digits",
    ]
