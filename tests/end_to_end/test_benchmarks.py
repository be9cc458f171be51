"""The benchmarks print their tables, measured for real on a small data set, and say which promise is broken."""

import importlib
import re
import signal
import subprocess
import sys

import pytest
from support import only_run, write_idx_folder

from benchmarks import runs
from pipeline.cli import process
from pipeline.data import sources
from pipeline.files import default_root
from pipeline.tracking import queries
from pipeline.tracking.client import connect


def benchmark(name: str, *arguments: object, code: int | None = 0) -> tuple[str, str]:
    """What a benchmark prints; `code=None` where its exit code depends on how busy this machine is."""
    ended = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == (ended.returncode if code is None else code), ended.stderr
    return ended.stdout, ended.stderr


@pytest.fixture
def here(capsys, monkeypatch):
    """Run a benchmark within this process, which saves its start; what it says is the same."""

    def run(name: str, *arguments: object, code: int | None = 0) -> tuple[str, str]:
        module = importlib.import_module(f"benchmarks.{name}")
        monkeypatch.setattr(sys, "argv", [f"benchmarks.{name}", *map(str, arguments)])
        capsys.readouterr()
        ended = 0
        try:
            process.run(module.main, f"benchmarks.{name}")
        except SystemExit as end:
            ended = end.code
            if isinstance(ended, str):
                # What Python itself makes of it.
                print(ended, file=sys.stderr)
                ended = 1
        out, err = capsys.readouterr()
        assert code is None or (ended or 0) == code, f"{out}\n{err}"
        return out, err

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def rows(table: str) -> list[list[str]]:
    """The cells of all tables in a text, without their headers."""
    lines = [line for line in table.splitlines() if line.startswith("|") and not line.startswith("|:")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "architecture" not in line]


def test_accuracy_trains_once_and_names_each_broken_promise(environment, bars, here):
    first, reasons = here("accuracy", "--dataset", bars, "--models", "vit", "--epochs", 1, code=1)
    (row,) = rows(first)
    run = only_run()
    assert row[0] == "vit" and row[2] == f"{run.data.metrics['test/accuracy']:.2%}"
    assert "vit reaches" in reasons and "99.40% are promised" in reasons and "vit trains" not in reasons
    again, _ = here("accuracy", "--dataset", bars, "--models", "vit", "--epochs", 1, code=1)
    assert rows(again)[0][2] == row[2] and only_run().info.run_id == run.info.run_id


@pytest.mark.parametrize(
    ("mistake", "named"),
    [
        (("--dataset", "nowhere"), "nowhere"),
        (("--models", "nowhere"), "nowhere"),
        (("--epochs", "0"), "0"),
    ],
)
def test_a_mistake_is_one_sentence(environment, here, mistake, named):
    _, reason = here("accuracy", *mistake, code=2)
    assert reason.startswith("Error: ") and named in reason and reason.count("\n") == 1


def test_images_of_another_size_are_refused(environment, here, tmp_path):
    _, reason = here("accuracy", "--dataset", write_idx_folder(tmp_path / "small", side=20), code=2)
    assert "10 classes of 20 x 20 px" in reason and reason.count("\n") == 1


def test_a_study_that_lacks_architectures_breaks_a_promise(environment, command, here):
    _, reason = here("digits", code=2)
    assert "no finished one on digits" in reason and reason.count("\n") == 1
    command("main", "--dataset", "digits", "--models", "mlp", "--epochs", "30")
    table, broken = here("digits", code=1)
    assert "| mlp " in table and "vgg16 reaches 0.00%" in broken and "mlp reaches" not in broken


def test_speed_measures_both_loops_and_the_time_to_the_published_accuracy(environment, bars):
    out, _ = benchmark("speed", "--dataset", bars, "--models", "mlp", "--rounds", 1)
    speed, times = rows(out)
    pipeline, plain, ratio = (float(cell.replace(",", "")) for cell in speed[1:4])
    assert ratio == pytest.approx(pipeline / plain, abs=0.1) and 0.1 < float(speed[5]) < 10
    assert times[:3] == ["mlp", "97.44%", "?"]


def test_overhead_compares_an_epoch_with_its_bare_steps(environment, bars):
    out, _ = benchmark("overhead", "--dataset", bars, "--models", "mlp", "--rounds", 1, code=None)
    (row,) = rows(out)
    assert float(row[5]) > 0.1


def test_ablation_names_what_is_taken_away(environment, bars):
    out, _ = benchmark("ablation", "--dataset", bars, "--models", "mlp", "--epochs", 1)
    assert [row[1] for row in rows(out)] == ["the recipe", "without random shifts"]
    assert "accuracy on 10 validation images" in out


def test_transfer_lays_three_starts_beside_each_other(environment, bars, tmp_path, here):
    other = write_idx_folder(tmp_path / "other", seed=1)
    quick = ["--models", "mlp", "--seeds", 1, "--sizes", "20,40", "--val-size", 20, "--epochs", 2]
    out, _ = here("transfer", "--dataset", bars, "--source", other, *quick)
    assert [row[1] for row in rows(out)] == ["20", "40"] and "the 20 test images of bars" in out
    found = connect().search_runs(["0"], "tags.kind = 'training' and tags.dataset = 'bars'")
    starts = [(run.data.params["weights"], run.data.params["freeze"]) for run in found]
    assert sorted(set(starts)) == [
        ("models:/other-mlp/1", "features"),
        ("models:/other-mlp/1", "none"),
        ("none", "none"),
    ]


def test_serving_measures_every_way_to_a_model(champions, bars, here):
    out, _ = here("serving", "--dataset", bars, "--models", "bars-mlp", "--rounds", 1, code=None)
    bare, text, times = (float(cell) for cell in rows(out)[-1][1:4])
    assert times == pytest.approx(text / bare, rel=0.2) and "1 champions answer a drawing" in out


def test_statistics_counts_what_goes_wrong(here, monkeypatch):
    for name, few in {"RATES": (0.01,), "SPREADS": (0.1,), "SEEDS": (2, 3), "HISTORIES": 2}.items():
        monkeypatch.setattr(f"benchmarks.statistics.{name}", few)
    out, _ = here("statistics", "--repetitions", 2)
    table = [row for row in rows(out) if row[0] == "1.0%"]
    assert len(table) == 2 + 4 and all(0 <= float(cell) <= 1 for row in table for cell in row[4:])


def test_the_plain_loop_learns(environment, bars, here):
    out, _ = here("reference", "--dataset", bars, "--model", "mlp", "--epochs", 8)
    assert float(re.search(r"epoch 8: ([\d.]+)%", out)[1]) >= 90


def test_time_to_an_accuracy_is_that_of_the_first_epoch_that_reaches_it(environment, bars):
    run = runs.finished("mlp", sources.load(str(bars), default_root()), epochs=12)
    history = queries.epoch_metrics(run.info.run_id, "val/accuracy", "time/epoch_s")
    best = max(accuracy for accuracy, _ in history)
    epochs, seconds = runs.reached(best, run)
    assert history[epochs - 1][0] == best and all(accuracy < best for accuracy, _ in history[: epochs - 1])
    assert seconds == pytest.approx(sum(took for _, took in history[:epochs]))
    assert runs.reached(1.01, run) is None


def test_comparison_reads_as_many_runs_as_it_says(environment):
    out, broken = benchmark("comparison", "--runs", 40, "--rounds", 1, code=None)
    seconds = float(re.search(r"finished runs: ([\d.]+) s", out)[1])
    assert ("At most 3 s are promised." in broken) == (seconds > 3)
    assert re.search(r"^mlp +40 ", out, flags=re.MULTILINE) and "compare over 40 finished runs" in out


def test_memory_is_told_beside_the_bytes_of_the_images(environment, here, monkeypatch):
    monkeypatch.setattr("benchmarks.memory.COMMANDS", {"prepare": ["--examine", "false"]})
    out, broken = here("memory", "--images", 10_000, code=None)
    (row,) = (row for row in rows(out) if row[0] == "prepare")
    # So few images are less than chance in what a process holds.
    assert float(row[1]) > 0.1 and ("prepare takes" in broken) == (float(row[3]) > 2.5), out


def test_search(environment, here, bars):
    options = ["--dataset", bars, "--model", "mlp", "--trials", "3", "--seeds", "1", "--epochs", "3", "--limit", "60"]
    out, _ = here("search", *options, "--pruners", "median,none")
    assert "accuracy on 10 validation images" in out
    found = rows(out)
    assert [row[0] for row in found if len(row) > 4] == ["pruner", "median", "none"]
    assert found[-1][1:5] == ["3", "0", "0", "3.0"], "without pruning, three whole trainings"


def test_scale(environment, here, bars):
    out, _ = here(
        "scale",
        "--model",
        "mlp",
        "--dataset",
        bars,
        "--trainings",
        2,
        "--epochs",
        1,
        "--workers",
        "2",
        "--engines",
        "local",
    )
    (_, row) = (row for row in rows(out) if len(row) > 4)
    assert row[:2] == ["local", "2"] and row[3] == "1.00" and float(row[5]) > 10
