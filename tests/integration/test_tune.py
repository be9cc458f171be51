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

    out, _ = command(
        "main", "--dataset", str(bars), "--models", "mlp,cnn", "--recipes", "tuned", *SMALL, "--limit", "60"
    )
    for run in mlflow.MlflowClient().search_runs(["0"], "tags.kind = 'training'"):
        source = json.loads(run.data.tags["tuning"])["source"]
        for name, value in json.loads(mlflow.artifacts.load_text(source))["recipe"].items():
            assert run.data.params[name] == (value if isinstance(value, str) else json.dumps(value))
    assert "Spent on tuning, on validation: " in " ".join(out.split())
    study = only_run("study").info.run_id
    page = mlflow.artifacts.load_text(f"runs:/{study}/report.html")
    assert "What tuning brought" in page and "the order on validation" in page

    ended, again = len(trials()), [*small, "--model", "mlp", "--trials", "3", "--pruner", "none", "--images", "600"]
    out, _ = command(*again)
    assert "trial 0" not in out and len(trials()) == ended, "what is done is not done again"
    other = ["--storage", f"sqlite:///{environment}/other.db"]
    out, _ = command(*small, "--model", "mlp", "--trials", "1", "--pruner", "none", *other)
    assert len(mlflow.MlflowClient().search_runs(["0"], "tags.kind = 'search'")) == 3, "other trials, another search"
    here = ["--storage", f"sqlite:///{environment}/mlflow.db"]
    assert "another program's database" in mistake(*small, "--model", "mlp", "--trials", "1", *here, code=2)
    ended = len(trials())
    out, _ = command(*again, "--folds", "3")
    folds = [run.data.params for run in trials() if "fold" in run.data.params]
    assert "With 3 fresh seeds, each on another of 3 parts: own recipe " in out and "trial 0" not in out
    assert {(params["fold"], params["seed"]) for params in folds} == {("1/3", "1"), ("2/3", "2"), ("3/3", "3")}
    assert {params["val_size"] for params in folds} == {"40"} and len(folds) == len(trials()) - ended
    assert "one has 12: take fewer folds" in mistake(*again, "--folds", "13", code=2)
    ended = len(trials())
    out, _ = command("clean", "--study", searches[0].info.run_id)
    within = [run for run in trials() if run.data.tags["mlflow.parentRunId"] == searches[0].info.run_id]
    assert "of the search bars" in out and out.count("Would remove run") == 1 + len(within)
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


def write_recipe(folder, name: str = "mlp", **values) -> str:
    about = {"architecture": name, "recipe": values, "weights": "none", "trials": 7, "images_seen": 4200}
    (folder / f"{name}.json").write_text(json.dumps(about))
    return str(folder / f"{name}.json")


def test_a_training_takes_a_recipe_but_for_what_the_user_sets(environment, command, bars):
    found = write_recipe(environment, lr=0.01, epochs=2, weight_decay=0.1, model_args={"hidden": 20, "dropout": 0.1})
    options = ["--dataset", str(bars), "--weight-decay", "0.2", "--model-args", "hidden=30", "--register", "false"]
    command("train", "--model", "mlp", "--recipe", found, *options)
    run = only_run()
    assert (run.data.params["lr"], run.data.params["epochs"], run.data.params["weight_decay"]) == ("0.01", "2", "0.2")
    assert json.loads(run.data.params["model_args"]) == {"hidden": 30, "dropout": 0.1}
    assert json.loads(run.data.tags["tuning"]) == {"source": found, "trials": 7, "images_seen": 4200}


def test_a_recipe_that_does_not_fit_is_refused_in_a_sentence(environment, mistake, bars):
    found, options = write_recipe(environment, lr=0.01), ["--dataset", str(bars)]
    assert "is for mlp, which is not trained here" in mistake("train", *options, "--recipe", found, code=2)
    says = mistake("main", *options, "--models", "mlp", "--recipes", f"{found},{found}", code=2)
    assert "are both recipes for mlp" in says
    assert "cannot be read: No such file" in mistake("train", *options, "--recipe", "nowhere.json", code=2)
    assert "There is no recipe at runs:/1/recipe.json" in mistake(
        "train", *options, "--recipe", "runs:/1/recipe.json", code=2
    )
    assert "There is no finished search for mlp on bars: run -e tune -P model=mlp -P dataset=" in mistake(
        "main", *options, "--models", "mlp", "--recipes", "tuned", code=2
    )
    assert mlflow.MlflowClient().search_runs(["0"]) == []
