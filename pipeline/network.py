"""Downloads: what they are, and that they give up instead of hanging."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

TIMEOUT_S = 30


@dataclass(frozen=True)
class Download:
    """Something that a command needs and this machine does not have yet.

    Attributes:
        what: its name, for people.
        megabytes: how much comes over the network.
        instead: parameters of the command with which it is not needed, by name; None: as if it were not given.
    """

    what: str
    megabytes: float
    instead: Mapping[str, str | None]

    def __str__(self) -> str:
        return f"{self.what} ({self.megabytes:.0f} MB)"


@contextmanager
def impatient_sockets() -> Iterator[None]:
    """Let every connection opened in the block fail after TIMEOUT_S without an answer: torchvision sets no limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
