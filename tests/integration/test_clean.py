"""What is left over is shown first, and removed when that is asked for; what is in use stays."""

import getpass
import json
import time

import mlflow
from support import PROJECT, left_in, only_run, pipeline_process, wait_for_line, write_idx_folder

from pipeline.tracking.client import owner

SMALL = ("--epochs", "1", "--val-size", "20")


def names(filter_string: str = "") -> list[str]:
    return sorted(run.info.run_name for run in mlflow.MlflowClient().search_runs(["0"], filter_string))


def test_trials_failures_and_orphans_go_and_the_rest_stays(environment, command, mistake, bars):
    client = mlflow.MlflowClient()
    train = ["train", "--model", "mlp", "--dataset", str(bars), *SMALL]
    command(*train)
    command(*train, "--seed", "1", "--register", "false")
    assert len(client.search_model_versions()) == 1 and len(client.search_logged_models(["0"])) == 2
    out, _ = command(*train, "--seed", "1", "--resume")
    assert "is finished: run " in out and "It was a trial (register=false), so no version" in out
    assert "a trial" not in command(*train, "--resume")[0]
    mistake(*train, "--optimizer", "sgd", "--lr", "99", "--model-args", "hidden=500", "--epochs", "50", code=1)
    assert len(names()) == 3
    out, _ = command("clean")
    assert "Would remove run mlp epochs=1 val_size=20 seed 1 (" in out and "): a trial." in out
    assert "): it failed." in out and out.count("Would remove") == 2 and "Nothing was removed" in out
    assert len(names()) == 3

    process = pipeline_process(*train[:-4], "--epochs", "300", "--val-size", "20", "--seed", "2")
    wait_for_line(process, "epoch   2/300")
    assert command("clean")[0] == out, "what is being trained is no leftover"
    process.kill()
    process.communicate()
    (cut,) = client.search_runs(["0"], "params.seed = '2'")
    client.delete_run(cut.info.run_id)
    out, _ = command("clean", "--delete")
    assert out.count("Removed ") == 3 and " MB: its run was deleted" in out
    assert names() == ["mlp epochs=1 val_size=20 seed 0"] and left_in(environment) == []
    assert [model.name for model in client.search_logged_models(["0"])] == ["bars-mlp epochs=1 val_size=20 seed 0"]
    assert command("clean")[0] == "There is nothing to remove.\n"


def test_a_study_goes_with_all_that_hangs_on_it(environment, command, mistake, bars):
    client = mlflow.MlflowClient()
    data = ["--dataset", str(bars)]
    command("train", "--model", "mlp", "--seed", "7", *data, *SMALL)
    command("main", "--models", "mlp,cnn", *data, *SMALL)
    command("promote", "--model", "cnn")
    command("evaluate", "--model-uri", "models:/bars-cnn/1", *data)
    study, (kept,) = only_run("study").info.run_id, client.search_runs(["0"], "params.seed = '7'")
    assert f"{kept.info.run_id} is no study" in mistake("clean", "--study", kept.info.run_id, code=2)
    out, _ = command("clean", "--study", study)
    assert "Would remove bars-cnn version 1, the champion: of the study bars study epochs=1 val_size=20." in out
    assert "evaluate bars-cnn version 1" in out and len(client.search_model_versions()) == 3
    command("clean", "--study", study, "--delete")
    assert f"The study {study} was deleted" in mistake("compare", "--study", study, code=2)
    assert [run.info.run_id for run in client.search_runs(["0"])] == [kept.info.run_id]
    assert [(version.name, version.run_id) for version in client.search_model_versions()] == [
        ("bars-mlp", kept.info.run_id)
    ]
    assert [model.name for model in client.search_registered_models()] == ["bars-mlp"]
    assert [model.source_run_id for model in client.search_logged_models(["0"])] == [kept.info.run_id]


def test_a_study_goes_with_the_last_of_its_trainings(environment, command, bars):
    study = ["main", "--dataset", str(bars), *SMALL]
    command(*study, "--models", "mlp", "--register", "false")
    command(*study, "--models", "mlp")
    out, _ = command("clean")
    assert out.count("Would remove") == 2 and "run mlp seed 0 (" in out and "): a trial." in out
    assert "run bars study epochs=1 val_size=20 (" in out and "): nothing else of it stays." in out
    command("clean", "--delete")
    assert names() == ["bars study epochs=1 val_size=20", "mlp seed 0"]
    client = mlflow.MlflowClient()
    assert len(client.search_model_versions()) == 1 and command("clean")[0] == "There is nothing to remove.\n"
    # As an earlier cleaning left it.
    client.delete_run(only_run("training").info.run_id)
    assert "nothing else of it stays" in command("clean")[0]


def test_folders_of_one_name_do_not_share_registered_names_by_accident(environment, command, mistake, bars):
    train = ["train", "--model", "mlp", *SMALL, "--dataset"]
    command(*train, str(bars))
    other = str(write_idx_folder(environment / "bars", seed=1))
    says = mistake(*train, other, code=2)
    assert "bars-mlp stands for another data set called bars" in says and str(bars) in says
    assert "bars-mlp stands for another" in mistake("main", "--models", "mlp", "--dataset", other, code=2)
    assert "cannot name a data set" in mistake(*train, other, "--name", "a/b", code=2)
    # At once: no folder is read, nothing is downloaded.
    assert "cannot name a data set" in mistake("main", "--dataset", "mnist", "--name", "My set", code=2)
    command(*train, other, "--name", "noisy-bars")
    command(*train, other, "--name", "bars")
    versions = mlflow.MlflowClient().search_model_versions()
    assert sorted(version.name for version in versions) == ["bars-mlp", "bars-mlp", "noisy-bars-mlp"]
    # The same images elsewhere, and others in the same place, are the same data set.
    command(*train, other)


def test_launches_in_which_nothing_was_done_go(environment, command):
    client, hours = mlflow.MlflowClient(), 3_600_000
    tags = {"mlflow.user": getpass.getuser(), "mlflow.project.entryPoint": "train"}
    here, elsewhere = {"mlflow.source.name": f"file://{PROJECT}"}, {"mlflow.source.name": "file:///elsewhere"}
    now = int(time.time() * 1000)
    client.create_run("0", start_time=now - 2 * hours, tags=tags | here, run_name="without an end")
    client.create_run("0", start_time=now, tags=tags | here, run_name="is being installed")
    client.create_run("0", start_time=now - 2 * hours, tags=tags | elsewhere, run_name="another project's")
    client.create_run("0", start_time=now - 2 * hours, tags=tags | here | {"mlflow.user": "ann"}, run_name="ann's")
    failed = client.create_run("0", tags=tags | here, run_name="failed").info.run_id
    client.set_terminated(failed, "FAILED")
    out, _ = command("clean", "--delete")
    assert "without an end (" in out and "never came to its end" in out and "its launch failed" in out
    assert names() == ["ann's", "another project's", "is being installed"]


def test_what_others_made_stays(environment, command):
    client = mlflow.MlflowClient()

    def run(status: str, **tags: str) -> str:
        made = client.create_run("0", tags=tags)
        if status != "RUNNING":
            client.set_terminated(made.info.run_id, status)
        return made.info.run_id

    foreign = [run("FAILED", kind=kind) for kind in ("job", "training", "study")]
    # On a server that several share, what was cut on one machine is continued there.
    expired = json.dumps({"holder": "a", "who": "b", "until": 0})
    elsewhere = [
        run(status, kind="training", owner="ann@far-away", lease=expired) for status in ("FAILED", "KILLED", "RUNNING")
    ]
    here = [run("KILLED", kind="training", owner=owner()), run("FAILED", kind="launch")]
    out, _ = command("clean", "--delete")
    assert out.count("Removed run ") == 2
    left = {left.info.run_id for left in client.search_runs(["0"])}
    assert left == {*foreign, *elsewhere} and not left & set(here)
