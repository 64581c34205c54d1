"""The recorder: one process per data directory that books the journal and publishes the snapshot."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine

from token_tracker.config import paths
from token_tracker.config.load import ConfigurationError, load_settings
from token_tracker.config.logs import write_logs
from token_tracker.config.values import Settings
from token_tracker.database.session import DatabaseUrlError, make_engine
from token_tracker.proxy.books.bookkeeper import BATCH_ROWS, Bookkeeper
from token_tracker.proxy.books.counter_keeper import CounterKeeper
from token_tracker.proxy.books.counters_board import CounterBoard
from token_tracker.proxy.books.holds import HoldsReader, HoldsTeller
from token_tracker.proxy.books.object_books import ObjectBooks
from token_tracker.proxy.books.object_index import ObjectIndex, index_path
from token_tracker.proxy.books.publisher import Publisher
from token_tracker.proxy.books.segments import remove_leftovers
from token_tracker.proxy.books.status import RecorderStatus, status_path, write_recorder_status
from token_tracker.proxy.books.store_teller import StoreTeller
from token_tracker.proxy.gate.redis_books import RedisBooks
from token_tracker.services.outage import Attempts, Outage

log = logging.getLogger("token_tracker.recorder")

EXIT_CONFIGURATION = 2
PUBLISH_S = 0.5
LOAD_S = 60.0
STATUS_S = 1.0
DRAIN_S = 2.0
STAND_BY_S = 0.5
LOCK_WAIT_MS = 2_000
STATEMENT_TIMEOUT_MS = 10_000


class Recorder:
    """Books in the calling thread, publishes in another and checks counters in a third, so that none waits for the
    others' database work."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._outage = Outage("calls go on and are kept in the journal")
        journal, node = paths.journal_dir(settings), paths.node_id(settings)
        self._objects = ObjectBooks(engine, ObjectIndex(index_path(settings)), node)
        self._board = CounterBoard(engine, journal, paths.counters_path(settings))
        self._bookkeeper = Bookkeeper(engine, journal, self._outage, node, self._objects, self._board)
        self._holds = HoldsTeller(engine, node)
        self._telling = Attempts(self._outage, "telling of holds")
        self._keeper = CounterKeeper(engine, self._outage, node)
        left = HoldsReader(engine, self._outage)
        self._teller: StoreTeller | None = None  # where gateways share a store
        if (url := settings.redis_url) is not None:
            told = RedisBooks(url.value, namespace=settings.redis_namespace)
            self._teller = StoreTeller(self._board, told, left)
        self._loaded_version: int | None = None
        self._load_due_s = 0.0
        self._publisher = Publisher(engine, paths.snapshot_path(settings))
        self._status_path = status_path(settings)
        self._status_due_s = 0.0
        self._status_was_written = True
        self._reported_problem = ""
        self._file_problem = ""

    def run(self, stop: threading.Event) -> None:
        """Until `stop`; then what lies in the journal is booked, as far as that takes no longer than 2 s."""
        publishing = threading.Thread(target=self._publish, args=(stop,), name="publisher", daemon=True)
        counting = threading.Thread(target=self._keeper.run, args=(stop,), name="counters", daemon=True)
        threads = [publishing, counting]
        if self._teller is not None:
            threads.append(threading.Thread(target=self._teller.run, args=(stop,), name="store", daemon=True))
        for thread in threads:
            thread.start()
        while not stop.is_set():
            if self._bookkeeper.step() < BATCH_ROWS:  # many at a time cost the least
                stop.wait(self._bookkeeper.wait_s)
            self._tell_holds()
            self._report()
        give_up_s = time.monotonic() + DRAIN_S
        while self._bookkeeper.step() and time.monotonic() < give_up_s:
            pass
        self._status_due_s = 0.0
        self._report()
        self._bookkeeper.close()
        for thread in threads:
            thread.join(timeout=DRAIN_S)

    def _tell_holds(self) -> None:
        if self._holds.is_due() and not self._outage.problem:
            with self._telling:
                self._holds.tell(
                    self._bookkeeper.open_records(),
                    datetime.now(UTC),
                    backlog_bytes=self._bookkeeper.unbooked_bytes(),
                    is_store_away=self._teller is not None and bool(self._teller.problem),
                )

    def _publish(self, stop: threading.Event) -> None:
        attempts = Attempts(self._outage, "publishing")
        while not stop.is_set():
            with attempts:
                self._publish_once()
                self._objects.sync(datetime.now(UTC))
            stop.wait(attempts.wait_s or PUBLISH_S)

    def _publish_once(self) -> None:
        """Counters before the rules that need them: what a rule says is ready must be there when the rule comes."""
        at = datetime.now(UTC)
        try:
            self._load_counters(at)
            self._board.publish(at)
            self._publisher.publish(at, self._loaded_version)
        except OSError as error:
            if not self._file_problem:
                log.error("the snapshot cannot be written, gateways keep the last one: %s", error)
            self._file_problem = f"the snapshot cannot be written: {error}"
        else:
            self._file_problem = ""

    def _load_counters(self, at: datetime) -> None:
        """What others changed is seen by the configuration's version; what came without it, within a minute."""
        now_s = time.monotonic()
        if self._publisher.current_version() != self._loaded_version or now_s >= self._load_due_s:
            self._loaded_version, self._load_due_s = self._board.load(at), now_s + LOAD_S

    def _report(self) -> None:
        """Write the status file: every second, and at once when the problem changed."""
        problem = self._outage.problem or self._file_problem
        if problem == self._reported_problem and time.monotonic() < self._status_due_s:
            return
        self._status_due_s = time.monotonic() + STATUS_S
        self._reported_problem = problem
        status = RecorderStatus(
            pid=os.getpid(),
            updated_at_us=time.time_ns() // 1000,
            last_commit_us=self._bookkeeper.last_commit_us,
            backlog_bytes=self._bookkeeper.unbooked_bytes(),
            is_database_ok=not self._outage.problem,
            problem=problem,
            counters=self._keeper.figures,
        )
        try:
            write_recorder_status(self._status_path, status)
        except OSError as error:  # gateways see that it grows old
            if self._status_was_written:
                log.error("the recorder's status cannot be written: %s", error)
            self._status_was_written = False
        else:
            self._status_was_written = True


def claim_directory(path: Path) -> int | None:
    """The descriptor of a lock that ends with this process; None if another recorder holds it."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def stand_by(settings: Settings, stop: threading.Event) -> int | None:
    """Wait until no other recorder books this data directory, and claim it: the lock. None: told to stop before."""
    path, waited = settings.data_dir / "recorder.lock", False
    while (lock := claim_directory(path)) is None:
        if not waited:
            log.warning(
                "Another recorder already books %s: this one waits for it to end and changes nothing meanwhile. If "
                "these are two installations, give one of them a TOKEN_TRACKER_DATA_DIR of its own.",
                settings.data_dir,
            )
        waited = True
        if stop.wait(STAND_BY_S):
            return None
    if waited:
        log.warning("the other recorder has ended; this one takes over")
    return lock


def main() -> int:
    """Run until SIGTERM or SIGINT; gives the exit code."""
    write_logs()
    try:
        settings = load_settings()
        write_logs(settings.log_format)
        engine = make_engine(
            settings.database_url.value, lock_wait_ms=LOCK_WAIT_MS, statement_timeout_ms=STATEMENT_TIMEOUT_MS
        )
    except (ConfigurationError, DatabaseUrlError) as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIGURATION
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _signal, _frame: stop.set())
    if (lock := stand_by(settings, stop)) is not None:
        remove_leftovers(paths.journal_dir(settings))
        log.info("booking %s", paths.journal_dir(settings))
        Recorder(engine, settings).run(stop)
        os.close(lock)
    engine.dispose()
    log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
