"""From finished trainings to one table: a row an architecture, mean and standard deviation over its seeds."""

from pathlib import Path

import pandas as pd

from pipeline.errors import InputError
from pipeline.files import replacing

# Column of the table: metric of the runs.
METRICS = {
    "accuracy": "test/accuracy",
    "f1": "test/f1",
    "loss": "test/loss",
    "train_s": "time/train_s",
    "parameters": "cost/parameters",
    "map": "test/map",
    "map_50": "test/map_50",
}
DETECTOR_NOTE = (
    "† A detector: the class of its best box in an image counts for accuracy and F1. Its loss is the cross-entropy of "
    "its boxes' scores, another quantity than a classifier's. mAP is measured on scenes made of test images, over "
    "overlaps of 50 to 95 %, and at 50 %."
)
WRITERS = {
    ".csv": lambda table, path: table.to_csv(path, index=False),
    ".md": lambda table, path: path.write_text(markdown(table) + "\n"),
    ".json": lambda table, path: table.to_json(path, orient="records", indent=2),
    ".parquet": lambda table, path: table.to_parquet(path, index=False),
}


def summarise(trainings: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds, best accuracy first.

    Trainings that differ in anything but the seed are never averaged: each recipe has a row of its own.

    Args:
        trainings: one row a training, as `tracking.finished_trainings` gives them.

    Returns:
        columns dataset, architecture, recipe, seeds, and for each of METRICS its mean `NAME` and `NAME_std`, which is
        empty for a single seed; mean average precision is empty for all but detectors.

    Raises:
        InputError: there is no finished training.
    """
    if trainings.empty:
        raise InputError("There is no finished training to compare: run `mlflow run . -e train` or a study first.")
    # A seed trained twice with the same config gives the same numbers and counts once.
    once = trainings.drop_duplicates("config_key")
    once = once.reindex(columns=once.columns.union(METRICS.values()))
    groups = once.groupby(["dataset", "dataset_sha256", "architecture", "recipe_key"], sort=False)
    table = groups.agg(
        seeds=("config_key", "size"),
        **{name: (metric, "mean") for name, metric in METRICS.items()},
        **{f"{name}_std": (metric, "std") for name, metric in METRICS.items() if name != "parameters"},
    ).reset_index()
    table = table.drop(columns="dataset_sha256").rename(columns={"recipe_key": "recipe"})
    table["parameters"] = table["parameters"].astype(int)
    return table.sort_values(["dataset", "accuracy"], ascending=[True, False]).reset_index(drop=True)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text for people, without the columns that say the same in every row."""

    def spread(name: str, scale: float, digits: int, unit: str = "") -> pd.Series:
        return pd.Series(
            [
                ""
                if pd.isna(mean)
                else f"{mean * scale:.{digits}f}" + ("" if pd.isna(std) else f" ± {std * scale:.{digits}f}") + unit
                for mean, std in zip(table[name], table[f"{name}_std"], strict=True)
            ]
        )

    text = pd.DataFrame(
        {
            "dataset": table["dataset"],
            "architecture": table["architecture"] + table["map"].notna().map({True: " †", False: ""}),
            "recipe": table["recipe"].str[:6],
            "seeds": table["seeds"],
            "accuracy": spread("accuracy", 100, 2, " %"),
            "F1": spread("f1", 100, 2, " %"),
            "loss": spread("loss", 1, 4),
            "mAP": spread("map", 1, 3),
            "mAP@.5": spread("map_50", 1, 3),
            "training time": spread("train_s", 1, 1, " s"),
            "parameters": [f"{count:,}" for count in table["parameters"]],
        }
    )
    if table["map"].isna().all():
        text = text.drop(columns=["mAP", "mAP@.5"])
    if table["dataset"].nunique() == 1:
        text = text.drop(columns="dataset")
    if not table.duplicated(["dataset", "architecture"]).any():
        text = text.drop(columns="recipe")
    return text


def markdown(table: pd.DataFrame) -> str:
    """The readable table in Markdown, with a note where it holds a detector."""
    text = readable(table).to_markdown(index=False, disable_numparse=True)
    return text if table["map"].isna().all() else f"{text}\n\n{DETECTOR_NOTE}"


def write(table: pd.DataFrame, path: Path) -> None:
    """Write the table in the format of the file's ending.

    Raises:
        InputError: another ending than csv, md, json or parquet, or a folder that cannot be written.
    """
    check_ending(path)
    try:
        with replacing(path) as temporary:
            WRITERS[path.suffix](table, temporary)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error


def check_ending(path: Path) -> None:
    """Refuse an output file of an unknown format.

    Raises:
        InputError: another ending than csv, md, json or parquet.
    """
    if path.suffix not in WRITERS:
        raise InputError(f"'{path}' has no ending that says a format: use one of {', '.join(WRITERS)}.")
