"""Who becomes champion: only on evidence, whoever asks, and never two at once."""

import json
from collections.abc import Mapping

import mlflow
import numpy as np
import pandas as pd
import pytest
from support import pipeline_process

from pipeline.comparison.judging import stats
from pipeline.errors import Refusal
from pipeline.registry import promotion, versions
from pipeline.tracking.client import connect
from pipeline.tracking.training_run import Results, TrainingRun

PROTOCOL = {"test_file": "a", "training_images": 50}


def training(run_id: str, *, accuracy: float = 0.5, flops: float = 100.0, recorded: bool = True, **fields):
    """What the store knows of a training."""
    protocol_fields = json.dumps(PROTOCOL | fields if recorded else {})
    return TrainingRun(
        run_id,
        run_id,
        "FINISHED",
        tags={"protocol": "p", "protocol_fields": protocol_fields},
        params={},
        metrics={"test/accuracy": accuracy, "cost/flops": flops},
    )


class Answers(Results):
    """As many wrong answers as given, the first ones; none of a training that is not named."""

    def __init__(self, wrong: Mapping[str, int], images: int = 100) -> None:
        super().__init__()
        self.wrong, self.images = wrong, images

    def read_predictions(self, training: TrainingRun, name: str) -> pd.DataFrame | None:
        if training.run_id not in self.wrong:
            return None
        said = np.arange(self.images) < self.wrong[training.run_id]
        return pd.DataFrame({"target": "1", "prediction": np.where(said, "7", "1")})


def judge(new: TrainingRun, old: TrainingRun | None, wrong: dict[str, int], *, images: int = 100, **options) -> str:
    decision = promotion.decide(new, old, Answers(wrong, images), **options)
    if not decision.promoted:
        raise Refusal(decision.sentence)
    return decision.sentence


def test_the_first_of_its_name_needs_no_evidence():
    assert "first champion" in judge(training("new"), None, {})


def test_better_is_what_mcnemar_says():
    # Seven images that only the champion got wrong: p = 2 / 2**7 = 0.016. Five: 0.063.
    assert "Better" in judge(training("new"), training("old"), {"new": 3, "old": 10})
    with pytest.raises(Refusal, match=r"undecided.*better by −\S+ to \S+ pp.*p = 0\.062"):
        judge(training("new"), training("old"), {"new": 5, "old": 10}, allow_equivalent=True)
    with pytest.raises(Refusal, match=r"worse.*p = 0\.016"):
        judge(training("new"), training("old"), {"new": 17, "old": 10}, allow_equivalent=True)


def test_who_is_tried_later_must_be_surer():
    # Of many that are equal to the champion one would be better by chance: all levels together are 5 %.
    levels = [stats.level(attempt) for attempt in range(1, 100_000)]
    assert sum(levels) == pytest.approx(0.05, abs=1e-5) and sum(levels) < 0.05
    with pytest.raises(Refusal, match=r"undecided.*attempt 2 against this champion, for which p must be below 0\.0076"):
        judge(training("new"), training("old"), {"new": 3, "old": 10}, attempt=2)
    assert "Better" in judge(training("new"), training("old"), {"new": 0, "old": 10}, attempt=3)


def test_what_is_no_number_decides_nothing(mistake):
    for options in (["--margin", "nan"], ["--margin", "inf"]):
        assert "is no finite number" in mistake("promote", *options, code=2)
        assert "is no finite number" in mistake("compare", *options, code=2)
    assert "is no finite number" in mistake("plan", "--power", "nan", code=2)
    assert "is no finite number" in mistake("train", "--lr", "nan", code=2)
    assert "is no finite number" in mistake("tune", "--weight-decay", "nan", code=2)


def test_of_two_that_are_as_good_the_cheaper_may_be_chosen():
    # One of 10,000 images is no half point, whatever chance does; of 100 it may well be.
    wrong = {"new": 10, "old": 9}
    allowed = {"allow_equivalent": True, "images": 10_000}
    assert "90 against 100 FLOPs" in judge(training("new", flops=90), training("old"), wrong, **allowed)
    with pytest.raises(Refusal, match=r"equivalent.*not worse by more than 0\.5 pp: with --allow-equivalent"):
        judge(training("new", flops=90), training("old"), wrong, images=10_000)
    with pytest.raises(Refusal, match="not cheaper: 100 against 100 FLOPs"):
        judge(training("new"), training("old"), wrong, **allowed)
    with pytest.raises(Refusal, match="was not recorded"):
        judge(training("new", flops=np.nan), training("old"), wrong, **allowed)
    with pytest.raises(Refusal, match="undecided"):
        judge(training("new", flops=90), training("old"), wrong, allow_equivalent=True)
    # Of those that are nearly perfect, and where one asks for it, less counts as equal.
    finest = training("new", flops=90, accuracy=0.999)
    with pytest.raises(Refusal, match="undecided"):
        judge(finest, training("old"), {"new": 35, "old": 30}, **allowed)
    with pytest.raises(Refusal, match="undecided"):
        judge(training("new", flops=90), training("old"), wrong, margin=0.01, **allowed)
    assert "0.3 pp" in judge(training("new", flops=90), training("old"), wrong, margin=0.3, **allowed)


def test_other_protocols_and_lost_answers_are_no_evidence():
    with pytest.raises(Refusal, match="training_images 40, not 50"):
        judge(training("new", training_images=40), training("old"), {"new": 0, "old": 50})
    with pytest.raises(Refusal, match="not recorded"):
        judge(training("new"), training("old", recorded=False), {"new": 0, "old": 50})
    with pytest.raises(Refusal, match="not at hand"):
        judge(training("new"), training("old"), {}, allow_equivalent=True)
    with pytest.raises(Refusal, match="no results"):
        judge(training("new", accuracy=np.nan), None, {})


def champions(name: str) -> tuple[str | None, str | None]:
    found = (versions.aliased(name, alias) for alias in (versions.CHAMPION, versions.PREVIOUS))
    return tuple(version.number if version else None for version in found)


def test_from_a_study_to_its_champions_and_back(environment, command, mistake, bars):
    """Versions of bars-mlp: 1 of a study, 2 the same with another seed, 3 trained for longer, 4 of fewer images."""
    data = ["--dataset", str(bars)]
    command("main", *data, "--models", "mlp,cnn", "--seeds", "2", "--epochs", "1")
    out, _ = command("promote", "--dry-run", "--model", "all")
    assert out.count("Would promote") == 2 and champions("bars-mlp") == (None, None)
    command("promote", "--model", "all")
    first, _ = champions("bars-mlp")
    assert first and champions("bars-cnn")[0]
    assert f"bars-mlp version {first} is the champion already" in command("promote", "--model", "mlp")[0]
    mistake("promote", "--model", "bars-mlp", "--rollback", code=3)
    # One deleted version keeps the others from nothing.
    cnn, _ = champions("bars-cnn")
    mlflow.MlflowClient().delete_model_version("bars-cnn", cnn)
    out, err = command("promote", "--model", "all", "--dry-run")
    assert "has no registered version of bars-cnn" in err and "bars-mlp version" in out

    command("train", *data, "--model", "mlp", "--epochs", "30")
    out, _ = command("promote", "--model", "bars-mlp")
    assert "Promoted bars-mlp version 3. Better" in out and champions("bars-mlp") == ("3", first)
    version = mlflow.MlflowClient().get_model_version("bars-mlp", "3")
    assert float(version.tags["promotion.p_value"]) < 0.05 and version.tags["promotion.former_champion"] == first
    assert version.tags["promotion.decision"] in version.description and "## How to load it" in version.description
    name = mlflow.MlflowClient().get_registered_model("bars-mlp").description
    assert "`bars-mlp` stands for the architecture mlp" in name
    assert f"Champion: version 3, accuracy {version.tags['accuracy']} on " in name

    for _ in range(2):
        assert "worse" in mistake("promote", "--model", "bars-mlp", "--version", first, code=3)
        name = mlflow.MlflowClient().get_registered_model("bars-mlp").description
        assert "Tried in its place: 1 other version." in name, "the same one again is no other attempt"
    second = {"1": "2", "2": "1"}[first]
    mistake("promote", "--model", "bars-mlp", "--version", second, "--dry-run", code=3)
    assert mlflow.MlflowClient().get_model_version("bars-mlp", "3").tags["tried"] == first
    command("train", *data, "--model", "mlp", "--epochs", "30", "--val-size", "30")
    assert "protocol is not the champion's, training_images" in mistake("promote", "--model", "bars-mlp", code=3)
    assert champions("bars-mlp") == ("3", first)
    # A newer version does not take the champion's place there.
    assert mlflow.MlflowClient().get_registered_model("bars-mlp").description == name

    command("promote", "--model", "mlp", "--rollback")
    assert champions("bars-mlp") == (first, "3")
    command("promote", "--model", "bars-mlp", "--rollback")
    assert champions("bars-mlp") == ("3", first)
    tags = mlflow.MlflowClient().get_model_version("bars-mlp", "3").tags
    # What it was promoted for before is no evidence for this.
    assert "rollback" in tags["promotion.decision"] and "promotion.p_value" not in tags


def test_a_champion_whose_training_is_gone_is_a_refusal(environment, command, mistake, bars):
    for seed in ("0", "1"):
        command("train", "--dataset", str(bars), "--model", "mlp", "--epochs", "1", "--seed", seed)
    client = mlflow.MlflowClient()
    version = client.get_model_version("bars-mlp", "1")
    client.create_registered_model("other")
    client.create_model_version("other", version.source, run_id=version.run_id)
    command("promote", "--model", "bars-mlp", "--version", "1")
    assert champions("other") == (None, None)
    client.create_model_version("bars-mlp", str(environment / "elsewhere"))
    client.set_registered_model_alias("bars-mlp", "champion", "3")
    says = mistake("promote", "--model", "bars-mlp", "--version", "2", code=3)
    assert "the training of bars-mlp version 3 is gone" in says


def test_a_registry_that_does_not_answer_is_not_one_without_a_champion(
    environment, command, mistake, bars, monkeypatch
):
    command("train", "--dataset", str(bars), "--model", "mlp", "--epochs", "1")

    def broken(*arguments):
        raise mlflow.exceptions.MlflowException("database is locked")

    monkeypatch.setattr(connect(), "get_model_version_by_alias", broken)
    assert "MLflow refused: database is locked" in mistake("promote", "--model", "bars-mlp", code=1)
    monkeypatch.undo()
    assert champions("bars-mlp") == (None, None)


def test_two_promotions_at_once_leave_one_champion(environment, command, bars):
    for epochs in ("1", "20", "30"):
        command("train", "--dataset", str(bars), "--model", "mlp", "--epochs", epochs)
    command("promote", "--model", "bars-mlp", "--version", "1")
    processes = [pipeline_process("promote", "--model", "bars-mlp", "--version", version) for version in ("2", "3")]
    said = [process.communicate(timeout=60) for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 3], said
    winner = str(2 + [process.returncode for process in processes].index(0))
    # Both are right about everything: whoever came second was not told from the first, not better than version 1.
    assert champions("bars-mlp") == (winner, "1")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "nothing"], "There is no registered model 'nothing'"),
        (["--version", "2"], "--version 2 needs the --model"),
        ([], "There is no study"),
    ],
)
def test_what_cannot_be_promoted(environment, mistake, arguments, says):
    assert says in mistake("promote", *arguments, code=2)
