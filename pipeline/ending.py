"""How a process ends: asked to stop, by Ctrl-C, SIGTERM or a closed terminal, or done."""

import atexit
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from pipeline.errors import Interrupted

# Windows knows no terminal that hangs up.
STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

# For each block that is to be done as a whole, the signal that came meanwhile, or 0.
_asked: list[int] = []


def catch_signals() -> None:
    """From here on there is something to end in order: unwind the stack when asked to stop."""
    on_signals(interrupt)


def on_signals(handler: Callable[[int, Any], None]) -> None:
    """Handle everything that asks this process to stop, but a closed terminal only where `nohup` does not ignore it."""
    for number in STOPPING:
        if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def interrupt(number: int, frame: object) -> None:
    """Signal handler that ends runs and removes temporary files on its way out.

    Later signals are ignored: on Ctrl-C the launcher adds a SIGTERM to the terminal's SIGINT.
    """
    if _asked:
        _asked[-1] = number
        return
    on_signals(ignore)
    raise Interrupted(number)


@contextmanager
def whole() -> Iterator[None]:
    """What is done here is done as a whole: being asked to stop meanwhile is answered at its end."""
    _asked.append(0)
    try:
        yield
    finally:
        number = _asked.pop()
    if number:
        interrupt(number, None)


@contextmanager
def last_words(text: str) -> Iterator[None]:
    """Have an error said should this process be gone before the block ends: some libraries end it without a word."""
    says = "import sys; sys.stdin.read() or sys.exit(sys.argv[1])"
    # In a session of its own, so that Ctrl-C does not end it before this process.
    command = [sys.executable, "-IS", "-c", says, f"Error: {text}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as watcher:
        try:
            yield
        finally:
            watcher.communicate(b"ended")


def ignore(number: int, frame: object) -> None:
    """Signal handler that does nothing; of SIG_IGN Python complains where a signal is already on its way."""


def leave(number: int, frame: object) -> None:
    """Signal handler while libraries are still being imported, which an exception could leave half done."""
    os._exit(128 + number)


class QuickEnd:
    """All that a process does; it then ends without taking apart what libraries hold, which takes two seconds.

    Made before they are imported: what is registered first is done last, and whatever else is to be done at exit is.
    """

    def __enter__(self) -> None:
        self.code = 1
        atexit.register(self._end)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.code = 0
        elif isinstance(error, SystemExit):
            self.code = error.code if isinstance(error.code, int) else int(bool(error.code))

    def _end(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            # Whoever read it may be gone.
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(self.code)
