"""Bad weather: a server that is away, slow or forgetful, hosts that change, processes that are killed.

Whatever happens, in the end there are one run, one model and one version, with the values of an undisturbed training.
"""

import random
import subprocess
import time
from collections.abc import Iterator

import pytest
from mlflow.tracking import MlflowClient
from support import PROJECT, left_in, pipeline, pipeline_process, tracking_server, wait_for_line

from benchmarks.proxy import Weather, proxy
from benchmarks.weather import recorded
from pipeline.files import ROOT_VARIABLE
from pipeline.tracking.client import open_client
from pipeline.tracking.failures import ServerAway

OPTIONS = ["train", "--model", "cnn", "--epochs", "15", "--batch-size", "8", "--val-size", "20"]


def only_training(uri: str) -> dict:
    """What is recorded of the only training, of which there are one run, one model and one version."""
    client = MlflowClient(uri)
    (run,) = client.search_runs(["0"], "tags.kind = 'training'")
    (model,) = client.search_logged_models(["0"])
    (version,) = client.search_model_versions()
    assert str(model.status) == "READY" and version.status == "READY" and version.run_id == run.info.run_id
    assert run.info.status == "FINISHED"
    assert len(run.inputs.dataset_inputs) == 3 and len(run.outputs.model_outputs) == 1
    assert [m.step for m in client.get_metric_history(run.info.run_id, "val/loss")] == list(range(1, 16))
    return recorded(uri)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, bars) -> dict:
    """What a training records that nothing disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    uri = f"sqlite:///{folder}/mlflow.db"
    store = {"MLFLOW_TRACKING_URI": uri, ROOT_VARIABLE: str(folder / "root"), "PYTHONPATH": str(PROJECT)}
    pipeline(*OPTIONS, "--dataset", str(bars), env=store, cwd=folder)
    return only_training(uri)


@pytest.fixture
def weather(environment, monkeypatch) -> Iterator[Weather]:
    """The weather between this process, those it starts, and a real server."""
    with tracking_server(environment) as server, proxy(server) as found:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", found.uri)
        # A server that is away is noticed sooner, so that the tests take less time; the sender asks again anyway.
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        yield found


def wait_for_epoch(process: subprocess.Popen, number: int) -> None:
    """Read what a training says until it says this epoch."""
    wait_for_line(process, f"epoch {number:>2}/")


def test_a_server_that_goes_away_in_the_middle_and_comes_back(environment, weather, bars, undisturbed):
    process = pipeline_process(*OPTIONS, "--dataset", str(bars))
    wait_for_epoch(process, 3)
    weather.away = True
    wait_for_epoch(process, 15)
    # It has trained to the end meanwhile, and waits.
    time.sleep(5)
    assert process.poll() is None
    weather.away = False
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert err.count("Not recorded now (no connection)") == 1 and "answers again" in out
    assert only_training(weather.uri) == undisturbed and left_in(environment) == []


def test_a_start_without_a_server_and_sync(environment, weather, bars, undisturbed):
    weather.away = True
    _, err = pipeline(*OPTIONS, "--dataset", str(bars), "--wait", "1s", code=1)
    assert err.splitlines()[-1].startswith("Error: Trained, not yet recorded: no connection.") and "-e sync" in err
    _, err = pipeline("sync", "--wait", "1s", code=1)
    assert "not yet recorded" in err
    weather.away = False
    out, _ = pipeline("sync")
    assert f"Sent: cnn epochs=15 batch_size=8 val_size=20 seed 0 to {weather.uri}." in out
    assert only_training(weather.uri) == undisturbed and left_in(environment) == []
    out, _ = pipeline("sync")
    assert "Nothing is left to send." in out


def test_a_study_without_a_server_is_trained_and_sent_later(environment, weather, bars):
    study = ["main", "--models", "mlp,cnn", "--epochs", "2", "--val-size", "20", "--dataset", str(bars)]
    weather.away = True
    out, err = pipeline(*study, "--wait", "1s", code=1)
    assert out.count("test images right") == 2 and "Trained, not yet recorded" in err
    weather.away = False
    out, _ = pipeline(*study)
    assert out.count("finished before") == 2 and "\nmlp " in out and "\ncnn " in out
    client = MlflowClient(weather.uri)
    (parent,) = client.search_runs(["0"], "tags.kind = 'study'")
    children = client.search_runs(["0"], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert [run.info.status for run in [parent, *children]] == ["FINISHED"] * 3 and left_in(environment) == []


def test_a_silent_server_is_asked_once(environment, weather, monkeypatch):
    weather.delay = 3600
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with pytest.raises(ServerAway, match=f"The tracking server at {weather.uri} does not answer: .*timed out"):
        open_client(weather.uri)
    assert weather.requests == 1


def test_errors_lost_answers_and_cut_uploads(environment, weather, bars, undisturbed, monkeypatch):
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    weather.forgetful, weather.cut = True, 0.1
    pipeline(*OPTIONS, "--dataset", str(bars))
    weather.forgetful, weather.cut = False, 0.0
    assert only_training(weather.uri) == undisturbed and left_in(environment) == []


def test_a_command_whose_run_is_created_but_not_answered(weather, bars, monkeypatch):
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    weather.forgetful = True
    pipeline("prepare", "--dataset", str(bars))
    weather.forgetful = False
    (run,) = MlflowClient(weather.uri).search_runs(["0"])
    assert run.info.status == "FINISHED"


@pytest.mark.timeout(600)
def test_killed_at_any_instant_of_recording(environment, weather, bars, undisturbed):
    """Every request takes a while, so that most of these kills fall into the sending of the results."""
    weather.delay = 0.1
    chance = random.Random(0)
    process = pipeline_process(*OPTIONS, "--dataset", str(bars))
    wait_for_epoch(process, 15)
    for _ in range(3):
        time.sleep(chance.uniform(0, 4))
        process.kill()
        process.communicate(timeout=60)
        process = pipeline_process(*OPTIONS, "--dataset", str(bars), "--resume")
        # Until it has imported everything, nothing is sent.
        for line in process.stdout:
            if "Resuming" in line or "finished" in line:
                break
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert only_training(weather.uri) == undisturbed and left_in(environment) == []


def test_a_study_that_is_begun_twice_is_trained_once(environment, weather, bars):
    study = ["main", "--models", "cnn", "--epochs", "300", *OPTIONS[5:], "--dataset", str(bars)]
    process = pipeline_process(*study)
    try:
        wait_for_line(process, "epoch   2/300")
        _, err = pipeline(*study, "--root", str(environment / "elsewhere"), code=2)
        assert "This study is being run by" in err and f"process {process.pid}" in err
    finally:
        process.terminate()
        process.communicate(timeout=60)
    (run,) = MlflowClient(weather.uri).search_runs(["0"], "tags.kind = 'study'")
    assert run.info.status == "KILLED"
