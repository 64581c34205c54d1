"""Says once when the database is away and once when it is back, however many ask it and however often they fail."""

from __future__ import annotations

import logging
import threading
from types import TracebackType

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

log = logging.getLogger("token_tracker.database")

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 2.0


class Outage:
    """Shared by the threads of a process; each reports under a name of its own."""

    def __init__(self, consequence: str) -> None:
        """`consequence`: what it means for people until the database is back, to be said in the log."""
        self._consequence = consequence
        self._failing: dict[str, str] = {}
        self._lock = threading.Lock()

    @property
    def problem(self) -> str:
        """What is wrong, in words; '' while the database answers everybody."""
        return next(iter(list(self._failing.values())), "")

    def failed(self, who: str, error: SQLAlchemyError) -> None:
        with self._lock:
            if not self._failing:
                log.warning("the database does not answer (%s); %s", reason(error), self._consequence)
            self._failing[who] = f"the database does not answer ({reason(error)})"

    def succeeded(self, who: str) -> None:
        if who not in self._failing:
            return
        with self._lock:
            self._failing.pop(who, None)
            if not self._failing:
                log.info("the database answers again")


class Attempts:
    """One user's attempts at the database: a failure is reported, and the waits in between grow to 2 s.

    `with attempts:` ends a failure of the database (SQLAlchemyError) there; all else is passed on. `wait_s` is how
    long to wait before the next attempt, 0 after a success.
    """

    def __init__(self, outage: Outage, who: str) -> None:
        self.wait_s = 0.0
        self._outage, self._who = outage, who

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> bool:
        if isinstance(error, SQLAlchemyError):
            self._outage.failed(self._who, error)
            self.wait_s = min(max(self.wait_s * 2, FIRST_WAIT_S), LONGEST_WAIT_S)
            return True
        if error is None:
            self._outage.succeeded(self._who)
            self.wait_s = 0.0
        return False


def reason(error: SQLAlchemyError) -> str:
    """The driver's own words on one line, without statement and parameters."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(error).__name__
