"""Downloads that give up instead of hanging."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

TIMEOUT_S = 30


@contextmanager
def impatient_sockets() -> Iterator[None]:
    """Let every connection opened in the block fail after TIMEOUT_S without an answer: torchvision sets no limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
