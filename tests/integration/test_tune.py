"""Searches for recipes: what they leave, what goes wrong in a trial, and trainings with what was found."""

import json
import re

import mlflow
from support import left_in, only_run

from pipeline.search import trial

SMALL = ["--val-size", "20", "--batch-size", "16", "--seeds", "1"]


def trials() -> list[mlflow.entities.Run]:
    return mlflow.MlflowClient().search_runs(["0"], "tags.kind = 'trial'")


def test_a_search_of_two_architectures_leaves_recipes_and_nothing_in_the_way(environment, command, mistake, bars):
    small = ["tune", "--dataset", str(bars), *SMALL, "--epochs", "2"]
    out, _ = command(*small, "--models", "mlp,cnn", "--trials", "3", "--pruner", "none")
    searches = mlflow.MlflowClient().search_runs(["0"], "tags.kind = 'search'")
    assert {run.data.tags["architecture"] for run in searches} == {"mlp", "cnn"}
    for run in searches:
        assert run.info.status == "FINISHED" and "batch_size" not in run.data.tags
        files = {file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
        assert {"recipe.json", "trials.csv", "history.png", "expected_accuracy.png", "summary.md"} <= files
        # Both see 3 x 2 epochs of 100 images, and as much as it takes to try the best with another seed.
        assert run.data.metrics["search/trials"] == 3 and run.data.metrics["search/images_seen"] in (800, 1000)
        found = json.loads(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/recipe.json"))
        assert found["recipe"]["epochs"] == 2 and found["recipe"]["batch_size"] == 16
    assert "trial 0: lr=0.004 weight_decay=0.05" in out, "the recipe's own values come first"
    assert "Validation was looked at" in out and "the test images were not looked at" in out
    for run in trials():
        assert not any(name.startswith("test") for name in run.data.metrics) and "mlflow.parentRunId" in run.data.tags
    assert mlflow.MlflowClient().search_registered_models() == []
    assert "There is no finished training to compare" in mistake("compare", code=2)
    assert left_in(environment) == []

    ended = len(trials())
    out, _ = command(*small, "--model", "mlp", "--trials", "3", "--pruner", "none", "--images", "600")
    assert "trial 0" not in out and len(trials()) == ended, "what is done is not done again"
    out, _ = command("clean", "--delete")
    assert out.count("a trial of a search") == ended and "search" not in re.sub("a trial of a search", "", out)
    assert trials() == []


def test_a_trial_that_fails_is_a_failed_trial_and_nothing_more(environment, command, bars, monkeypatch):
    really, begun = trial.Training, []

    def fails(config, *arguments):
        begun.append(config)
        if len(begun) == 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return really(config, *arguments)

    monkeypatch.setattr(trial, "Training", fails)
    small = [*SMALL[:-2], "--seeds", "0", "--epochs", "1"]
    out, _ = command("tune", "--model", "mlp", "--dataset", str(bars), *small, "--trials", "3")
    assert "failed: The GPU has not enough memory for this" in out and "2 complete, 0 pruned, 1 failed" in out
    assert sorted(run.info.status for run in trials()) == ["FAILED", "FINISHED", "FINISHED"]
    assert only_run("search").info.status == "FINISHED" and left_in(environment) == []


def test_where_every_trial_diverges_the_reason_is_said(environment, mistake, bars):
    small = [*SMALL[:-2], "--epochs", "2", "--trials", "2", "--lr", "100", "--optimizer", "sgd", "--precision", "fp32"]
    says = mistake("tune", "--model", "cnn", "--dataset", str(bars), *small, code=1)
    assert "No trial was completed: The loss of cnn became" in says
    assert only_run("search").info.status == "FAILED"


def test_what_cannot_be_searched_is_said_before_anything_is_trained(environment, mistake, bars):
    assert "cannot be used" in mistake("tune", "--dataset", str(bars), "--storage", "nonsense", code=2)
    assert mlflow.MlflowClient().search_runs(["0"]) == []
