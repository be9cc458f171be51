"""What real failures of libraries are called in one sentence, and whether waiting may mend them."""

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from support import PROJECT, free_port

from pipeline.errors import PipelineError, reason
from pipeline.tracking.client import open_client
from pipeline.tracking.failures import ServerAway, is_away


def raised(function, *arguments) -> Exception:
    with pytest.raises(Exception) as caught:
        function(*arguments)
    return caught.value


@pytest.mark.parametrize("allocate", [torch.empty, lambda size: np.ones(size)])
def test_lack_of_memory_is_named(allocate):
    assert "has not enough memory" in reason(raised(allocate, 1 << 50))


def test_too_many_open_files_are_named():
    script = (
        "import resource; from pipeline.errors import reason; files = []\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "try:\n    while True: files.append(open('/dev/null'))\n"
        "except OSError as error: print(reason(error))"
    )
    out = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    assert "Too many files are open" in out


def test_a_full_disk_is_named():
    assert "There is no space left on the disk of " in reason(raised(Path("/dev/full").write_text, "text"))


def test_the_place_behind_another_error_is_named(tmp_path):
    def connect():
        try:
            with closing(sqlite3.connect(tmp_path)):
                pass
        except sqlite3.Error as error:
            raise ValueError("in other words") from error

    assert "cannot be opened" in reason(raised(connect))
    assert reason(ValueError("another")) is None


@pytest.fixture
def answering():
    """A server that answers everything with one status; yields a function that starts it and gives its address."""
    servers = []

    def start(status: int) -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_GET

            def log_message(self, *arguments):
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Answer))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_that_asks_for_patience_is_away(answering, monkeypatch, status):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with pytest.raises(ServerAway, match=f"does not answer: too many {status} error responses"):
        open_client(answering(status))


@pytest.mark.parametrize(
    ("status", "says"), [(401, "asks for a name"), (403, "does not allow"), (404, "cannot be used")]
)
def test_a_server_that_refuses_is_not_away(answering, status, says):
    with pytest.raises(PipelineError, match=says) as caught:
        open_client(answering(status))
    assert not isinstance(caught.value, ServerAway)


@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
def test_a_server_that_is_not_there_is_away(monkeypatch, host):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ServerAway, match="does not answer"):
        open_client(f"http://{host}:{free_port()}")


def test_a_password_in_an_address_is_not_shown(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(PipelineError) as caught:
        open_client("http://somebody:secret@127.0.0.1:9")
    assert "127.0.0.1:9" in str(caught.value) and "secret" not in str(caught.value)


def test_a_locked_database_is_away(tmp_path):
    open_client(f"sqlite:///{tmp_path}/mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with closing(sqlite3.connect(tmp_path / "mlflow.db", timeout=0)) as other:
            assert is_away(raised(other.execute, "SELECT * FROM runs"))
