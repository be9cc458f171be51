"""What a search tries, what it may spend, and what it says it found."""

import json
import re
import sys
from itertools import product

import numpy as np
import optuna
import pytest

import models
from pipeline import config
from pipeline.data.images import Dataset, ImageSet
from pipeline.errors import InputError, Interrupted, PipelineError
from pipeline.search import recipe, trial
from pipeline.search.results import expected_best
from pipeline.search.search import Search, equal_budget
from pipeline.search.space import space_of
from pipeline.search.storage import create_pruner, open_study
from pipeline.tracking.journal import Journal


def images(count: int) -> ImageSet:
    return ImageSet(np.zeros((count, 28, 28), np.uint8), np.arange(count) % 10, tuple("0123456789"))


DATA = Dataset("blank", "made", images(60), images(20))


def base(name: str, *, weights: str = "none", **overrides) -> config.TrainConfig:
    return config.resolve(name, DATA, weights=weights, overrides=overrides, val_size=20, device="cpu")


PRETRAINED = [(name, "imagenet") for name in models.names() if models.get(name).weights is not None]


@pytest.mark.parametrize(("name", "weights"), [(name, "none") for name in models.names()] + PRETRAINED)
def test_every_space_contains_the_recipe_that_it_is_about(name, weights):
    own = base(name, weights=weights)
    space = space_of(own, fixed={})
    assert space.distributions
    for field, values in space.distributions.items():
        assert values._contains(values.to_internal_repr(space.own[field])), field
    assert space.config(space.own).key == own.key, "the first trial is the recipe"


def test_what_the_user_sets_is_not_searched_and_is_part_of_the_recipe():
    space = space_of(base("cnn", lr=0.01, epochs=3), fixed={"lr": 0.01, "epochs": 3})
    assert "lr" not in space.distributions
    values = {**space.own, "model_args.dropout": 0.25, "augment": "none"}
    assert space.config(values).model_args == {"dropout": 0.25} and space.config(values).lr == 0.01
    found = space.recipe(values)
    assert found["epochs"] == 3 and found["lr"] == 0.01 and found["model_args"] == {"dropout": 0.25}


def test_frozen_features_are_not_augmented():
    assert "augment" not in space_of(base("mobilenet_v2", weights="imagenet"), fixed={}).distributions


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """Define an architecture like mlp with another SEARCH, and look it up."""

    def define(search: str) -> models.Architecture:
        parts = {name: getattr(sys.modules["models.mlp"], name) for name in ("TASK", "HEAD", "RECIPE")}
        text = "".join(f"{name} = {value!r}\n" for name, value in parts.items())
        (tmp_path / "odd.py").write_text(f"from models.mlp import build\n{text}{search}END = 0\n")
        monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
        monkeypatch.setattr(models, "names", lambda: ["odd"])
        monkeypatch.delitem(sys.modules, "models.odd", raising=False)
        models.get.cache_clear()
        return models.get("odd")

    models.get("mlp")
    yield define
    models.get.cache_clear()


@pytest.mark.parametrize(
    ("search", "says"),
    [
        ("{'learning_rate': {'low': 0, 'high': 1}}", "SEARCH has learning_rate, which is none of optimizer, lr"),
        ("{'epochs': {'low': 1, 'high': 99}}", "SEARCH has epochs, which is none of"),
        ("{'model_args.width': {'low': 1, 'high': 9}}", "SEARCH has model_args.width, which is none of"),
        ("{'lr': {'low': 1e-3}}", "SEARCH has lr: write it as"),
        ("{'lr': {'low': 1e-2, 'high': 1e-3}}", "SEARCH has lr from 0.01 to 0.001: give two numbers"),
        ("{'lr': {'low': 0, 'high': 1, 'log': True}}", "on a logarithmic scale, which begins above 0"),
        ("{'lr': {'low': 0.1, 'high': 1}}", "SEARCH has lr without 0.003, the recipe's own value"),
        ("{'batch_size': {'choices': (64, 256)}}", "SEARCH has batch_size without 128"),
        ("{'augment': {'choices': ('shift',)}}", "give at least two choices"),
        ("{'augment': {'choices': ('shift', 'blur')}}", "has augment 'blur': choose one of none, shift, affine"),
        ("{'augment': {'low': 0, 'high': 1}}", "SEARCH has augment without 'shift'"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_when_it_is_read(odd, search, says):
    with pytest.raises(models.InvalidArchitecture, match=re.escape(says)):
        odd(f"SEARCH = {search}\n")


def test_another_space_leaves_earlier_trainings_what_they_are(odd):
    without = odd("").sha256
    assert odd("SEARCH = {\n    'lr': {'low': 1e-3, 'high': 1e-1},\n}\n").sha256 == without
    assert odd("OTHER = 1\n").sha256 != without
    with pytest.raises(InputError, match="has no SEARCH, which says what is tried"):
        odd("")
        space_of(base("odd"), fixed={})


def search(**changes) -> Search:
    space = space_of(base("mlp", epochs=4), fixed={"epochs": 4})
    arguments = {
        "trials": 6,
        "images": None,
        "train_images": 40,
        "seeds": 2,
        "folds": 0,
        "pruning": "none",
        "storage": "",
    }
    return Search(space, **arguments | changes)


def test_a_budget_in_images_counts_what_trials_saw(tmp_path):
    study = open_study(f"sqlite:///{tmp_path}/a.db", "a", first={}, seed=0, pruner=create_pruner("none", 4))
    limited = search(trials=None, images=200)
    for epochs in (4, 1):
        assert not limited.is_spent(study.get_trials())
        trial = study.ask()
        for epoch in range(epochs):
            trial.report(0.5, epoch + 1)
        study.tell(trial, 0.5)
    assert limited.images_seen(study.get_trials()) == 5 * 40 and limited.is_spent(study.get_trials())
    spaces = [space_of(base(name, epochs=epochs), fixed={}) for name, epochs in (("mlp", 4), ("cnn", 9))]
    assert equal_budget(spaces, trials=10, train_images=40) == 10 * 40 * 4


def test_a_search_in_which_every_trial_fails_ends(tmp_path):
    study = open_study(f"sqlite:///{tmp_path}/a.db", "a", first={}, seed=0, pruner=create_pruner("none", 4))
    limited = search(trials=None, images=100)
    for _ in range(3):
        assert not limited.is_spent(study.get_trials())
        study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    assert limited.is_spent(study.get_trials())


def test_what_is_tried_depends_on_the_number_of_the_trial_alone(tmp_path):
    """The sampler of a process that begins anew goes on as the one that was killed would have."""

    def tried(name: str, *, reopened: bool) -> list[dict]:
        kinds = search().space.distributions
        for number in range(13):
            if not number or (reopened and number in (5, 11)):
                study = open_study(
                    f"sqlite:///{tmp_path}/{name}.db", "a", first=search().space.own, seed=3, pruner=None
                )
            trial = study.ask(dict(kinds))
            study.tell(trial, trial.params["lr"] + trial.params["warmup"])
        return [trial.params for trial in study.get_trials()]

    once, again = tried("once", reopened=False), tried("again", reopened=True)
    assert once == again and once[0] == search().space.own
    assert len({json.dumps(values) for values in once}) == 13


def test_the_expected_best_is_the_mean_over_all_draws():
    scores = [0.5, 0.9, 0.7]
    means = [np.mean([max(drawn) for drawn in product(scores, repeat=count)]) for count in (1, 2, 3)]
    assert expected_best(scores) == pytest.approx(means)


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////proc/nowhere/a.db", "mysql://user:secret@127.0.0.1:1/a"])
def test_a_storage_that_cannot_be_used_is_named_without_its_password(url):
    with pytest.raises(Exception, match=r"cannot be|Nothing can be written") as error:
        open_study(url, "a", first={}, seed=0, pruner=None)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\x00", "is no recipe that `tune` wrote"),
        (b"[]", "is no recipe that `tune` wrote"),
        (b'{"architecture": "cnn"}', "it lacks 'recipe'"),
        (b'{"architecture": "resnet", "recipe": {}}', "a recipe for 'resnet', which is no architecture here"),
        (b'{"architecture": "cnn", "recipe": {"seed": 1}}', "has no argument 'seed'"),
        (
            b'{"architecture": "cnn", "recipe": {"lr": "fast"}}',
            "argument lr is of type float (default 0.004), not 'fast'",
        ),
        (b'{"architecture": "cnn", "recipe": {"lr": NaN}}', "is no recipe that `tune` wrote"),
        (b'{"architecture": "cnn", "recipe": {"optimizer": "lion"}}', "has optimizer 'lion': choose one of"),
        (b'{"architecture": "cnn", "recipe": {"model_args": {"wide": 1}}}', "has no argument 'wide'"),
        (b" " * 2_000_000, "more than 1,000,000 bytes"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_in_a_sentence(tmp_path, content, says):
    (tmp_path / "recipe.json").write_bytes(content)
    with pytest.raises(InputError, match=re.escape(says)):
        recipe.load(str(tmp_path / "recipe.json"))


def test_a_trial_that_ends_its_process_again_and_again_is_given_up(tmp_path):
    journal = Journal(tmp_path / "trial", doing="This trial is being trained", new=True)
    with pytest.raises(Interrupted), trial.given_up(journal):
        trial.count_deaths(journal)
        raise Interrupted(15)
    for _ in range(trial.MOST_DEATHS):
        trial.count_deaths(journal)
    journal.say("metrics", {"points": []}, once="epoch 1")
    trial.count_deaths(journal)
    for _ in range(trial.MOST_DEATHS - 1):
        trial.count_deaths(journal)
    with pytest.raises(PipelineError, match="was killed 3 times in epoch 2"):
        trial.count_deaths(journal)
    journal.close()
