"""Searches that are killed and go on, and processes that share one."""

import json

import mlflow
import pytest
from support import only_run, pipeline_process, postgres, wait_for_line

SEARCH = ["tune", "--model", "mlp", "--epochs", "3", "--batch-size", "16", "--val-size", "20"]


def tried(client: mlflow.MlflowClient) -> dict[str, tuple[str, float, float]]:
    """Learning rate, validation accuracy and epochs of every trial."""
    runs = client.search_runs(["0"], "tags.kind = 'trial'")
    assert len({run.info.run_name for run in runs}) == len(runs), "each has one run"
    assert {run.info.status for run in runs} == {"FINISHED"}
    return {
        run.info.run_name: (
            run.data.params["lr"],
            run.data.metrics["trial/accuracy"],
            run.data.metrics["trial/epochs"],
        )
        for run in runs
    }


def test_a_search_that_was_killed_twice_ends_as_one_that_was_not(environment, command, bars):
    # Ten are drawn at random, those after them depend on these.
    search = [*SEARCH, "--dataset", str(bars), "--trials", "12", "--seeds", "1"]
    command(*search, "--root", str(environment / "once"))
    undisturbed, recipe = tried(mlflow.MlflowClient()), only_run("search").info.run_id
    found = json.loads(mlflow.artifacts.load_text(f"runs:/{recipe}/recipe.json"))
    command("clean", "--delete")
    mlflow.MlflowClient().delete_run(recipe)

    for number in (3, 11):
        process = pipeline_process(*search)
        wait_for_line(process, f"[{number}/12]")
        process.kill()
        process.communicate(timeout=60)
    out, _ = command(*search)
    assert "trial 2:" not in out
    assert tried(mlflow.MlflowClient()) == undisturbed
    run = only_run("search")
    again = json.loads(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/recipe.json"))
    assert run.info.status == "FINISHED" and again == found


@pytest.fixture
def storage():
    """A database of trials that several machines would reach."""
    with postgres("of this test") as server:
        yield f"postgresql://postgres:of%20this%20test@127.0.0.1:{server.port}/postgres"


def test_two_processes_share_a_search_that_was_killed(environment, bars, storage):
    search = [*SEARCH, "--dataset", str(bars), "--trials", "8", "--seeds", "1", "--storage", storage]
    killed = pipeline_process(*search)
    wait_for_line(killed, "[2/8]")
    killed.kill()
    killed.communicate(timeout=60)
    workers = [pipeline_process(*search) for _ in range(2)]
    said = []
    for worker in workers:
        out, err = worker.communicate(timeout=240)
        assert worker.returncode == 0, err
        said.append(out)
    assert all("trial " in out for out in said), "both had trials"
    assert sum("The recipe:" in out for out in said) == 1, "the last one says what was found"
    runs = tried(mlflow.MlflowClient())
    assert len([name for name in runs if "trial" in name]) == 8
    run = only_run("search")
    assert run.info.status == "FINISHED" and run.data.metrics["search/trials"] == 8
