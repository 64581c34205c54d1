"""The worker: once per installation. It closes hours, compares sums with the ledger, removes old rows, tells people."""

from __future__ import annotations

import logging
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from token_tracker.config.load import ConfigurationError, load_settings
from token_tracker.config.logs import write_logs
from token_tracker.database.session import DatabaseUrlError, make_engine, reading, transaction
from token_tracker.notifications import notifier as notifications
from token_tracker.notifications.reporter import Reporter
from token_tracker.services import closed_sums, leases, retention, rollups
from token_tracker.services.outage import Attempts, Outage

log = logging.getLogger("token_tracker.worker")

EXIT_CONFIGURATION = 2
LEASE_LASTS = timedelta(seconds=15)
RENEW_S = 4.0
LOCK_WAIT_MS = 2_000  # it also ends within that time when it is told to
STAND_BY_S = 2.0
IDLE_S = 1.0
LONGEST_PAUSE_S = 1.0
RECENT = timedelta(hours=2)
AT_START = timedelta(hours=48)
EVERYTHING = timedelta(days=400)
NIGHTLY_HOUR = 3  # UTC
DELETED_ROWS = 1_000  # at a time: a transaction of some 20 ms
_DONE = object()


@dataclass(slots=True)
class Job:
    """Work in small steps, between which the lease is renewed. `next_due` says when it is to be done again."""

    steps: Callable[[datetime], Iterator[None]]
    next_due: Callable[[datetime], datetime]
    due: datetime


def nightly(at: datetime) -> datetime:
    """The next 03:00 UTC after `at`."""
    night = at.replace(hour=NIGHTLY_HOUR, minute=0, second=0, microsecond=0)
    return night if night > at else night + timedelta(days=1)


def every(interval: timedelta) -> Callable[[datetime], datetime]:
    return lambda at: at + interval


class Worker:
    """One worker of perhaps several; only the one that holds the lease works, the others wait for it to end."""

    def __init__(self, engine: Engine, retention_days: int | None, holder: str, at: datetime) -> None:
        self._engine, self._holder = engine, holder
        self._attempts = Attempts(Outage("the worker waits for it"), "worker")
        self._retention_days = retention_days
        self._holds_lease: bool | None = None
        self._renew_due_s = 0.0
        self._work: Iterator[None] | None = None
        self._jobs = [
            Job(self.close, every(timedelta(minutes=5)), at),
            Job(lambda now: self.check(now - AT_START, now), lambda _: datetime.max.replace(tzinfo=UTC), at),
            Job(lambda now: self.check(now - RECENT, now), every(timedelta(minutes=5)), at + timedelta(minutes=5)),
            Job(lambda now: self.check(now - EVERYTHING, now), nightly, nightly(at)),
        ]
        if retention_days is not None:
            self._jobs.append(Job(self.purge, every(timedelta(hours=1)), at))

    @property
    def is_at_work(self) -> bool:
        """Whether it holds the lease, as far as it knows."""
        return bool(self._holds_lease)

    def run(self, stop: threading.Event) -> None:
        """Work until `stop`, whatever the database does meanwhile."""
        while not stop.is_set():
            pause_s = IDLE_S
            with self._attempts:
                pause_s = self.step(datetime.now(UTC))
            if self._attempts.wait_s:
                self._work = None  # a job cut short comes again
            stop.wait(self._attempts.wait_s or pause_s)
        if self._holds_lease:
            with self._attempts, transaction(self._engine) as session:
                leases.release(session, name=leases.WORKER, holder=self._holder)

    def step(self, at: datetime) -> float:
        """One small step of what is due; how long to pause after it, in seconds (as long as it took: others use the
        database too)."""
        if time.monotonic() >= self._renew_due_s:
            self._renew(at)
        if not self._holds_lease:
            self._work = None
            return STAND_BY_S
        started_s = time.monotonic()
        if self._work is None and not self._begin(at):
            return IDLE_S
        assert self._work is not None
        if next(self._work, _DONE) is _DONE:
            self._work = None
        return min(time.monotonic() - started_s, LONGEST_PAUSE_S)

    def close(self, at: datetime) -> Iterator[None]:
        """Close the hours that are over, one a step: at first all that the books hold."""
        has_more = True
        while has_more:
            with transaction(self._engine) as session:
                has_more = closed_sums.close_next(session, at=at)
            yield

    def check(self, start: datetime, end: datetime) -> Iterator[None]:
        """Check and heal the hours from `start` to `end`, both included, newest first, one a step."""
        with reading(self._engine) as session:
            first = rollups.first_hour(session)
        if first is None:
            return
        hour, start = rollups.hour_of(end), max(rollups.hour_of(start), first)
        while hour >= start:
            self._check_hour(hour)
            yield
            hour -= rollups.HOUR

    def purge(self, at: datetime) -> Iterator[None]:
        """Remove rows older than the retention, a bounded number a step."""
        assert self._retention_days is not None
        with transaction(self._engine) as session:
            horizon = retention.move_horizon(session, keep_from=at - timedelta(days=self._retention_days))
        total, deleted = 0, DELETED_ROWS
        while deleted == DELETED_ROWS:
            with transaction(self._engine) as session:
                deleted = retention.delete_older(session, limit=DELETED_ROWS)
            total += deleted
            yield
        if total:
            log.info("%d ledger rows from before %s are removed; their hourly sums are kept", total, horizon)

    def _renew(self, at: datetime) -> None:
        with transaction(self._engine) as session:
            held = leases.acquire(session, name=leases.WORKER, holder=self._holder, at=at, lasts=LEASE_LASTS)
        if held is not self._holds_lease:
            log.info("at work" if held else "another worker is at work; this one waits for it to end")
        self._holds_lease = held
        self._renew_due_s = time.monotonic() + (RENEW_S if held else 0)

    def _begin(self, at: datetime) -> bool:
        job = next((job for job in self._jobs if job.due <= at), None)
        if job is None:
            return False
        self._work = self._until_done(job, at)
        return True

    def _until_done(self, job: Job, at: datetime) -> Iterator[None]:
        """A job that is cut short stays due."""
        yield from job.steps(at)
        job.due = job.next_due(at)

    def _check_hour(self, hour: datetime) -> None:
        with reading(self._engine) as session:
            wrong = rollups.differing(session, hour=hour)
        if wrong and (healed := self._heal(hour)):
            log.warning("%d sums of %s differed from the ledger and are right again", healed, hour)

    def _heal(self, hour: datetime) -> int:
        with transaction(self._engine) as session:
            return rollups.heal(session, hour=hour)


def main() -> int:
    """Run until SIGTERM or SIGINT; gives the exit code."""
    write_logs()
    try:
        settings = load_settings()
        write_logs(settings.log_format)
        engine = make_engine(settings.database_url.value, lock_wait_ms=LOCK_WAIT_MS)
    except (ConfigurationError, DatabaseUrlError) as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIGURATION
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _signal, _frame: stop.set())
    notifier = notifications.make(engine, settings)
    with Attempts(Outage("alerts wait for it"), "alerts"):
        notifications.warn_of_unreachable(engine, settings)
    holder = f"{socket.gethostname()[:40]}-{secrets.token_hex(4)}"
    worker = Worker(engine, settings.retention_days, holder, datetime.now(UTC))
    runs = {"alerts": notifier.run, "reports": Reporter(engine).run}
    tellers = [
        threading.Thread(target=run, args=[stop, lambda: worker.is_at_work], name=name) for name, run in runs.items()
    ]
    for teller in tellers:
        teller.start()
    worker.run(stop)
    for teller in tellers:
        teller.join()
    engine.dispose()
    log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
