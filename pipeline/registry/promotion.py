"""Which registered version deserves to be champion, and on what evidence."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pipeline.comparison import protocol, tables
from pipeline.comparison.compare import Comparison
from pipeline.comparison.judging.pairs import interval
from pipeline.comparison.judging.verdicts import margin_of, verdict
from pipeline.comparison.judging.votes import best_of
from pipeline.errors import InputError, Refusal
from pipeline.metrics.catalog import METRICS
from pipeline.registry import versions
from pipeline.tracking import queries, schema
from pipeline.tracking.client import connect, owner
from pipeline.tracking.training_run import Results, TrainingRun

HEADING = "## Promotion"
ACCURACY = METRICS["accuracy"].logged
# What decides between models that are as good: the arithmetic of one answer, the same on every machine.
CHEAPER = METRICS["flops"].logged


@dataclass(frozen=True)
class Decision:
    """Whether a version is to be champion, and why.

    Attributes:
        promoted: what was decided.
        sentence: the decision in words.
        figures: what it rests on, by name: both accuracies, their difference, the test and its p-value.
    """

    promoted: bool
    sentence: str
    figures: Mapping[str, Any]


def decide(
    candidate: TrainingRun,
    champion: TrainingRun | None,
    results: Results,
    *,
    attempt: int = 1,
    allow_equivalent: bool = False,
    margin: float | None = None,
) -> Decision:
    """Judge a candidate against the present champion by what both answered to the same test images.

    Args:
        candidate, champion: their trainings; None where there is no champion.
        results: reads what a training predicted for the test images.
        attempt: the how manieth it is against this champion: of many that are equal one would pass by chance.
        allow_equivalent: whether a candidate that is worse by no more than the margin and needs fewer FLOPs an answer
            will do.
        margin: in percentage points, within which two accuracies count as equal; None for the usual one.

    Raises:
        Refusal: they cannot be held against each other; its text says why.
    """
    if not candidate.has(ACCURACY):
        raise Refusal("Not promoted: its training has no results.")
    accuracy = candidate.metrics[ACCURACY]
    figures: dict[str, Any] = {"accuracy": accuracy, "protocol": candidate.tags.get(schema.PROTOCOL, "")}
    if champion is None:
        only = f"The first champion of its name, with {accuracy:.2%} of the test images right: it had no rival."
        return Decision(True, only, figures)
    check_protocols(candidate, champion)
    own, theirs = results.predictions(candidate), results.predictions(champion)
    if own is None or theirs is None or not own["target"].equals(theirs["target"]):
        raise Refusal(
            "Not promoted: what both answered to the same test images is not at hand, so nothing can be tested."
        )
    # Here, as all of compare: reading it takes longer than most commands that do not test.
    from pipeline.comparison.judging import stats

    wrong = [(table["target"] != table["prediction"]).to_numpy() for table in (own, theirs)]
    p_value, level = stats.mcnemar(*wrong), stats.level(attempt)
    difference = stats.difference(wrong[1][None], wrong[0][None], stats.Spread())
    low, high = interval(difference, 1 - level, differs=p_value < level)
    theirs_accuracy = champion.metrics[ACCURACY]
    within = margin_of("accuracy", max(accuracy, theirs_accuracy), margin) or 0.0
    word = verdict(low, high, p_value, within, level)
    figures |= {
        "champion_accuracy": theirs_accuracy,
        "difference": difference.value,
        "difference_low": low,
        "difference_high": high,
        "margin": within,
        "test": "McNemar's exact test",
        "test_images": len(own),
        "p_value": p_value,
        "attempt": attempt,
        "level": level,
    }
    evidence = (
        f"{accuracy:.2%} against the champion's {theirs_accuracy:.2%} on the same {len(own):,} test images: better by "
        f"{tables.limits('accuracy', low, high)} pp, p = {p_value:.2g} by McNemar's exact test; attempt {attempt} "
        f"against this champion, for which p must be below {level:.2g}"
    )
    if p_value < level and difference.value > 0:
        return Decision(True, f"Better: {evidence}.", figures)
    # What is no number proves nothing.
    if not low >= -within:
        return Decision(False, f"{word}, {evidence}.", figures)
    as_good = f"not worse by more than {tables.within('accuracy', within)}"
    if not allow_equivalent:
        hint = f"It is {as_good}: with --allow-equivalent the cheaper of two would do."
        return Decision(False, f"{word}, {evidence}. {hint}", figures)
    if not candidate.has(CHEAPER) or not champion.has(CHEAPER):
        return Decision(False, f"{word}, {evidence}, and which is cheaper was not recorded.", figures)
    flops, champion_flops = candidate.metrics[CHEAPER], champion.metrics[CHEAPER]
    costs = f"{flops:,.0f} against {champion_flops:,.0f} FLOPs an image"
    if flops >= champion_flops:
        return Decision(False, f"{word}, {evidence}, and not cheaper: {costs}.", figures)
    figures |= {"flops": flops, "champion_flops": champion_flops}
    return Decision(True, f"Cheaper and {as_good}: {evidence}; {costs}.", figures)


def check_protocols(candidate: TrainingRun, champion: TrainingRun) -> None:
    """Refuse to compare what was not trained and tested on the same images.

    Raises:
        Refusal: which fields of the protocols differ.
    """
    fields = [json.loads(training.tags.get(schema.PROTOCOL_FIELDS, "{}")) for training in (candidate, champion)]
    if not all(fields) or fields[0] != fields[1]:
        raise Refusal(
            f"Not promoted: its protocol is not the champion's, {protocol.difference(*fields)}. Train both alike, or "
            "take the alias from the champion in MLflow's pages first."
        )


# --- In the registry -----------------------------------------------------------------------------------------------


def promote(
    candidate: versions.Version,
    *,
    allow_equivalent: bool = False,
    margin: float | None = None,
    dry_run: bool = False,
) -> str:
    """Make a version the champion of its registered model if the evidence says so, as `decide` judges it.

    The decision and its figures are written into the version's tags and description; the former champion becomes the
    previous one. Versions tried in vain are counted, and each has to be surer than the one before. Of two promotions at
    once the second judges against the first's champion, or, from another machine, is told that there is another now.

    Returns:
        the decision in words.

    Raises:
        Refusal: there is not enough evidence, or another machine promoted meanwhile.
    """
    name, version = candidate.name, candidate.number
    with versions.locked(name):
        champion = versions.aliased(name, versions.CHAMPION)
        if champion and champion.number == version:
            return f"{name} version {version} is the champion already."
        training = training_of(candidate)
        tried = versions.tried_against(champion, version) if champion else []
        decision = decide(
            training,
            training_of(champion) if champion else None,
            Results(),
            attempt=tried.index(version) + 1 if tried else 1,
            allow_equivalent=allow_equivalent,
            margin=margin,
        )
        if champion and not dry_run:
            versions.say_tried(champion, tried)
        if not decision.promoted:
            raise Refusal(f"Not promoted: {decision.sentence}")
        former = champion.number if champion else None
        if warning := protocol.repeated(training.tags):
            decision = replace(decision, sentence=f"{decision.sentence} {warning}")
        if dry_run:
            return f"Would promote {name} version {version}. {decision.sentence}"
        now = versions.aliased(name, versions.CHAMPION)
        if (now.number if now else None) != former:
            raise Refusal(f"Not promoted: another champion of {name} was chosen meanwhile; run it again.")
        # First the evidence: no champion shall be without it.
        record(candidate, decision, former=former)
        versions.set_champion(name, version, former=former)
        now = versions.aliased(name, versions.CHAMPION)
        if now is None or now.number != version:
            raise Refusal(f"Not promoted: another machine made {now} champion at the same time; run it again.")
    return f"Promoted {name} version {version}. {decision.sentence}"


def training_of(version: versions.Version) -> TrainingRun:
    """The training that made a version.

    Raises:
        Refusal: it is gone, and with it what it could be judged by.
    """
    try:
        return queries.training(version.run_id)
    except InputError as error:
        raise Refusal(
            f"Not promoted: the training of {version} is gone, and with it all evidence. If it is the champion, take "
            "the alias from it in MLflow's pages first."
        ) from error


def roll_back(name: str, *, dry_run: bool = False) -> str:
    """Swap a model's champion and previous champion.

    Raises:
        Refusal: there is no previous champion.
    """
    with versions.locked(name):
        champion, previous = (versions.aliased(name, alias) for alias in (versions.CHAMPION, versions.PREVIOUS))
        if not champion or not previous or champion.number == previous.number:
            raise Refusal(f"Not rolled back: {name} has no previous champion.")
        if dry_run:
            return f"Would make version {previous.number} of {name} champion again, in place of {champion.number}."
        record(previous, Decision(True, "Champion again, by a rollback.", {}), former=champion.number)
        versions.set_champion(name, previous.number, former=champion.number)
    return f"Version {previous.number} of {name} is champion again, in place of version {champion.number}."


def record(version: versions.Version, decision: Decision, *, former: str | None) -> None:
    """Write a decision into a version's tags and description."""
    facts = {
        "decision": decision.sentence,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": owner(),
        "former_champion": former or "",
        **decision.figures,
    }
    versions.tag(version, "promotion.", {key: str(value) for key, value in facts.items()})
    place = f" It took the place of version {former}." if former else ""
    card = version.description.split(HEADING)[0].rstrip()
    text = f"{card}\n\n{HEADING}\n\n{decision.sentence}{place}\n"
    connect().update_model_version(version.name, version.number, text)


def find_candidate(training: TrainingRun) -> versions.Version:
    """The version that a training registered.

    Raises:
        InputError: it registered none, or it was deleted.
    """
    name = versions.registered_name(training.tags[schema.DATASET], training.tags[schema.ARCHITECTURE])
    version = versions.version_of(training.run_id, name)
    if version is None:
        raise InputError(f"The training {training.name} ({training.run_id}) has no registered version of {name}.")
    return version


def best_trainings(comparison: Comparison) -> dict[str, dict[str, TrainingRun]]:
    """By data set and architecture, the best first, the training of a comparison that is to be judged.

    Of several numbers of training images it is the most.
    """
    best: dict[str, dict[str, TrainingRun]] = {}
    size = {key: fields.get("training_images", 0) for key, fields in comparison.protocols.items()}
    for key, rows in sorted(comparison.groups(), key=lambda group: -size[group[0]]):
        of_dataset: dict[str, TrainingRun] = {}
        for row in rows.itertuples():
            of_dataset.setdefault(row.architecture, best_of(comparison.members[key, row.label], comparison.results))
        best.setdefault(rows["dataset"].iloc[0], of_dataset)
    return best
