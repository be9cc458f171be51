"""Errors made for people: one sentence that says what is wrong and what to do, and the exit code that goes with it."""


class PipelineError(Exception):
    """Something failed that is no programming error; its text is all the user sees."""

    exit_code = 1


class InputError(PipelineError):
    """Wrong usage or bad input."""

    exit_code = 2


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM. No `Exception`, so that nothing that recovers from failures swallows it."""

    def __init__(self, signal_number: int):
        super().__init__(signal_number)
        self.exit_code = 128 + signal_number
