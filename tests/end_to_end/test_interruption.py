"""Ctrl-C, SIGTERM and kill -9 in the middle of a training, and what is left and goes on afterwards."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient
from safetensors.torch import load_file
from support import PROJECT, left_in, only_run, pipeline, pipeline_process, wait_for_line

from pipeline import config
from pipeline.config import TRAINING_VERSION, TrainConfig
from pipeline.data import sources
from pipeline.errors import InputError
from pipeline.files import ROOT_VARIABLE
from pipeline.tracking.sender import Sender
from pipeline.training import continuation
from pipeline.training.engine.checkpoint import Checkpoint

OPTIONS = ["--model", "cnn", "--epochs", "6", "--batch-size", "8", "--val-size", "20", "--model-args", "dropout=0.5"]
COMPARED = ("train/loss", "val/loss", "val/accuracy", "val/f1", "train/lr")


def killed(*arguments: str, after: str = "epoch 2/6") -> None:
    """Kill a command when it has said this."""
    process = pipeline_process(*arguments)
    wait_for_line(process, after)
    process.kill()
    process.communicate(timeout=60)


def outcome(client: MlflowClient, folder: Path, run_id: str) -> tuple[dict, dict]:
    """Every metric that does not measure time, with its steps, and the weights of the registered model."""
    history = {name: [(m.step, m.value) for m in client.get_metric_history(run_id, name)] for name in COMPARED}
    final = {name: value for name, value in client.get_run(run_id).data.metrics.items() if name.startswith("test/")}
    (version,) = (v for v in client.search_model_versions("name = 'bars-cnn'") if v.run_id == run_id)
    (file,) = folder.joinpath("mlruns").rglob(f"{version.source.split('/')[-1]}/**/weights.safetensors")
    return history | final, load_file(file)


@pytest.fixture(scope="module")
def reference(tmp_path_factory, bars):
    """Metrics and weights of a training that was never interrupted."""
    folder = tmp_path_factory.mktemp("reference")
    store = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        ROOT_VARIABLE: str(folder / "root"),
        "PYTHONPATH": str(PROJECT),
    }
    pipeline("train", "--dataset", str(bars), *OPTIONS, env=store, cwd=folder)
    client = MlflowClient(store["MLFLOW_TRACKING_URI"])
    (run,) = client.search_runs(["0"])
    return outcome(client, folder, run.info.run_id)


# On Ctrl-C the launcher adds a SIGTERM to the terminal's SIGINT.
@pytest.mark.parametrize("numbers", [[signal.SIGKILL], [signal.SIGTERM], [signal.SIGINT, signal.SIGTERM]])
def test_resuming_ends_as_if_nothing_had_happened(environment, command, bars, reference, numbers):
    metrics, weights = reference
    process = pipeline_process("train", "--dataset", str(bars), *OPTIONS)
    wait_for_line(process, "epoch 2/6")
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.05)
    _, err = process.communicate(timeout=60)
    client = MlflowClient()
    cut = only_run()
    if numbers == [signal.SIGKILL]:
        assert cut.info.status == "RUNNING"
    else:
        assert cut.info.status == "KILLED"
        assert process.returncode == 128 + numbers[0] and "--resume" in err and "Traceback" not in err
    assert len(client.get_metric_history(cut.info.run_id, "val/loss")) < 6

    out, _ = command("train", "--dataset", str(bars), *OPTIONS, "--resume")
    assert f"Resuming run {cut.info.run_id}" in out and "epoch 1/6" not in out
    run = client.get_run(cut.info.run_id)
    assert run.info.status == "FINISHED"
    resumed_metrics, resumed_weights = outcome(client, environment, cut.info.run_id)
    assert resumed_metrics == metrics
    assert all((weights[name] == resumed_weights[name]).all() for name in weights)
    assert left_in(environment) == [], "a finished run needs no checkpoint"


def test_a_killed_study_is_continued_where_it_stopped(environment, command, bars):
    options = ["main", "--dataset", str(bars), "--models", "mlp,cnn", "--epochs", "6", "--batch-size", "8"]
    killed(*options, "--val-size", "20", after="cnn          epoch 2/6")
    out, _ = command(*options, "--val-size", "20")
    assert "mlp seed 0: finished before" in out and "cnn seed 0: resuming" in out and "epoch 1/6" not in out
    study = only_run("study")
    runs = mlflow.MlflowClient().search_runs(["0"], "tags.kind = 'training'")
    assert study.info.status == "FINISHED" and [run.info.status for run in runs] == ["FINISHED"] * 2


def test_what_was_killed_before_it_knew_of_its_run_goes_on_in_it(environment, command, bars):
    options = ["--dataset", str(bars), *OPTIONS[:2], "--epochs", "6", "--batch-size", "8", "--val-size", "20"]
    killed("train", *options)
    (journal,) = environment.glob("**/journal.db")
    # As if the server's answer had come too late to be written down.
    with closing(sqlite3.connect(journal)) as database, database:
        database.execute("DELETE FROM about WHERE name IN ('run_id', 'experiment_id')")
        database.execute("UPDATE records SET sent = 0")
    out, _ = command("train", *options, "--resume")
    assert "epoch 1/6" not in out and "epoch 3/6" in out
    assert only_run().info.status == "FINISHED" and left_in(environment) == []


def test_a_run_that_is_being_trained_is_not_resumed(environment, mistake, bars):
    process = pipeline_process("train", "--dataset", str(bars), *OPTIONS[:2], "--epochs", "500", "--val-size", "20")
    try:
        wait_for_line(process, "epoch   2/500")
        more = ["--epochs", "500", "--val-size", "20", "--resume"]
        says = mistake("train", "--dataset", str(bars), *OPTIONS[:2], *more, code=2)
        assert "is being trained by another process" in says
        assert only_run().info.status == "RUNNING"
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_a_failure_after_the_training_does_not_lose_it(environment, command, bars):
    options = ["--dataset", str(bars), *OPTIONS[:2], "--epochs", "3", "--val-size", "20"]
    # The artifact store cannot be written: a file stands where its folder should be.
    (environment / "mlruns").write_text("")
    _, err = pipeline("train", *options, code=1)
    assert "Trained, not yet recorded" in err and "-e sync" in err
    (environment / "mlruns").unlink()
    out, _ = command("train", *options, "--resume")
    assert "This training is finished" in out and "epoch" not in out, "nothing is trained again"
    run = only_run()
    assert run.info.status == "FINISHED" and "failure" not in run.data.tags
    assert MlflowClient().get_model_version("bars-cnn", "1").run_id == run.info.run_id
    assert left_in(environment) == []


def test_a_new_host_name_goes_on_with_what_is_there(environment, command, bars, monkeypatch):
    options = ["--dataset", str(bars), *OPTIONS[:2], "--epochs", "6", "--batch-size", "8", "--val-size", "20"]
    killed("train", *options)
    renamed = ["unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh"]
    started = [*renamed, sys.executable, "-m", "pipeline", "train", *options, "--resume"]
    resumed = subprocess.run(started, capture_output=True, text=True, check=False)
    if resumed.returncode and "unshare" in resumed.stderr:
        pytest.skip("this machine lets nobody change its name")
    assert resumed.returncode == 0 and "epoch 1/6" not in resumed.stdout, resumed.stderr
    run = only_run()
    assert run.info.status == "FINISHED" and run.data.tags["owner"].endswith("@elsewhere")


def test_where_the_checkpoint_is_not_at_hand_an_expired_run_is_closed(environment, command, bars, monkeypatch):
    options = ["--dataset", str(bars), *OPTIONS[:2], "--epochs", "6", "--batch-size", "8", "--val-size", "20"]
    killed("train", *options)
    elsewhere = [*options, "--resume", "--root", str(environment / "elsewhere")]
    _, err = command("train", *elsewhere, code=2)
    assert "is being trained by" in err and "its lease ends" in err
    old = only_run()
    expired = json.loads(old.data.tags["lease"]) | {"until": time.time() - 1}
    MlflowClient().set_tag(old.info.run_id, "lease", json.dumps(expired))
    out, _ = command("train", *elsewhere)
    assert "no interrupted training of these options: starting" in out
    assert MlflowClient().get_run(old.info.run_id).info.status == "KILLED"


def test_a_node_waits_for_the_lease_of_one_that_was_lost(environment, bars, caplog):
    dataset = sources.load(str(bars), environment / "root")
    wanted = config.resolve("mlp", dataset, weights="none", overrides={}, device="cpu")
    tags = {"kind": "training", "config_key": wanted.key, "mlflow.runName": "mlp seed 0"}
    lease = json.dumps({"holder": "another", "who": "somebody on a lost node", "until": time.time() + 4})
    client = MlflowClient()
    run = client.create_run("0", tags={**tags, "lease": lease})
    with Sender({}) as sender:
        with pytest.raises(InputError, match="is being trained by somebody on a lost node"):
            continuation.find_training(wanted, continuation.find_place(environment / "root"), sender, study=None)
        place = continuation.find_place(environment / "root", patient=True)
        standing = continuation.find_training(wanted, place, sender, study=None)
    assert standing.journal is None and not standing.finished
    assert client.get_run(run.info.run_id).info.status == "KILLED"


def test_nothing_to_resume_starts_anew(environment, command, bars):
    out, _ = command("train", "--dataset", str(bars), *OPTIONS[:2], "--epochs", "1", "--val-size", "20", "--resume")
    assert "no interrupted training of these options: starting" in out
    assert only_run().info.status == "FINISHED"


def test_a_checkpoint_is_replaced_whole(tmp_path, monkeypatch):
    import torch

    checkpoint = Checkpoint(tmp_path)
    checkpoint.save(training={"history": [1]}, config={}, elapsed=1.0)
    monkeypatch.setattr(torch, "save", lambda content, path: (path.write_bytes(b"half"), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        checkpoint.save(training={"history": [1, 2]}, config={}, elapsed=2.0)
    assert checkpoint.load()["training"] == {"history": [1]}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_training_cut_under_another_version_of_the_loop_is_refused_in_a_sentence(
    environment, command, mistake, bars, monkeypatch
):
    options = ["train", "--dataset", str(bars), *OPTIONS]
    killed(*options)
    monkeypatch.setattr(TrainConfig.__init__, "__defaults__", ("", TRAINING_VERSION + 1, ""))
    assert "was interrupted under another version of the training loop" in mistake(*options, "--resume", code=2)
