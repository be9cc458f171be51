"""Every metric of a comparison, each once: table, files, report and notes follow from it."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import InputError

# A detection counts as an answer from this score on, and as the right one from this overlap with the truth on.
SCORE_THRESHOLD = 0.5
IOU_THRESHOLD = 0.5


@dataclass(frozen=True)
class Metric:
    """A column of the comparison.

    Attributes:
        logged: the name under which a training logs it.
        heading: what the report calls it, with its unit.
        higher_is_better: whether the larger value wins.
        percent: whether it is a share, shown times 100.
        count: whether it is shown as a whole number.
        constant: whether it is the same for every seed, so that it has no spread.
        of_scores: whether a detector computes it from its boxes' scores, which makes it another quantity than a
            classifier's.
        on_scenes: whether it is measured on a detector's scenes, so that only those of the same scenes compare.
    """

    logged: str
    heading: str
    higher_is_better: bool = False
    percent: bool = False
    count: bool = False
    constant: bool = False
    of_scores: bool = False
    on_scenes: bool = False

    @property
    def on_test_images(self) -> bool:
        """Whether the test images are what it is measured on."""
        return self.logged.startswith("test/")


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("test/accuracy", "accuracy, %", higher_is_better=True, percent=True),
    "f1": Metric("test/f1", "F1, %", higher_is_better=True, percent=True),
    "loss": Metric("test/loss", "loss", of_scores=True),
    "calibration_error": Metric("test/calibration_error", "calibration error, %", percent=True, of_scores=True),
    "calibrated_error": Metric(
        "test/calibrated_error", "calibration error when registered, %", percent=True, of_scores=True
    ),
    "corrupted_accuracy": Metric(
        "test/corrupted_accuracy", "accuracy on corrupted, %", higher_is_better=True, percent=True
    ),
    "map": Metric("test/map", "mAP", higher_is_better=True, on_scenes=True),
    "map_50": Metric("test/map_50", "mAP at 50 %", higher_is_better=True, on_scenes=True),
    "train_s": Metric("time/train_s", "training, s"),
    "to_95_s": Metric("time/to_95_s", "to 95 %, s"),
    "to_98_s": Metric("time/to_98_s", "to 98 %, s"),
    "to_99_s": Metric("time/to_99_s", "to 99 %, s"),
    "parameters": Metric("cost/parameters", "parameters", count=True, constant=True),
    "flops": Metric("cost/flops", "FLOPs an image", count=True, constant=True),
    "size_mb": Metric("cost/size_mb", "size, MB", constant=True),
    "peak_memory_mb": Metric("cost/peak_memory_mb", "peak memory, MB"),
    "latency_p50_ms": Metric("cost/latency_p50_ms", "latency p50, ms"),
    "latency_p95_ms": Metric("cost/latency_p95_ms", "latency p95, ms"),
    "images_per_second": Metric("cost/images_per_second", "images a second", higher_is_better=True),
    "threads": Metric("cost/threads", "threads", count=True, constant=True),
    "energy_j": Metric("cost/energy_j", "energy, J"),
}


def is_of_scenes(score: str) -> bool:
    """Whether a score, such as `map_50` or `ap_7`, is one that `metrics/detection.py` measures on scenes."""
    return score.split("_")[0] in ("map", "mar", "ap")


LOGGED = {name: metric.logged for name, metric in METRICS.items()}
HIGHER_IS_BETTER = frozenset(name for name, metric in METRICS.items() if metric.higher_is_better)
PERCENT = frozenset(name for name, metric in METRICS.items() if metric.percent)
CONSTANT = frozenset(name for name, metric in METRICS.items() if metric.constant)
OF_SCORES = frozenset(name for name, metric in METRICS.items() if metric.of_scores)
COUNTS = frozenset(name for name, metric in METRICS.items() if metric.count)


def check_columns(metric: str, sort: str = "") -> None:
    """Refuse what is no column of a comparison's table.

    Raises:
        InputError: which there are.
    """
    for option, name in (("--metric", metric), ("--sort", sort)):
        known = [*METRICS, *(["architecture", "seeds", "dataset"] if option == "--sort" else [])]
        if name and name not in known:
            raise InputError(f"{option} cannot be '{name}': choose one of {', '.join(known)}.")


def within(metric: str, margin: float) -> str:
    """A difference of a metric as one would type it."""
    return f"{100 * margin:g} pp" if metric in PERCENT else f"{margin:g}"
