"""Errors made for people: one sentence that says what is wrong and what to do, and the exit code that goes with it."""

from collections.abc import Iterator

WITHOUT_NETWORK = (
    "without network use -P dataset=digits or -P dataset=FOLDER with IDX files, "
    "and -P weights=none or -P weights=FILE with weights on disk"
)


def first_line(error: BaseException) -> str:
    """What a library's error says, without its details and its full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from or while handling, and so on to the first of them."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


class PipelineError(Exception):
    """Something failed that is no programming error; its text is all the user sees."""

    exit_code = 1


class InputError(PipelineError):
    """Wrong usage or bad input."""

    exit_code = 2


class Refusal(PipelineError):
    """What could be done and should not be, as a promotion without evidence."""

    exit_code = 3


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM. No `Exception`, so that nothing that recovers from failures swallows it."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.exit_code = 128 + signal_number
