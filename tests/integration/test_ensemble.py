"""The vote of a study's models, registered as one model."""

import os
import subprocess
import sys

import mlflow
import numpy as np
import pandas as pd
import pytest

from pipeline.data import sources
from pipeline.errors import InputError, Refusal
from pipeline.registry import ensemble
from pipeline.tracking.schema import VALIDATED
from pipeline.tracking.training_run import Results, TrainingRun

STUDY = ["--dataset", "digits", "--models", "mlp,cnn", "--epochs", "9", "--limit", "200", "--val-size", "400"]
STRANGER = """
import mlflow, numpy
model = mlflow.pyfunc.load_model("models:/digits-ensemble@champion")
numpy.save("answers.npy", model.predict(numpy.load("images.npy")))
"""


class Validated(Results):
    """Answers to four validation images of the classes 0 and 1, in turn: by run, how probable the right one is."""

    def __init__(self, right: dict[str, list[float]]) -> None:
        super().__init__()
        self.right = right

    def read_predictions(self, training: TrainingRun, name: str) -> pd.DataFrame | None:
        if name != VALIDATED or training.run_id not in self.right:
            return None
        right, targets = np.array(self.right[training.run_id]), np.array([0, 1, 0, 1])
        ones = np.where(targets == 1, right, 1 - right)
        columns = {"target": targets.astype(str), "prediction": np.where(ones > 0.5, "1", "0")}
        return pd.DataFrame({**columns, "probability_0": 1 - ones, "probability_1": ones})


def selected(**right: list[float]) -> list[str]:
    runs = {name: TrainingRun(name, name, "FINISHED", tags={}, params={}, metrics={}) for name in (*right, "lost")}
    return ensemble.select(runs, Validated(right))[0]


def test_who_votes_is_chosen_on_validation_one_after_the_other():
    good, helps, harms = [0.9, 0.9, 0.9, 0.3], [0.4, 0.6, 0.6, 0.9], [0.1, 0.2, 0.1, 0.1]
    assert selected(harms=harms, good=good, helps=helps) == ["good", "helps"]
    with pytest.raises(Refusal, match="on the 4 validation images no vote is better than good alone"):
        selected(good=good, harms=harms)
    with pytest.raises(InputError, match="not at hand"):
        selected(good=good)


def test_a_vote_is_one_model_wherever_it_is_loaded(environment, command, mistake):
    command("main", *STUDY, "--workers", "1")
    assert "leave dry_run out" in mistake("promote", "--model", "ensemble", "--dry-run", code=2)
    out, _ = command("promote", "--model", "ensemble")
    assert "Promoted digits-ensemble version 1. The first champion of its name" in out
    assert "is the champion already" in command("promote", "--model", "ensemble")[0], (
        "the same vote is no other version"
    )

    client = mlflow.MlflowClient()
    version = client.get_model_version("digits-ensemble", "1")
    assert "digits-cnn version 1" in version.description and "digits-mlp version 1" in version.description
    assert "the vote of several models" in client.get_registered_model("digits-ensemble").description
    run = client.get_run(version.run_id)
    votes = pd.read_csv(client.download_artifacts(run.data.tags["mlflow.parentRunId"], "votes.csv"))
    assert run.data.metrics["test/accuracy"] == pytest.approx(votes["accuracy"][0])
    assert run.data.metrics["cost/parameters"] == votes["parameters"][0]

    elsewhere = environment / "elsewhere"
    elsewhere.mkdir()
    np.save(elsewhere / "images.npy", sources.load("digits", environment).test.images)
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-I", "-c", STRANGER], cwd=elsewhere, env=bare, check=True, timeout=200)
    answers = np.load(elsewhere / "answers.npy")
    recorded = pd.read_csv(client.download_artifacts(version.run_id, "predictions.csv"))
    assert np.allclose(answers, recorded.filter(like="probability_"), atol=1e-5)
    assert (answers.argmax(1) == recorded["prediction"]).all()

    uri = ["--model-uri", "models:/digits-ensemble@champion"]
    accuracy = f"{run.data.metrics['test/accuracy']:.2%} of the 360 test images right"
    assert accuracy in command("evaluate", *uri, "--dataset", "digits")[0]
    out, _ = command("predict", *uri, "--input", str(elsewhere / "images.npy"), "--output", str(elsewhere / "said.csv"))
    assert (pd.read_csv(elsewhere / "said.csv")["label"] == recorded["prediction"]).all()
    command("export", *uri, "--format", "pt2", "--output", str(elsewhere / "vote.pt2"))
    table, _ = command("compare")
    assert "ensemble " not in table, "it is no training"
    assert f"run {run.info.run_name}" in command("clean", "--study", run.data.tags["mlflow.parentRunId"])[0]
