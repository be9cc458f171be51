"""Bad weather on purpose: a proxy before a tracking server that is away, slow, or loses what is said."""

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

UNANSWERED = (500, 503, 429)


@dataclass
class Weather:
    """What befalls requests; shares are of one.

    Attributes:
        away: every connection is closed without an answer.
        errors: share that is answered with an error instead of being passed on.
        lost: share that the server does, but whose answer is lost.
        cut: share of uploads whose connection is closed in the middle.
        delay: seconds before each answer.
        forgetful: whether the first request of each kind is refused, and the second done and its answer lost.
        requests: how many there were.
    """

    uri: str = ""
    away: bool = False
    errors: float = 0.0
    lost: float = 0.0
    cut: float = 0.0
    delay: float = 0.0
    forgetful: bool = False
    requests: int = 0


@contextmanager
def proxy(server: str, *, seed: int = 0) -> Iterator[Weather]:
    """Stand on a port of this machine before a server; yields the weather, which may be changed at any time."""
    weather, chance = Weather(), random.Random(seed)
    seen = Counter[tuple[str, ...]]()
    address = urlsplit(server).netloc

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            weather.requests += 1
            if weather.away:
                self.close_connection = True
                self.connection.close()
                return
            size = int(self.headers.get("Content-Length", 0))
            if size > 10_000 and chance.random() < weather.cut:
                self.rfile.read(size // 2)
                self.close_connection = True
                self.connection.close()
                return
            content = self.rfile.read(size)
            time.sleep(weather.delay)
            # Without what differs from run to run and from file to file.
            kind = (
                self.command,
                *(part for part in urlsplit(self.path).path.split("/")[:6] if part.isalpha() or "-" in part),
            )
            seen[kind] += weather.forgetful
            if chance.random() < weather.errors or (weather.forgetful and seen[kind] == 1):
                self.send_error(chance.choice(UNANSWERED))
                return
            upstream = http.client.HTTPConnection(address, timeout=60)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            upstream.request(self.command, self.path, content, headers)
            answer = upstream.getresponse()
            body = answer.read()
            upstream.close()
            if weather.away or chance.random() < weather.lost or (weather.forgetful and seen[kind] == 2):
                self.close_connection = True
                self.connection.close()
                return
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = handle_any

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *words: object) -> None:
            """Clients that give up are part of the weather."""

    with Server(("127.0.0.1", 0), Handler) as listening:
        weather.uri = f"http://127.0.0.1:{listening.server_port}"
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield weather
        listening.shutdown()
