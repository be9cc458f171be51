"""Arguments as people type them: read without running code, checked without importing what takes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import models
from pipeline import arguments
from pipeline.errors import InputError
from pipeline.evaluation import task


def test_model_args_are_python_literals():
    text = "kernel_size=5,channels=(16, 32),dropout=0.3,padding=None,backbone=small"
    assert arguments.parse(text, option="model_args") == {
        "kernel_size": 5,
        "channels": (16, 32),
        "dropout": 0.3,
        "padding": None,
        "backbone": "small",
    }
    assert arguments.parse("", option="model_args") == {}


@given(st.text(max_size=30))
def test_model_args_never_run_code(text):
    try:
        arguments.parse(text, option="model_args")
    except InputError as error:
        assert "cannot be read" in str(error)


@pytest.mark.parametrize("text", ["5", "a=b()", "__import__('os')", "**{}", "a=1)(", "a=[x for x in (1,)]", "a==1"])
def test_model_args_of_another_form(text):
    with pytest.raises(InputError, match="write it as kernel_size=5"):
        arguments.parse(text, option="model_args")


@pytest.mark.parametrize("name", models.names())
def test_what_a_file_shows_is_what_importing_it_gives(name):
    architecture, found = models.get(name), arguments.definitions(name)
    assert arguments.read_signature(found, "build") == architecture.arguments
    assert arguments.has_published_weights(name) == (architecture.weights is not None)
    assert arguments.constant(found["TASK"]) == architecture.task


@pytest.mark.parametrize("name", task.TASKS)
def test_so_it_is_of_a_task(name):
    found = arguments.defined(arguments.TASKS / f"{name}.py")
    assert arguments.read_signature(found, name.capitalize()) == task.arguments(name)


@pytest.mark.parametrize(
    "source",
    [
        "def build(**options): ...",
        "build = make(hidden=1)",
        "build = Elsewhere",
        "@wrapped\ndef build(*, hidden=1): ...",
        "class Net(Elsewhere): ...\nbuild = Net",
    ],
)
def test_what_is_not_plainly_written_is_left_to_the_import(tmp_path, source):
    (tmp_path / "odd.py").write_text(source)
    assert arguments.read_signature(arguments.defined(tmp_path / "odd.py"), "build") is None


def test_a_function_of_any_arguments_is_read(tmp_path):
    (tmp_path / "odd.py").write_text("def build(num_classes, hidden=-1, *, width=make(), depth=(1, 2)): ...")
    found = arguments.defined(tmp_path / "odd.py")
    assert arguments.read_signature(found, "build") == {"hidden": -1, "width": None, "depth": (1, 2)}
