"""Being asked to stop: Ctrl-C, SIGTERM, a closed terminal."""

import os
import signal
from collections.abc import Callable
from typing import Any

from pipeline.errors import Interrupted

# Windows knows no terminal that hangs up.
STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


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
    for other in STOPPING:
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(number)


def leave(number: int, frame: object) -> None:
    """Signal handler while libraries are still being imported, which an exception could leave half done."""
    os._exit(128 + number)
