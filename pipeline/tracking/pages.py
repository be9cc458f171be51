"""MLflow's pages: their addresses, and what they show first, those for trained models and a view with all trainings."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import mlflow

from pipeline.tracking.client import experiment_of, tracking_uri
from pipeline.tracking.schema import KIND, TRAINING

KIND_OF_EXPERIMENT = "mlflow.experimentKind"
# A view of the runs' page that a link names by what stands behind the prefix.
VIEW, VIEW_TAG = "trainings", "mlflow.sharedViewState.trainings"
VIEW_NAME = "Trainings, best first"
COLUMNS = (
    "metrics.`test/accuracy`",
    "metrics.`test/f1`",
    "metrics.`time/train_s`",
    "params.`model`",
    "params.`dataset`",
    "params.`epochs`",
    "params.`lr`",
    "attributes.`Models`",
)
# The charts that the view begins with, by section; MLflow puts those of all other metrics behind them.
CHARTS: Mapping[str, tuple[str, ...]] = {
    "test": ("accuracy", "f1", "corrupted_accuracy", "loss"),
    "val": ("accuracy", "loss"),
    "train": ("loss",),
    "time": ("train_s",),
    "cost": ("parameters", "latency_p50_ms"),
}
# What has a value for every epoch is a line, what has one for the whole training a bar.
BY_EPOCH = ("val", "train")


def choose_pages(client: mlflow.MlflowClient, experiment: str) -> None:
    """Let MLflow show an experiment's pages for trained models, and offer the view of its trainings.

    It would choose the pages for language models, and show a study as one closed row. What somebody changed stays.
    """
    found = client.get_experiment(experiment)
    ours = {
        KIND_OF_EXPERIMENT: "custom_model_development",
        VIEW_TAG: json.dumps({"name": VIEW_NAME, "createdAt": found.creation_time or 0, "state": json.dumps(view())}),
    }
    for name, value in ours.items():
        if name not in found.tags:
            client.set_experiment_tag(experiment, name, value)


def run_url(run_id: str) -> str:
    """How to see a run in the browser."""
    uri = tracking_uri()
    page = page_url(f"experiments/{experiment_of(run_id)}/runs/{run_id}")
    return page if page.startswith(uri) else f"mlflow ui --backend-store-uri {uri}, then {page}"


def page_url(path: str, **parameters: str) -> str:
    """The address of one of MLflow's pages, in the form for trained models: a fresh browser shows another."""
    uri = mlflow.get_tracking_uri()
    server = uri if uri.startswith(("http://", "https://")) else "http://127.0.0.1:5000"
    return f"{server}/#/{path}?{urlencode({'workflowType': 'machine_learning', **parameters})}"


def trainings_url(experiment: str) -> str:
    """How to see the trainings of an experiment side by side in the browser."""
    return page_url(f"experiments/{experiment}/runs", compareRunsMode="CHART", viewStateShareKey=VIEW)


def view() -> dict[str, Any]:
    """The state of the runs' page, as MLflow's own button to share it writes it."""
    return {
        "searchFilter": f"tags.{KIND} = '{TRAINING}'",
        "orderByKey": "metrics.`test/accuracy`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": COLUMNS,
        "isAccordionReordered": True,
        "compareRunSections": [
            {"uuid": name, "name": name, "display": True, "isReordered": True, "deleted": False, "isGenerated": False}
            for name in CHARTS
        ],
        "compareRunCharts": [chart(section, score) for section, scores in CHARTS.items() for score in scores],
    }


def chart(section: str, score: str) -> dict[str, Any]:
    """A chart of one metric."""
    metric = f"{section}/{score}"
    common = {
        "uuid": metric,
        "metricKey": metric,
        "displayName": metric,
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": True,
    }
    if section not in BY_EPOCH:
        return {**common, "type": "BAR", "runsCountToCompare": 10}
    open_range = dict.fromkeys(("xMin", "xMax", "yMin", "yMax"))
    return {
        **common,
        "type": "LINE",
        "selectedMetricKeys": [metric],
        "yAxisKey": "metric",
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "scaleType": "linear",
        "xAxisScaleType": "linear",
        "range": open_range,
        "lineSmoothness": 0,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }
