"""The page: what stands in it, that it stands alone, and that its numbers are those of the runs."""

import re
import sqlite3
from html.parser import HTMLParser
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from playwright.sync_api import Page
from support import made_once, needs_browser, only_run, open_browser, pipeline

from benchmarks.comparison import multiply
from pipeline.evaluation.profiling import THREADS
from pipeline.metrics.catalog import METRICS
from pipeline.tracking.training_run import Results

SECTIONS = [
    "verdict",
    "table",
    "intervals",
    "cost",
    "pairs",
    "learning",
    "corruption",
    "confusion",
    "classes",
    "protocol",
    "reproduce",
]
LARGEST = 5_000_000
SHORT = ("--epochs", "1", "--val-size", "20", "--limit", "60")


class Cells(HTMLParser):
    """The table's rows: by architecture and column, the number behind the text and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: dict[str, dict[str, tuple[str | None, str]]] = {}
        self.label = self.column = self.value = None
        self.heading = False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.heading = tag == "th" and values.get("scope") == "row"
        self.column, self.value = (values.get("data-column"), values.get("data-value")) if tag == "td" else (None, None)

    def handle_data(self, text):
        if self.heading:
            self.label, self.heading = text, False
        elif self.column:
            self.rows.setdefault(self.label, {})[self.column] = (self.value, text)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory, bars) -> str:
    """The store of a study of two architectures with two seeds, too short to get everything right."""

    def fill(folder: Path, store: dict[str, str]) -> None:
        options = ["--dataset", str(bars), "--models", "mlp,cnn", "--seeds", "2", *SHORT]
        pipeline("main", *options, env=store, cwd=folder)

    return made_once(tmp_path_factory, "recorded", fill)["MLFLOW_TRACKING_URI"]


@pytest.fixture
def study(environment, recorded, monkeypatch) -> Path:
    """An empty folder to work in, connected to that store."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", recorded)
    return environment


def test_page_table_and_server_have_the_same_numbers(study, command, mistake):
    (study / "file").touch()
    assert "page.html cannot be written: " in mistake("report", "--output", str(study / "file/page.html"), code=2)
    out, _ = command("report", "--output", "page.html")
    assert f"Written to {study}/page.html." in out
    command("compare", "--output", "table.csv")
    page = Path("page.html").read_text()
    cells, table = Cells(page).rows, pd.read_csv("table.csv").set_index("label")
    client = mlflow.MlflowClient()
    runs = client.search_runs(["0"], "tags.kind = 'training'")
    for label, row in table.iterrows():
        shown = cells[label]
        own = [run.data.metrics for run in runs if run.data.tags["architecture"] == label]
        for column, metric in ((name, metric.logged) for name, metric in METRICS.items()):
            values = [metrics[metric] for metrics in own if metric in metrics]
            if values:
                mean = sum(values) / len(values)
                assert float(shown[column][0]) == pytest.approx(row[column]) == pytest.approx(mean), (label, column)
        assert shown["accuracy"][1].startswith(f"{100 * row['accuracy']:.2f}")
        assert float(shown["low"][0]) == pytest.approx(row["low"])
        assert shown["verdict"][1].split(" ")[0] == row["verdict"]
        limits = [f"{100 * row[name]:.2f}".replace("-", "−") for name in ("gap_low", "gap_high")]
        assert row["verdict"] == "best" or f"({' to '.join(limits)})" in shown["verdict"][1]
        assert f'{label}<sup title="' in page and f">{row['letters']}</sup>" in page
    assert set(table.index) == {"mlp", "cnn"}
    study_id = only_run("study").info.run_id
    there = pd.read_csv(client.download_artifacts(study_id, "comparison.csv", str(study))).set_index("label")
    pd.testing.assert_frame_equal(there[table.columns], table)
    pairs = pd.read_csv(client.download_artifacts(study_id, "pairs.csv", str(study)))
    (pair,) = pairs.itertuples()
    assert pair.p_adjusted == table["p_value"].dropna().item()
    assert ("1 of 1 pairs differ" in page) == (pair.p_adjusted < 0.05)
    assert f"{pair.first} than {pair.second}: {pair.improvement:.2f}" in page
    votes = pd.read_csv(client.download_artifacts(study_id, "votes.csv", str(study)))
    assert votes["label"].tolist() == ["vote of all 2", *(f"vote of 2 {label}" for label in table.index)]
    for vote in votes.itertuples():
        shown = cells[f"{vote.label} ‡"]
        for column in ("accuracy", "f1", "loss", "low", "high", "train_s", "latency_p50_ms", "parameters"):
            assert float(shown[column][0]) == pytest.approx(getattr(vote, column)), (vote.label, column)
        assert shown["verdict"][1].split(" ")[0] == vote.verdict
    both = sum(run.data.metrics["cost/parameters"] for run in runs if run.data.tags["architecture"] == "cnn")
    assert votes.set_index("label")["parameters"]["vote of 2 cnn"] == both
    (logged,) = (file for file in client.list_artifacts(study_id) if file.path == "report.html")
    assert logged.file_size == len(page.encode()) < LARGEST


def test_a_study_is_planned_from_what_varied_in_another(study, command, mistake):
    out, _ = command("plan", "--margin", "5")
    assert "Planned from bars: 20 test images" in out and re.search(r"\| (mlp, cnn|cnn, mlp) +\|.* / ", out)
    assert "accuracies differ by 5 pp" in out and "80% probability" in out
    assert "leaves nothing to plan for" in mistake("plan", "--margin", "0", code=2)


@pytest.mark.parametrize("architecture", ["mlp", "cnn"])
def test_every_cost_is_measured(study, architecture):
    run = mlflow.MlflowClient().search_runs(["0"], f"tags.architecture = '{architecture}'")[0]
    cost = {name.removeprefix("cost/"): value for name, value in run.data.metrics.items() if name.startswith("cost/")}
    assert cost["latency_p95_ms"] >= cost["latency_p50_ms"] > 0 and cost["threads"] == THREADS
    assert cost["images_per_second"] > 0 and cost["peak_memory_mb"] > 50
    assert cost["size_mb"] == pytest.approx(4 * cost["parameters"] / 1e6, rel=0.1)
    # A multiplication and an addition for each weight of a matrix; in a convolution each is used many times.
    least, most = (1.9, 2.1) if architecture == "mlp" else (10, 1000)
    assert least * cost["parameters"] < cost["flops"] < most * cost["parameters"]
    curves = [name for name in run.data.metrics if name.startswith("test_corrupted/")]
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, curves[0])
    assert len(curves) == 6 and [point.step for point in history] == [0, 1, 3, 5]


def test_a_registered_model_is_described_by_a_card(study):
    client = mlflow.MlflowClient()
    version = client.get_model_version("bars-cnn", "1")
    metrics = client.get_run(version.run_id).data.metrics
    for heading in ("Intended use", "Data and protocol", "Scores", "Cost", "Failure cases", "How to load it"):
        assert f"## {heading}" in version.description
    assert f"{metrics['test/accuracy']:.2%}, 95 % interval" in version.description
    assert f"{metrics['cost/parameters']:,.0f}" in version.description
    assert 'load_model("models:/bars-cnn/1")' in version.description
    # What stands before the hashes is what a reader came for; MLflow's pages set cells side by side without a gap.
    assert version.description.index("## Scores") < version.description.index("test file: `")
    assert "|" not in version.description
    name = client.get_registered_model("bars-cnn").description
    assert name.startswith("`bars-cnn` stands for the architecture cnn, trained on the data set bars.")
    assert "There is no champion yet" in name


@needs_browser
def test_the_page_in_a_browser(study, command):
    command("report")
    with open_browser() as browser:
        for width, scheme in ((1280, "light"), (360, "dark")):
            page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            check_page(page, width=width, dark=scheme == "dark")


def check_page(page: Page, *, width: int, dark: bool) -> None:
    """Everything is there, fits, is described, and nothing is fetched."""
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(Path("report.html").resolve().as_uri())
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    for section in SECTIONS:
        assert page.locator(f"#{section}-1").bounding_box()["height"] > 40, section
    assert page.locator("#notes").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # The columns that decide are seen without scrolling, the names always.
    for column in ("accuracy",) if width < 1000 else ("accuracy", "verdict", "train_s"):
        cell = page.locator(f"#table-1 td[data-column={column}]").first.bounding_box()
        assert cell["x"] + cell["width"] <= width, column
    page.locator("#table-1 .wide").evaluate("element => element.scrollLeft = 10000")
    assert page.locator("#table-1 tbody th").first.bounding_box()["x"] >= 0
    for link in page.locator("nav a").all():
        assert page.locator(link.get_attribute("href")).count() == 1
    drawings = page.locator("svg")
    assert drawings.count() >= 14
    for number in range(drawings.count()):
        assert len(drawings.nth(number).get_attribute("aria-label")) > 8
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
    assert len(ids) == len(set(ids)), "ids of one drawing would reach into another"
    ink, paper = (page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
    assert (brightness(ink) > brightness(paper)) == dark
    text = page.locator("#learning-1 svg text").first
    assert text.evaluate("element => getComputedStyle(element).fill") == ink


def brightness(colour: str) -> int:
    return sum(map(int, re.findall(r"\d+", colour)[:3]))


def test_one_seed_a_failed_run_one_still_going_and_another_data_set(environment, command, bars):
    options = ["--dataset", str(bars), "--epochs", "1", "--val-size", "20"]
    command("train", "--model", "mlp", *options)
    command("train", "--model", "cnn", *options, "--limit", "50")
    command("train", "--model", "mlp", "--dataset", "digits", "--epochs", "1")
    client = mlflow.MlflowClient()
    tags = {"kind": "training", "config_key": "none", "dataset_sha256": "none"}
    for name, status in (("vit seed 0", "FAILED"), ("vgg16 seed 1", None)):
        run = client.create_run("0", tags=tags | {"mlflow.runName": name})
        if status:
            client.set_terminated(run.info.run_id, status)
    out, _ = command("compare", "--experiment", "Default")
    assert out.count("test images, protocol") == 3
    for on in ("bars, 100 training images: 20", "bars, 50 training images: 20", "\ndigits: 360 test images"):
        assert on in out, "what protocols differ in stands above each table"
    assert "it failed: vit seed 0" in " ".join(out.split()) and "still running: vgg16 seed 1" in " ".join(out.split())
    command("report", "--experiment", "Default")
    page = Path("report.html").read_text()
    assert page.count('class="verdict"') == 3 and "still running: vgg16 seed 1" in page
    out, _ = command("compare", "--experiment", "Default", "--since", "2100-01-01", code=2)
    assert out == ""


def test_a_thousand_runs(environment, command, bars):
    command("train", "--model", "mlp", "--dataset", str(bars), "--epochs", "1", "--val-size", "20")
    multiply(environment / "mlflow.db", 1000)
    with sqlite3.connect(environment / "mlflow.db") as database:
        # A tenth of them are trainings of an architecture of their own.
        for key in ("architecture", "recipe_key"):
            database.execute(f"UPDATE tags SET value = run_uuid WHERE key = '{key}' AND run_uuid LIKE '%0'")
    database.close()
    out, _ = command("compare", "--experiment", "Default")
    assert "Only the best 30 of the" in " ".join(out.split())
    command("report", "--experiment", "Default")
    assert Path("report.html").stat().st_size < LARGEST


def test_a_students_runs_beside_ones_own(study, command, bars, mistake):
    student = study / "student"
    student.mkdir()
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{student}/mlflow.db"}
    pipeline("train", "--model", "cnn", "--dataset", str(bars), "--epochs", "2", *SHORT[2:], env=store, cwd=student)
    moved = student.rename(study / "handed-in")
    out, _ = command("compare", "--against", str(moved))
    assert "cnn (handed-in)" in out and "not at hand" not in out, "its files are found where the folder is now"
    assert re.search(r"cnn \(handed-in\) against cnn: [+-][\d.]+ pp accuracy", " ".join(out.split()))
    out, _ = command("compare", "--against", f"sqlite:///{moved}/mlflow.db")
    assert out.count("handed-in/mlflow.db)") >= 1
    assert "There is no mlflow.db in" in mistake("compare", "--against", str(study / "student"), code=2)


def test_a_study_reads_each_predictions_file_once(environment, command, bars, monkeypatch):
    read: list[str] = []
    real = Results.artifact

    def counted(results, training, name):
        read.append(f"{training.run_id}/{name}")
        return real(results, training, name)

    monkeypatch.setattr(Results, "artifact", counted)
    command("main", "--dataset", str(bars), "--models", "mlp,cnn", *SHORT)
    files = [name for name in read if name.endswith("predictions.csv")]
    assert len(files) == len(set(files)) == 2
