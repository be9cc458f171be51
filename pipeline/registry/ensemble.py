"""The vote of several registered models as a model of its own."""

import json
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from mlflow.models import Model

from pipeline.comparison.judging.votes import COSTS, LEAST, answers, scores
from pipeline.errors import InputError, Refusal
from pipeline.evaluation.predictions import write_answers
from pipeline.metrics.calibration import Calibration, calibrate
from pipeline.metrics.catalog import LOGGED
from pipeline.registry import card, loading, register, versions
from pipeline.registry.bundled import calibrated, inputs
from pipeline.registry.versions import Version
from pipeline.tracking import runs, schema
from pipeline.tracking.client import connect
from pipeline.tracking.training_run import Results, TrainingRun

logger = logging.getLogger(__name__)

# The tags that all trainings under one protocol have in common.
IN_COMMON = (schema.DATASET, schema.DATASET_SHA256, schema.PROTOCOL, schema.PROTOCOL_FIELDS, schema.TASK)


def create(trainings: Mapping[str, TrainingRun], results: Results, *, study_id: str) -> Version:
    """Register the mean of the probabilities of those trainings that together answer best to the validation images.

    Where the same vote is registered already, that version is given. Detectors are left out: for an image with nothing
    on it they name no class.

    Args:
        trainings: one of each architecture, by its name, all under one protocol.
        results: reads what they answered.

    Raises:
        InputError: fewer than two have a registered model and their answers.
        Refusal: one alone is better than any vote with it.
    """
    voters = {name: run for name, run in trainings.items() if run.tags.get(schema.TASK) == "classification"}
    named = {name: versions.version_of(run.run_id, name_for(run, name)) for name, run in voters.items()}
    lost = [name for name, version in named.items() if not version]
    voters = {name: run for name, run in voters.items() if named[name]}
    if len(voters) < 2:
        without = f", and the best of {', '.join(lost)} has no version" if lost else ""
        raise InputError(
            f"A vote takes at least two registered classifiers of the study: it has {', '.join(voters) or 'none'}"
            f"{without}. Train more, register=true."
        )
    if lost:
        logger.warning("Without %s, whose best training has no registered version.", ", ".join(lost))
    chosen, calibration = select(voters, results)
    members = {name: version for name, version in named.items() if version and name in chosen}
    voters = {name: voters[name] for name in members}
    found = answers(list(voters.values()), results)
    if found is None:
        raise InputError("There is no vote: what its members answered to the same test images is not at hand.")
    probabilities, targets = found
    first = next(iter(voters.values()))
    name = name_for(first, schema.ENSEMBLE)
    listed = json.dumps([version.uri for version in members.values()])
    for earlier in versions.versions(name):
        if earlier.tags.get(schema.MEMBERS) == listed:
            return earlier
    tags = {key: first.tags[key] for key in IN_COMMON if key in first.tags}
    tags |= {schema.KIND: schema.ENSEMBLE, schema.ARCHITECTURE: schema.ENSEMBLE, schema.MEMBERS: listed}
    title = f"vote of {', '.join(members)}"
    final = {f"test/{metric}": value for metric, value in scores(probabilities, targets).items()}
    costs = {LOGGED[cost]: sum(run.metric(LOGGED[cost]) for run in voters.values()) for cost in COSTS}
    final |= {metric: cost for metric, cost in costs.items() if not np.isnan(cost)}
    with (
        tempfile.TemporaryDirectory() as temporary,
        runs.open_run(title, tags=tags | {schema.PARENT: study_id}, run_id=runs.create_run()) as run_id,
    ):
        files, report = Path(temporary, "model"), Path(temporary, "report")
        classes, example = save(files, members, dataset=tags[schema.DATASET], calibration=calibration)
        report.mkdir()
        sure = calibration.apply(np.log(probabilities.clip(LEAST)))
        write_answers(report / schema.PREDICTIONS, sure, targets, classes)
        runs.log_artifacts(run_id, report)
        client, run = connect(), connect().get_run(run_id)
        model = client.create_logged_model(
            run.info.experiment_id, f"{name} {title}", run_id, tags=tags, model_type=tags[schema.TASK]
        )
        register.upload(client, run, model, files)
        runs.log_results(run_id, final, model_id=model.model_id)
        register.register(
            client,
            run,
            model,
            name,
            card=card.render(
                "ensemble.md",
                metrics=final,
                images=len(targets),
                name=name,
                version=register.VERSION,
                dataset=tags[schema.DATASET],
                members=members,
                height=example.shape[1],
                width=example.shape[2],
            ),
            tags=register.version_tags(tags, accuracy=final["test/accuracy"], test_images=len(targets))
            | {schema.MEMBERS: listed},
        )
    version = versions.version_of(run_id, name)
    assert version is not None, "it was registered above"
    return version


def select(voters: Mapping[str, TrainingRun], results: Results) -> tuple[list[str], Calibration]:
    """The voters that together do best on the validation images, the best first, and how sure they are.

    As an epoch is chosen: by accuracy, then by loss. One after the other is added, as long as it helps: Caruana et al.,
    "Ensemble selection from libraries of models", ICML 2004.

    Raises:
        InputError: what they answered to the validation images is not at hand.
        Refusal: nobody is a help to the best of them.
    """
    told = {name: answers([run], results, schema.VALIDATED) for name, run in voters.items()}
    probabilities = {name: found[0] for name, found in told.items() if found}
    if len(probabilities) < 2:
        raise InputError("There is no vote: what they answered to the validation images is not at hand, train anew.")
    ((_, targets), *_) = (found for found in told.values() if found)

    def mean(names: Sequence[str]) -> np.ndarray:
        return np.mean([probabilities[name] for name in names], axis=0)

    def rank(names: Sequence[str]) -> tuple[float, float]:
        found = scores(mean(names), targets)
        return found["accuracy"], -found["loss"]

    chosen: list[str] = []
    while others := [name for name in probabilities if name not in chosen]:
        best = max(others, key=lambda name: rank([*chosen, name]))
        if chosen and rank([*chosen, best]) <= rank(chosen):
            break
        chosen.append(best)
    if len(chosen) < 2:
        raise Refusal(
            f"Not registered: on the {len(targets):,} validation images no vote is better than {chosen[0]} alone."
        )
    return chosen, calibrate(np.log(mean(chosen).clip(LEAST)), targets)


def name_for(training: TrainingRun, architecture: str) -> str:
    """What a model of this architecture trained on the same data is called in the registry."""
    return versions.registered_name(training.tags[schema.DATASET], architecture)


def save(
    files: Path, members: Mapping[str, Version], *, dataset: str, calibration: Calibration
) -> tuple[tuple[str, ...], np.ndarray]:
    """Save the model as MLflow has it, made of its members' bundles; its classes, and an example of its input.

    Raises:
        InputError: a member's model is gone, or they do not take the same images.
    """
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder, "bundle")
        alike = set()
        for name, version in members.items():
            path = loading.download(version.uri, Path(folder, "download", name))
            (bundle,) = (found.parent for found in path.glob("artifacts/*/model.json"))
            about = json.loads((bundle / "model.json").read_text())
            alike.add((about["height"], about["width"], *about["classes"]))
            shutil.copytree(bundle, own / "members" / name)
        if len(alike) > 1:
            raise InputError("There is no vote: its members take images of different sizes, or name other classes.")
        ((height, width, *classes),) = alike
        about = {
            "model": schema.ENSEMBLE,
            "task": "classification",
            "dataset": dataset,
            "classes": classes,
            "height": height,
            "width": width,
            "members": list(members),
            "calibration": asdict(calibration),
        }
        (own / "model.json").write_text(json.dumps(about, indent=2))
        for module in (calibrated, inputs):
            shutil.copy(str(module.__file__), own)
        example = np.asarray(Model.load(str(path)).load_input_example(str(path)), np.uint8)
        register.save_model(files, bundle=own, example=example, task="classification", classes=len(classes))
    return tuple(classes), example
