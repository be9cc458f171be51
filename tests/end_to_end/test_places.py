"""Places, stores and users with something wrong: a sentence that names it, soon, and nothing else blamed."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from support import free_port, only_run, pipeline, pipeline_process, wait_for_line
from werkzeug.serving import make_server

from pipeline.files import ROOT_VARIABLE
from pipeline.tracking.client import open_client
from pipeline.tracking.queries import find_trainings, trainings_of

TRAIN = ("train", "--model", "mlp", "--epochs", "1", "--val-size", "20", "--dataset")
STRANGER = "12345"


@pytest.fixture
def mounted() -> Iterator[Callable[..., Path]]:
    """Mount a small disk of its own at a folder; skipped where this user may not."""
    folders: list[Path] = []

    def mount(folder: Path, options: str) -> Path:
        folder.mkdir(exist_ok=True)
        again = ["-o", f"remount,{options}"] if folder in folders else ["-t", "tmpfs", "-o", options, "tmpfs"]
        if not shutil.which("mount") or subprocess.run(["mount", *again, folder], capture_output=True).returncode:
            pytest.skip("this user may mount nothing")
        folders.append(folder)
        return folder

    yield mount
    for folder in dict.fromkeys(folders):
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path) -> None:
    """Leave no byte free on a disk."""
    with (disk / "filling").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 12))
        except OSError:
            pass


def sentence(*arguments: str, code: int = 1, **environment: str) -> str:
    """Run a command that must end soon, with one sentence."""
    _, err = pipeline(*arguments, code=code, env=environment)
    # Libraries may warn before.
    *_, last = err.splitlines()
    assert last.startswith("Error: ") and "Traceback" not in err, err
    return last


def as_stranger(
    *arguments: str, bare: bool = False, others: bool = False, **environment: str
) -> subprocess.CompletedProcess:
    """Run a command as a user without a name, a home or any right but to read this project and its interpreter.

    Args:
        bare: without even that, as the superuser without its rights.
        others: without even that, as anybody else.
    """
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("only the superuser can become somebody else")
    rights = ["--inh-caps", "-all,+dac_read_search", "--ambient-caps", "+dac_read_search", "--clear-groups"]
    user = ["--reuid", STRANGER, "--regid", STRANGER, *rights]
    if bare:
        user = ["--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-dac_override,-dac_read_search"]
    if others:
        user = ["--reuid", STRANGER, "--regid", STRANGER, "--clear-groups", "--inh-caps", "-all"]
    known = {name: value for name, value in os.environ.items() if name.startswith(("MLFLOW", "PYTHON", "PATH", "OMP"))}
    return subprocess.run(
        ["setpriv", *user, sys.executable, "-m", "pipeline", *arguments],
        env=known | {"PYTHONDONTWRITEBYTECODE": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def without_store(environment) -> Path:
    """The test's folder, in which there is no database yet."""
    (environment / "mlflow.db").unlink()
    return environment


@pytest.fixture
def open_to_all(environment, bars) -> Iterator[None]:
    """Let every user into the folders of this test, which pytest keeps closed."""
    temporary = Path(tempfile.gettempdir())
    folders = [path for path in {*environment.parents, *bars.parents, environment} if temporary in path.parents]
    modes = {path: path.stat().st_mode for path in folders}
    for path, mode in modes.items():
        path.chmod(mode | (0o777 if path == environment else 0o011))
    (environment / "mlflow.db").chmod(0o666)
    yield
    for path, mode in modes.items():
        path.chmod(mode)


# --- Starts --------------------------------------------------------------------------------------------------------


def test_four_trainings_at_once_make_one_new_database(without_store, bars):
    processes = [pipeline_process(*TRAIN, str(bars), "--seed", str(seed)) for seed in range(4)]
    for process in processes:
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, f"{out}\n{err}"
    statuses = [run.info.status for run in mlflow.MlflowClient().search_runs(["0"])]
    assert statuses == ["FINISHED"] * 4


# --- Users ---------------------------------------------------------------------------------------------------------


def test_a_user_without_a_name_or_a_home_can_work(environment, open_to_all, bars):
    root = {ROOT_VARIABLE: str(environment / "root")}
    trained = as_stranger(*TRAIN, str(bars), **root)
    assert trained.returncode == 0, trained.stderr
    (run,) = mlflow.MlflowClient().search_runs(["0"])
    assert run.data.tags["owner"].startswith(f"uid-{STRANGER}@")
    for command in (["main", "--models", "mlp", "--epochs", "1", "--dataset", str(bars)], ["compare"], ["--help"]):
        done = as_stranger(*command, **root)
        assert done.returncode == 0, done.stderr


def test_a_user_without_rights_loads_a_champion_from_a_shared_disk(environment, open_to_all, command, bars):
    command(*TRAIN, str(bars))
    command("promote", "--model", "bars-mlp")
    root = {ROOT_VARIABLE: str(environment / "root")}
    if as_stranger("--help", others=True).returncode:
        pytest.skip("other users may not run this interpreter")
    shutil.copytree(bars, environment / "bars")
    answers = ["--input", str(environment / "bars" / "t10k-images-idx3-ubyte.gz"), "--output"]
    asked = ["predict", "--model-uri", "models:/bars-mlp@champion", *answers, str(environment / "answers.csv")]
    done = as_stranger(*asked, others=True, **root)
    assert done.returncode == 0, done.stderr
    assert (environment / "answers.csv").read_text().count("\n") == 21
    # Whatever a logged model has, any user may read.
    closed = [file for file in (environment / "mlruns").rglob("*") if not file.stat().st_mode & 0o004]
    assert closed == []


@pytest.mark.parametrize("home", [{}, {"HOME": "/"}, {"HOME": "/nowhere"}])
def test_a_user_without_a_home_is_told_to_name_a_folder(environment, open_to_all, bars, home):
    ended = as_stranger(*TRAIN, str(bars), **home)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr, ended.stderr
    says = ended.stderr.splitlines()[-1]
    assert says.startswith("Error: ") and says.endswith(f"Set {ROOT_VARIABLE} to a folder that may be written.")


@pytest.mark.parametrize("name", ["o'brien", 'a"b', "DOMAIN\\user", "a b"])
def test_any_name_of_a_user_will_do(environment, command, bars, monkeypatch, name):
    monkeypatch.setenv("LOGNAME", name)
    out, _ = command(*TRAIN, str(bars), "--resume")
    assert "There is no interrupted training of these options: starting." in out
    (run,) = mlflow.MlflowClient().search_runs(["0"])
    mlflow.MlflowClient().set_terminated(run.info.run_id, "KILLED")
    assert [found.info.run_id for found in find_trainings("0", run.data.tags["config_key"])] == [run.info.run_id]


# --- Places --------------------------------------------------------------------------------------------------------


def test_a_full_disk_of_checkpoints_is_named(environment, mounted, bars):
    disk = mounted(environment / "root", "size=500k")
    assert f"There is no space left on the disk of {disk}/journals/" in sentence(*TRAIN, str(bars))


@pytest.mark.parametrize("made", [True, False], ids=["filled later", "from the start"])
def test_a_full_disk_of_the_database_is_named(environment, mounted, bars, made):
    disk = mounted(environment / "store", "size=1100k" if made else "size=500k")
    uri = f"sqlite:///{disk}/mlflow.db"
    if made:
        open_client(uri)
        fill(disk)
    says = sentence(*TRAIN, str(bars), MLFLOW_TRACKING_URI=uri)
    assert f"The database {disk}/mlflow.db has no space left on its disk" in says


def test_a_full_disk_of_artifacts_is_named(environment, mounted, bars):
    disk = mounted(environment / "mlruns", "size=100k")
    assert f"There is no space left on the disk of {disk}/" in sentence(*TRAIN, str(bars))


def test_a_full_disk_of_temporary_files_is_named(environment, mounted, bars):
    disk = mounted(environment / "temporary", "size=100k")
    assert f"no space left on the disk of {disk}" in sentence(*TRAIN, str(bars), TMPDIR=str(disk))
    fill(disk)
    # The standard library silently takes another, where there is one.
    pipeline("compare", "--experiment", "Default", code=2, env={"TMPDIR": str(disk)})


def test_a_read_only_store_can_be_read_and_says_what_cannot_be_written(environment, mounted, bars):
    disk = mounted(environment / "store", "size=8m")
    uri = f"sqlite:///{disk}/mlflow.db"
    # Made by another process: this one would keep the file open.
    pipeline("compare", "--experiment", "Default", code=2, env={"MLFLOW_TRACKING_URI": uri})
    mounted(disk, "ro")
    says = sentence(*TRAIN, str(bars), MLFLOW_TRACKING_URI=uri)
    assert f"The database {disk}/mlflow.db cannot be written" in says
    assert "no finished training" in sentence("compare", "--experiment", "Default", code=2, MLFLOW_TRACKING_URI=uri)
    says = sentence(*TRAIN, str(bars), MLFLOW_TRACKING_URI=f"sqlite:///{disk}/other/new.db")
    assert f"cannot be made: {disk} is read-only" in says
    says = sentence(*TRAIN, str(bars), **{ROOT_VARIABLE: str(disk / "root")})
    assert f"{disk}/root" in says and f"Set {ROOT_VARIABLE}" in says


def test_what_is_no_database_is_named(without_store, mistake, bars):
    path = without_store / "mlflow.db"
    path.mkdir()
    assert f"The database {path} is a folder" in mistake("compare", code=1)
    path.rmdir()
    path.write_text("no database" * 1000)
    assert f"The database {path} is no database" in mistake("compare", code=1)


def test_a_database_that_may_not_be_read_is_named(environment):
    path = environment / "mlflow.db"
    open_client(f"sqlite:///{path}")
    path.chmod(0)
    ended = as_stranger("compare", bare=True)
    assert ended.returncode == 1 and f"{path} is closed to this user" in ended.stderr


def test_a_data_folder_that_may_not_be_read_is_named(environment, bars):
    folder = shutil.copytree(bars, environment / "closed")
    folder.chmod(0)
    ended = as_stranger(*TRAIN, str(folder), bare=True, **{ROOT_VARIABLE: str(environment / "root")})
    assert ended.returncode == 2 and f"{folder} may not be read by this user" in ended.stderr, ended.stderr


def test_a_database_server_that_is_away_is_named_at_once_and_without_its_password(environment, mistake, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql+psycopg://student:secret@127.0.0.1:{free_port()}/mlflow")
    says = mistake("compare", code=1)
    assert "does not answer" in says and "127.0.0.1" in says and "secret" not in says, says


def test_a_certificate_of_ones_own_is_asked_for(environment, mistake, monkeypatch):
    server = make_server("127.0.0.1", 0, lambda environ, start: [], ssl_context="adhoc")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://localhost:{server.port}")
    assert "name the file of who signed it with MLFLOW_TRACKING_SERVER_CERT_PATH" in mistake("compare", code=1)
    server.shutdown()


# --- What is deleted -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", [None, "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"])
def test_a_deleted_experiment_is_named_with_the_way_back(environment, mistake, bars, monkeypatch, variable):
    client = mlflow.MlflowClient()
    gone = client.create_experiment("gone") if variable else "0"
    client.delete_experiment(gone)
    if variable:
        monkeypatch.setenv(variable, gone if variable.endswith("ID") else "gone")
    for command in ([*TRAIN, str(bars)], [*TRAIN, str(bars), "--resume"], ["main", "--models", "mlp"]):
        says = mistake(*command, code=2)
        assert f"mlflow experiments restore --experiment-id {gone}." in says


def test_a_study_whose_run_is_deleted_meanwhile_stops_soon_and_goes_on_when_it_is_back(environment, bars):
    study = ["main", "--models", "mlp", "--seeds", "3", "--epochs", "60", "--val-size", "20", "--dataset", str(bars)]
    process = pipeline_process(*study)
    wait_for_line(process, "epoch  1/60")
    run_id = only_run("study").info.run_id
    mlflow.MlflowClient().delete_run(run_id)
    _, err = process.communicate()
    restore = f"bring it back with mlflow runs restore --run-id {run_id}."
    assert process.returncode == 1 and f"Not begun: The run of the study was deleted: {restore}" in err, err
    mlflow.MlflowClient().restore_run(run_id)
    out, _ = pipeline(*study)
    assert "[1/3] mlp seed 0: finished before" in out and only_run("study").info.status == "FINISHED"
    assert len(trainings_of(run_id)) == 3


def test_a_deleted_artifact_folder_is_made_again(environment, command, bars):
    command(*TRAIN, str(bars))
    shutil.rmtree(environment / "mlruns")
    command(*TRAIN, str(bars))
    assert (environment / "mlruns").is_dir()


# --- Other versions of MLflow --------------------------------------------------------------------------------------

# The last migrations of MLflow 2.8, 2.22 and 3.1.
EARLIER = ("acf3f17fdcc7", "0584bdc529eb", "6953534de441")


@pytest.mark.parametrize(
    ("version", "says"),
    [*((version, "is an earlier MLflow's") for version in EARLIER), ("ffffffffffff", "is a later MLflow's")],
)
def test_a_database_of_another_version_is_refused_and_stays_as_it_is(environment, mistake, version, says):
    path = environment / "mlflow.db"
    open_client(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
        # As in every earlier one, tables are missing: MLflow would add them unasked.
        connection.execute("DROP TABLE jobs")
        connection.commit()
    before = path.read_bytes()
    told = mistake("compare", code=1)
    assert says in told and (version not in EARLIER or f"mlflow db upgrade sqlite:///{path}" in told)
    assert path.read_bytes() == before


def test_the_files_of_an_earlier_version_are_left_alone_and_the_way_out_is_said(without_store, mistake, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (without_store / "mlruns" / "0").mkdir(parents=True)
    (without_store / "mlruns" / "0" / "meta.yaml").write_text("experiment_id: '0'\nname: Default\n")
    assert "mlflow migrate-filestore --source mlruns --target sqlite:///mlflow.db" in mistake("compare", code=1)
    assert not (without_store / "mlflow.db").exists()


def test_a_database_whose_making_was_cut_is_named_and_ours_are_whole_or_not_there(without_store, mistake, monkeypatch):
    path = without_store / "mlflow.db"

    def cut(words: list[str], **_: object) -> None:
        with closing(sqlite3.connect(words[-1].removeprefix("sqlite:///"))) as connection:
            connection.execute("CREATE TABLE experiments (experiment_id INTEGER)")
            connection.execute("CREATE TABLE runs (run_uuid TEXT)")
            connection.commit()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(mlflow.db.commands, "main", cut)
        open_client(f"sqlite:///{path}")
    assert list(without_store.iterdir()) == []
    with pytest.raises(KeyboardInterrupt):
        cut([f"sqlite:///{path}"])
    told = mistake("compare", code=1)
    assert f"The database {path} is half made" in told
    assert open_client(f"sqlite:///{without_store}/other.db").search_experiments()[0].name == "Default"
