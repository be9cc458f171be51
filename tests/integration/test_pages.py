"""MLflow's own pages in a real browser that has never seen them, as somebody sees them who follows our links."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from playwright.sync_api import Page, expect
from support import made_once, mlflow_listening, needs_browser, only_run, open_browser, pipeline

# MLflow shows as many columns as there is room for.
WINDOW = {"width": 3000, "height": 1400}


@pytest.fixture(scope="module")
def store(tmp_path_factory, bars) -> str:
    """The store of a study of two architectures."""

    def fill(folder: Path, store: dict[str, str]) -> None:
        study = ["main", "--models", "mlp,cnn", "--epochs", "2", "--val-size", "20", "--dataset", str(bars)]
        pipeline(*study, env=store, cwd=folder)

    return made_once(tmp_path_factory, "pages", fill)["MLFLOW_TRACKING_URI"]


@pytest.fixture
def study(environment, store, monkeypatch) -> None:
    """This process is connected to that store."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)


@pytest.fixture(scope="module")
def server(store) -> Iterator[str]:
    """`mlflow ui` over that store; its address."""
    with mlflow_listening("ui", "--backend-store-uri", store) as uri:
        yield uri


@pytest.fixture
def page(server) -> Iterator[Page]:
    """A page of a browser without a past."""
    with open_browser() as browser:
        yield browser.new_page(viewport=WINDOW)


def links(command, server: str) -> list[str]:
    """Where `compare` says that one should look."""
    out, _ = command("compare")
    return [server + link for link in re.findall(r"http://127\.0\.0\.1:5000(/#\S+)", out)]


@needs_browser
def test_a_study_says_on_its_page_what_it_found(study, command, server, page):
    own, _ = links(command, server)
    page.goto(own)
    expect(page.get_by_text("20 test images, protocol").first).to_be_visible(timeout=60_000)
    # The pages for trained models: those for language models have traces first, and no registry.
    expect(page.get_by_text("Model registry").first).to_be_visible()
    expect(page.get_by_text("AI Gateway")).to_have_count(0)
    metrics = only_run("study").data.metrics
    assert metrics["study/trainings"] == 2 and metrics["study/failures"] == 0 and metrics["study/total_s"] > 0
    best = max(run.data.metrics["test/accuracy"] for run in trainings())
    assert metrics["study/best_accuracy"] == best
    expect(page.get_by_role("row", name="study/best_accuracy")).to_contain_text(str(best)[:6])
    expect(page.get_by_text("bars-training")).to_be_visible()
    # Cells of the table are told apart.
    leader = only_run("study").data.tags["leader"]
    row = page.get_by_role("row", name=re.compile(rf"^{leader}\b")).first
    assert [cell.inner_text().strip() for cell in row.get_by_role("cell").all()][1] == "1"


@needs_browser
def test_trainings_are_drawn_before_anything_is_opened(study, command, server, page):
    _, view = links(command, server)
    page.goto(view)
    expect(page.get_by_text("test/accuracy").first).to_be_visible(timeout=60_000)
    ranked = sorted(trainings(), key=lambda run: -run.data.metrics["test/accuracy"])
    for run in ranked:
        expect(page.get_by_role("link", name=run.info.run_name).first).to_be_visible()
    sections = [text for text in page.locator("body").inner_text().splitlines() if text in SECTIONS]
    assert sections[0] == "test" and "test_corrupted" not in sections[:5]


SECTIONS = ("test", "val", "train", "time", "cost", "test_corrupted")


@needs_browser
def test_the_models_page_shows_the_accuracy_of_each(study, server, page):
    page.goto(f"{server}/#/experiments/0/models?workflowType=machine_learning")
    shown = page.locator("[role=gridcell]").filter(has_text="bars-cnn seed 0")
    expect(shown.first).to_be_visible(timeout=60_000)
    names = [cell.inner_text().split("\n")[-1] for cell in page.locator("[role=gridcell][col-id=name]").all()]
    column = page.locator('[role=gridcell][col-id*="test/accuracy"]')
    scores = [float(cell.inner_text()) for cell in column.all()]
    accuracies = {f"bars-{run.info.run_name}": run.data.metrics["test/accuracy"] for run in trainings()}
    assert dict(zip(names, scores, strict=True)) == pytest.approx(accuracies)


def test_logged_models_are_ordered_and_found_by_their_scores(study, command):
    client = mlflow.MlflowClient()
    by_accuracy = [{"field_name": "metrics.test/accuracy", "ascending": False}]
    found = client.search_logged_models(["0"], order_by=by_accuracy)
    accuracies = {run.info.run_id: run.data.metrics["test/accuracy"] for run in trainings()}
    ordered = [accuracies[model.source_run_id] for model in found]
    assert len(ordered) == 2 and ordered == sorted(ordered, reverse=True)
    best = client.search_logged_models(["0"], f"metrics.`test/accuracy` >= {ordered[0]}")
    assert {accuracies[model.source_run_id] for model in best} == {ordered[0]}
    assert {version["name"] for model in found for version in versions_of(model)} == {
        version.name for version in client.search_model_versions()
    }
    command("evaluate", "--model-uri", "models:/bars-mlp/1", "--dataset", "digits")
    (run,) = client.search_runs(["0"], "tags.kind = 'evaluation' and tags.dataset = 'digits'")
    (model,) = client.search_logged_models(
        ["0"], "tags.architecture = 'mlp'", datasets=[{"dataset_name": "digits-test"}]
    )
    scores = {metric.dataset_name: metric for metric in model.metrics if metric.key == "test/accuracy"}
    assert scores["digits-test"].value == run.data.metrics["test/accuracy"]
    assert scores["digits-test"].run_id == run.info.run_id and scores["bars-test"].run_id == model.source_run_id
    assert run.inputs.dataset_inputs[0].dataset.digest == scores["digits-test"].dataset_digest


def versions_of(model) -> list[dict]:
    return json.loads(model.tags["mlflow.modelVersions"])


def trainings() -> list:
    return mlflow.MlflowClient().search_runs(["0"], "tags.kind = 'training'")
