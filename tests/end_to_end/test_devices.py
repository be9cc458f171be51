"""One training in several processes: the same losses, and nothing lost or left behind, whichever of them is killed."""

import os
import subprocess
import sys

import mlflow
import psutil
import pytest
from support import PROJECT, left_in, only_run, pipeline, pipeline_process, wait_for_line

from pipeline import config
from pipeline.data import sources
from pipeline.data.splits import split
from pipeline.training.devices import together
from pipeline.training.engine.loop import fit
from pipeline.training.engine.state import Training

OPTIONS = ["--epochs", "4", "--batch-size", "8", "--val-size", "20", "--precision", "fp32"]


def trainers(process: subprocess.Popen) -> list[psutil.Process]:
    """The processes that a command has begun to train with it."""
    return [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "spawn_main" in " ".join(child.cmdline())
    ]


@pytest.mark.parametrize(
    ("model", "arguments", "overrides"),
    [
        ("mlp", {}, {}),
        ("vit", {"dropout": 0}, {}),
        # Longer steps, or of fewer images, and what was rounded otherwise grows to 1e-3: in one process, too.
        ("cnn", {"dropout": 0}, {"optimizer": "sgd", "lr": 1e-3, "batch_size": 50}),
    ],
)
def test_two_processes_have_the_losses_of_one_to_the_fourth_decimal(bars, tmp_path, model, arguments, overrides):
    dataset = sources.load(str(bars), tmp_path)
    # Steps of 7 or 8 images: parts of a batch that differ.
    overrides = {"epochs": 4, "batch_size": 8, "precision": "fp32", "optimizer": "adamw"} | overrides
    chosen = config.resolve(
        model, dataset, weights="none", overrides=overrides, model_args=arguments, val_size=20, device="cpu"
    )
    splits = split(dataset, val_size=20, limit=0)
    alone = Training(chosen, splits)
    list(fit(alone))
    with together(chosen, dataset, 2, sync_batch_norm=True) as ranks:
        both = Training(chosen, splits, ranks=ranks)
        ranks.same_state(both.state_dict())
        list(fit(both))
    for first, second in zip(alone.history, both.history, strict=True):
        for name in ("train/loss", "val/loss", "val/accuracy"):
            assert first.metrics[name] == pytest.approx(second.metrics[name], abs=1e-4)


def test_what_two_began_one_ends_and_the_death_of_one_is_a_sentence(environment, bars):
    train = ["train", "--dataset", str(bars), "--model", "mlp", "--seed", "1", *OPTIONS, "--epochs", "400", "--resume"]
    process = pipeline_process(*train, "--devices", "2")
    wait_for_line(process, "epoch  20/400")
    (helper,) = helpers = trainers(process)
    helper.kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "--resume" in err and "Traceback" not in err, err
    psutil.wait_procs(helpers, timeout=20)
    assert not any(helper.is_running() for helper in helpers)

    process = pipeline_process(*train, "--devices", "3")
    wait_for_line(process, "epoch  60/400")
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143 and "Traceback" not in err, err

    out, _ = pipeline(*train)
    assert "Resuming run" in out and "epoch  60/400" not in out
    (run,) = mlflow.MlflowClient().search_runs(["0"], "tags.kind = 'training'")
    assert run.info.status == "FINISHED" and run.data.metrics["test/accuracy"] > 0.9
    assert len(mlflow.MlflowClient().get_metric_history(run.info.run_id, "val/loss")) == 400
    assert left_in(environment) == []


def test_torchrun_trains_and_tests_a_detector(environment, bars):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    train = [
        "-m",
        "pipeline",
        "train",
        "--dataset",
        str(bars),
        "--model",
        "faster_rcnn",
        "--limit",
        "40",
        "--epochs",
        "1",
    ]
    train += ["--batch-size", "8", "--val-size", "20", "--weights", "none", "--sync-batch-norm", "--resume"]
    for says in ("starting", "This training is finished"):
        done = subprocess.run(
            [*torchrun, *train],
            capture_output=True,
            text=True,
            timeout=200,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )
        assert done.returncode == 0 and done.stdout.count(says) == 1, done.stdout + done.stderr
    assert only_run().data.tags["processes"] == "2"


def test_a_batch_too_small_to_share_is_a_sentence(environment, bars, mistake):
    says = mistake("train", "--dataset", str(bars), "--model", "mlp", *OPTIONS, "--devices", "9", code=2)
    assert "fewer than two of the 7 images of a batch each" in says
