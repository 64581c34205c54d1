"""Counters with a recorder as a process: made in time, true after kills of whoever, and never given back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec import structs
from sqlalchemy import Engine, select, update

from tests.functional.installation import ROOT, wait_until
from tests.proxy.books.records_made import a_journal, an_end, an_open
from tests.proxy.books.test_recorder import started, status
from tests.services.budget_rows import a_budget, add
from token_tracker.database.models import CounterState, TokenUsage
from token_tracker.database.session import reading, transaction
from token_tracker.proxy.books.counters_reader import CountersReader
from token_tracker.proxy.books.journal import Journal
from token_tracker.proxy.books.records import Open
from token_tracker.proxy.books.status import RecorderStatus
from token_tracker.proxy.gate.store import END, Base, Books
from token_tracker.services import budgets, open_holds
from token_tracker.services.audit import Actor

# A worker that holds for three calls, books one of them, and is killed in the middle of the others.
WORKER = """
import sys, time
from pathlib import Path
from msgspec import structs
from tests.proxy.books.records_made import a_journal, an_end, an_open
journal = a_journal(Path(sys.argv[1]))
for number in range(3):
    opened = structs.replace(an_open(number), timestamp_us=time.time_ns() // 1000, held_nano_usd=700)
    journal.open(opened)
    if number == 0:
        journal.end(an_end(opened))
print(journal.incarnation, flush=True)
time.sleep(600)
"""


class Gateway:
    """What a gateway has learned of the counters so far."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "data" / "counters"
        self.bases: dict[str, Base] = {}
        self.last: Books = Books()
        self._reader = CountersReader(self.path)

    def look(self) -> Gateway:
        books = self._reader.read()
        if books is not None:
            self.bases |= {place.counter: base for place, base in books.bases.items()}
            self.last = books
        return self

    def amount(self, name: str) -> tuple[int, int]:
        base = self.look().bases.get(f"budget_{name}|usd|", Base(0, 0, 0, 0))
        return base.spent, base.unproven

    def is_ready(self, name: str) -> bool:
        return f"budget_{name}" in self.look().last.ready


def now_open(number: int) -> Open:
    return structs.replace(an_open(number), timestamp_us=time.time_ns() // 1000)


def booked_now(journal: Journal, *numbers: int) -> None:
    for number in numbers:
        end = an_end(now_open(number))
        journal.open(end.opened)
        journal.end(end)


def within(seconds: float, is_so: Callable[[], object], what: str) -> float:
    """How long it took."""
    began_s = time.monotonic()
    wait_until(is_so, seconds, what)
    return time.monotonic() - began_s


def test_a_budget_made_while_it_runs_counts_what_was_there_within_two_seconds(
    laid_url: str, engine: Engine, tmp_path: Path
) -> None:
    journal = a_journal(tmp_path / "data" / "journal")
    with started(tmp_path, laid_url):
        wait_until(lambda: status(tmp_path), 20, "it reports")
        booked_now(journal, *range(20))
        gateway = Gateway(tmp_path)
        wait_until(lambda: len(ids(engine)) == 20, 20, "the calls are booked")
        with transaction(engine) as session:
            fields = {"name": "cap", "scope_type": "global", "period": "rolling_24h", "limit_usd": "1"}
            budget, _ = budgets.save(session, **fields, actor=Actor("ann"), at=datetime.now(UTC))
        name = budget.id.removeprefix("budget_")
        within(2, lambda: gateway.is_ready(name), "the counter is built and published")
        assert gateway.amount(name) == (20 * 1_500, 0)
        booked_now(journal, 20)
        within(2, lambda: gateway.amount(name) == (21 * 1_500, 0), "one more call")
        found = status(tmp_path)
        assert found is not None
        assert (found.counters.drifts, found.counters.building) == (0, 0)
    journal.close()


def test_the_holds_of_a_killed_worker_are_unproven_and_in_the_base_within_five_seconds(
    laid_url: str, engine: Engine, tmp_path: Path
) -> None:
    add(engine, a_budget("total", period="total"))
    with started(tmp_path, laid_url):
        gateway = Gateway(tmp_path)
        within(20, lambda: gateway.is_ready("total"), "the counter is built")
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path / "data" / "journal")],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        try:
            assert worker.stdout is not None
            incarnation = worker.stdout.readline().strip()
            within(5, lambda: gateway.amount("total") == (1_500, 0), "the first call is booked")
            within(5, lambda: held(engine) == [1_400], "what the others hold is told")
        finally:
            worker.send_signal(signal.SIGKILL)
            worker.communicate()
        within(5, lambda: gateway.look().last.positions.get(incarnation) == END, "the dead worker is at its end")
        assert gateway.amount("total") == (1_500, 1_400)
        within(5, lambda: held(engine) == [], "and holds nothing")


def test_no_restart_gives_back_what_was_spent_and_drift_is_healed_at_start(
    laid_url: str, engine: Engine, tmp_path: Path
) -> None:
    add(engine, a_budget("total", period="total"))
    journal = a_journal(tmp_path / "data" / "journal")
    for round_number in range(3):
        with started(tmp_path, laid_url) as recorder:
            gateway = Gateway(tmp_path)
            booked_now(journal, *range(round_number * 100, round_number * 100 + 40))
            expected = ((round_number + 1) * 40 * 1_500, 0)
            within(20, lambda seen=gateway: seen.is_ready("total"), "the counter is there")
            within(20, lambda seen=gateway, wanted=expected: seen.amount("total") == wanted, "all is counted")
            recorder.kill()
    with transaction(engine) as session:
        session.execute(update(CounterState).values(spent=0, version=CounterState.version + 1))
    with started(tmp_path, laid_url) as recorder:
        gateway = Gateway(tmp_path)
        within(10, lambda: gateway.amount("total") == (180_000, 0), "the drift is healed")

        def said() -> RecorderStatus | None:
            now = status(tmp_path)
            return now if now and now.pid == recorder.pid and now.counters.drifts else None

        found = wait_until(said, 10, "and said")
        assert found.counters.drift_nano_usd == 180_000
    journal.close()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_gateway_has_the_last_counters_while_no_recorder_runs(laid_url: str, engine: Engine, tmp_path: Path) -> None:
    add(engine, a_budget("total", period="total"))
    journal = a_journal(tmp_path / "data" / "journal")
    booked_now(journal, 1)
    with started(tmp_path, laid_url):
        gateway = Gateway(tmp_path)
        within(20, lambda: gateway.is_ready("total") and gateway.amount("total") == (1_500, 0), "it is counted")
    assert Gateway(tmp_path).amount("total") == (1_500, 0)
    journal.close()


def ids(engine: Engine) -> list[str]:
    with reading(engine) as session:
        return [*session.scalars(select(TokenUsage.id))]


def held(engine: Engine) -> list[int]:
    with reading(engine) as session:
        return [held.amount for content, _ in open_holds.load(session, at=datetime.now(UTC)) for held in content.held]
