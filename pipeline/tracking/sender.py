"""The one writer of a process: sends what journals hold, in order, while something else is done."""

import logging
import threading
import time
from collections.abc import Mapping
from functools import partial

import mlflow

from pipeline.errors import PipelineError
from pipeline.tracking import lease
from pipeline.tracking.client import open_client
from pipeline.tracking.deliver import Delivery
from pipeline.tracking.failures import cause, is_away, once_more
from pipeline.tracking.journal import Journal
from pipeline.tracking.schema import LEASE

logger = logging.getLogger(__name__)

# Seconds until a server that does not answer is asked again: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
# Seconds that the first word to the server may take before a training begins without it.
FIRST_WORD_S = 10.0
# And the last word before the process ends, where nothing waited for it.
LAST_WORD_S = 5.0


class Sender:
    """A thread that tells the tracking server what journals hold.

    With the server away it says so once and asks again after growing pauses. Entered and left as a context; what is
    not sent by then stays in the journals.

    Args:
        deliveries: what is to be done with the records of each kind.
    """

    def __init__(self, deliveries: Mapping[str, Delivery]) -> None:
        self.deliveries = deliveries
        self._journals: list[Journal] = []
        self._clients: dict[str, mlflow.MlflowClient] = {}
        # Of these nothing more will be said.
        self._left: set[str] = set()
        # Why the journals of these keys cannot be sent now.
        self._problems: dict[str, Exception] = {}
        self._closing = False
        self._renewed = 0.0
        # How many deliveries have arrived.
        self._confirmed = 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)

    def __enter__(self) -> "Sender":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        # What was said last, such as that the run was interrupted.
        if not self.problem:
            self.finish(LAST_WORD_S)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        # A request that hangs shall not keep the process: it is asked again by whoever sends the journal next.
        self._thread.join(timeout=5)
        for journal in self._journals:
            journal.close()

    # --- For whoever writes journals -------------------------------------------------------------------------------

    def add(self, journal: Journal) -> None:
        """Send this journal from now on, and close it in the end."""
        journal.changed = self._wake
        with self._changed:
            self._journals.append(journal)
        self._wake()

    def leave(self, journal: Journal, *, forget: bool = False) -> None:
        """Nothing more will be said in this journal: it is closed when all is sent.

        It is removed with its folder unless the run can be gone on with, or at once where it shall be forgotten.
        """
        with self._changed:
            self._left.add(journal.key)
            if forget:
                self._journals.remove(journal)
                self._problems.pop(journal.key, None)
                journal.remove()
            self._changed.notify_all()

    def first_word(self, journal: Journal) -> None:
        """Wait a little for the run to be there; a server that is away is not waited for.

        Raises:
            PipelineError: the server refuses it: better now than after the training.
        """
        deadline = time.monotonic() + FIRST_WORD_S
        with self._changed:
            while time.monotonic() < deadline and not self.problem and journal.run_id is None:
                self._changed.wait(0.05)
        if self.problem and not is_away(self.problem):
            raise PipelineError(f"Not begun: {cause(self.problem)}.") from self.problem

    def finish(self, seconds: float) -> bool:
        """Wait until all is sent, at most so long, and not at all for what waiting does not mend."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._changed.notify_all()
            while not all(journal.all_sent for journal in self._journals):
                left = deadline - time.monotonic()
                if left <= 0 or (self.problem and not is_away(self.problem)):
                    return False
                self._changed.wait(min(left, 0.2))
        return True

    @property
    def problem(self) -> Exception | None:
        """Why something cannot be sent now, None while all goes well."""
        return next(iter(self._problems.values()), None)

    # --- The thread ------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._closing:
            before = self._confirmed
            sent = self._send_all()
            # A server that does something now and then is asked again soon.
            if sent or self._confirmed > before:
                pause = FIRST_PAUSE
            with self._changed:
                self._changed.notify_all()
                if sent:
                    if not self._closing and all(journal.all_sent for journal in self._journals):
                        self._changed.wait(lease.lasts() / 5)
                else:
                    end = time.monotonic() + pause
                    while not self._closing and (left := end - time.monotonic()) > 0:
                        self._changed.wait(left)
                    pause = min(2 * pause, LONGEST_PAUSE)

    def _send_all(self) -> bool:
        """Send what there is; whether all of it arrived."""
        renew = time.monotonic() > self._renewed + lease.lasts() / 5
        for journal in list(self._journals):
            try:
                client = self._client(journal.about["tracking_uri"])
                while not self._closing and (record := journal.next()):
                    once_more(partial(self.deliveries[record.kind], client, journal, record))
                    journal.confirm(record)
                    self._confirmed += 1
                    self._arrived(journal)
                if renew and journal.run_id and journal.key not in self._left:
                    client.set_tag(journal.run_id, LEASE, lease.write(journal.key))
                self._arrived(journal)
                self._drop(journal)
            except Exception as error:
                self._failed(journal, error)
                if is_away(error):
                    break
        if renew and not self._problems:
            self._renewed = time.monotonic()
        return not self._problems

    def _client(self, uri: str) -> mlflow.MlflowClient:
        if uri not in self._clients:
            self._clients[uri] = open_client(uri, upgrade=False)
        return self._clients[uri]

    def _drop(self, journal: Journal) -> None:
        with self._changed:
            if journal.key not in self._left or not journal.all_sent:
                return
            self._journals.remove(journal)
        if journal.ended == "FINISHED" or (journal.ended == "FAILED" and not list(journal.folder.glob("*.pt"))):
            journal.remove()
        else:
            journal.close()

    def _failed(self, journal: Journal, error: Exception) -> None:
        # A run that the server refuses is not begun, as `first_word` says.
        if not self._problems and (journal.run_id or is_away(error)):
            logger.warning(
                "Not recorded now (%s). What is trained goes on; what there is to record is kept in %s and sent later.",
                cause(error),
                journal.folder.parent,
            )
        logger.debug("not sent", exc_info=error)
        self._problems[journal.key] = error

    def _arrived(self, journal: Journal) -> None:
        if self._problems.pop(journal.key, None) and not self._problems:
            logger.info("The tracking server answers again: what was kept is being sent.")
