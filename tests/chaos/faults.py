"""The faults of a chaos run: each breaks one thing of a running installation, and leaves it whole again."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from tests.chaos.clients import Crowd
from tests.functional.books import Ledger
from tests.functional.installation import Installation, wait_until
from tests.functional.outages import Outage
from tests.functional.traffic import Moment

BACK_S = 20


@dataclass
class Havoc:
    """What was broken so far. `kills` by process; `moments`: when a gateway was killed, `child_moments`: LiteLLM."""

    installation: Installation
    outage: Outage
    database_url: str
    crowd: Crowd
    kills: dict[str, int] = field(default_factory=dict)
    moments: list[Moment] = field(default_factory=list)
    child_moments: list[Moment] = field(default_factory=list)
    outages: int = 0
    refused: int = 0  # new calls that a full disk refused
    replayed_bytes: int = 0
    problems: list[str] = field(default_factory=list)

    def strike(self, name: str, draw: Random) -> None:
        """Do what `name` of `plan.FAULTS` says; it returns when the thing is whole again or on its way to be."""
        acts: dict[str, Callable[[Random], None]] = {
            "gateway killed": lambda _: self._kill("gateway"),
            "recorder killed": self._kill_recorders,
            "LiteLLM child killed": lambda _: self._kill("litellm"),
            "all killed": lambda _: self._kill("gateway", "recorder", "litellm"),
            "database stopped": lambda draw: self._away(self.outage.away, draw),
            "database locked": lambda draw: self._away(self.outage.locked, draw),
            "database slow": lambda draw: self._away(self.outage.slow, draw),
            "killed while the database is away": self._away_and_kill,
            "recorder killed at its locked tables": self._lock_and_kill,
            "journal disk full": lambda _: self._fill(),
            "journal replayed": lambda _: self._replay(),
        }
        acts[name](draw)

    def _kill(self, *processes: str) -> None:
        """End them with -9, all at one moment; wait for the next ones, but not until they serve."""
        victims = {process: self._pids(process) for process in processes}
        before_s = time.monotonic()
        for pids in victims.values():
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        moment = before_s, time.monotonic()
        for process, pids in victims.items():
            self.kills[process] = self.kills.get(process, 0) + len(pids)
            self._wait_for_next(process, pids)
        if "gateway" in victims:
            self.moments.append(moment)
        if "litellm" in victims:
            # A call may be sent on a connection of the dead one that nobody has seen closing yet.
            self.child_moments.append((before_s, moment[1] + 1))

    def _pids(self, process: str) -> list[int]:
        found: list[int] = wait_until(lambda: self.installation.child_pids(process), BACK_S, f"a {process}")
        return found

    def _wait_for_next(self, process: str, pids: list[int]) -> None:
        wait_until(lambda: set(self.installation.child_pids(process)) - set(pids), BACK_S, f"the next {process}")

    def _away(self, outage: Callable[[], AbstractContextManager[None]], draw: Random) -> None:
        self.outages += 1
        with outage():
            time.sleep(draw.uniform(0.5, 2.5))

    def _away_and_kill(self, draw: Random) -> None:
        self.outages += 1
        with self.outage.away():
            time.sleep(draw.uniform(0.2, 1.0))
            self._kill(*draw.sample(("gateway", "recorder"), draw.choice((1, 2))))
            time.sleep(draw.uniform(0.2, 1.0))

    def _lock_and_kill(self, draw: Random) -> None:
        """Whatever a recorder commits of a batch before the rest of it would be lost or doubled here."""
        self.outages += 1
        with self.outage.locked():
            time.sleep(draw.uniform(0.5, 1.0))
            self._kill("recorder")

    def _kill_recorders(self, draw: Random) -> None:
        """One after the other, so that one of them dies within a batch."""
        for _ in range(3):
            self._kill("recorder")
            time.sleep(draw.uniform(0.3, 0.8))

    def _fill(self) -> None:
        """No file of the gateway may grow until a call is refused for it, which is what a full disk does to a journal.

        What it has reserved it may still write. The process is held while the limit is set, so that nothing grows
        between the look and the limit.
        """
        [pid] = self._pids("gateway")
        with _file_size_limited(pid, lambda: newest_segment_bytes(self.installation)):
            wait_until(lambda: self.crowd.bulky_call() in (0, 503), BACK_S, "a refusal because of a full disk")
            self.refused += 1
            time.sleep(0.5)  # the ends of calls that are open now fall into this time
        self.outages += 1
        wait_until(lambda: self.crowd.bulky_call() == 200, BACK_S, "a call after the disk has room again")

    def _replay(self) -> None:
        """Take back how far the journal is booked, and kill the recorder, so that the next one reads it all again.

        First everything that was complete until now must be booked: a replay would heal what is missing.
        """
        complete = {each.marker for each in list(self.crowd.seen) if each.is_complete}
        ledger = Ledger(self.database_url)
        try:
            wait_until(lambda: complete <= {row["end_user"] for row in ledger.rows()}, BACK_S, "all complete calls")
        except AssertionError:
            missing = sorted(complete - {row["end_user"] for row in ledger.rows()})
            self.problems.append(f"complete and not booked before a replay: {', '.join(missing[:10])}")
        pids = self._pids("recorder")
        parsed = make_url(self.database_url)
        driver = "postgresql+psycopg2" if parsed.get_backend_name() == "postgresql" else "sqlite"
        engine = create_engine(parsed.set(drivername=driver), poolclass=NullPool)
        with engine.begin() as connection:
            moved = connection.execute(text('UPDATE journal_offsets SET "offset" = 0 WHERE "offset" > 0'))
            for pid in pids:  # within the transaction: it cannot put its own offsets back
                os.kill(pid, signal.SIGKILL)
            assert moved.rowcount >= 0
        self.replayed_bytes += newest_segment_bytes(self.installation)
        self.kills["recorder"] = self.kills.get("recorder", 0) + len(pids)
        self._wait_for_next("recorder", pids)


def newest_segment_bytes(installation: Installation) -> int:
    """The size of the largest segment, with the room that is reserved in it."""
    return max((path.stat().st_size for path in segments(installation)), default=0)


def segments(installation: Installation) -> list[Path]:
    return sorted((installation.data_dir / "journal").glob("*/*-*"))


@contextmanager
def _file_size_limited(pid: int, limit_bytes: Callable[[], int]) -> Iterator[None]:
    """Linux: `prlimit` needs no rights for a process of one's own, and the soft limit may be raised again."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    os.kill(pid, signal.SIGSTOP)
    try:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit_bytes(), hard))
    finally:
        os.kill(pid, signal.SIGCONT)
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
