"""`backup` while calls are made, `restore` into an empty installation, `migrate`: and the books are the same."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select

from tests.conftest import Databases, using
from tests.functional.command_line import must, typed
from tests.functional.installation import DEMO_MODEL, Installation, wait_until
from token_tracker.database.copies import source
from token_tracker.database.models import Budget
from token_tracker.database.session import reading
from token_tracker.services import counter_checks, rollups


class Traffic:
    """Clients that call until they are told to stop. `answered`: the ids of the calls whose answers they have."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._stop = threading.Event()
        self.answered: list[str] = []

    @contextmanager
    def flowing(self, clients: int = 3) -> Iterator[Traffic]:
        threads = [threading.Thread(target=self._call) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _call(self) -> None:
        while not self._stop.is_set():
            status, headers, _ = self._installation.chat(text="How many words are these?", max_tokens=100)
            assert status == 200
            self.answered.append(headers["x-tt-request-id"])

    def wait_for(self, more: int) -> None:
        wanted = len(self.answered) + more
        wait_until(lambda: len(self.answered) >= wanted, 30, f"{more} more calls")


def rows(url: str, table: str) -> dict[str, dict[str, Any]]:
    """By id."""
    with using(url) as engine, reading(engine) as session:
        (found,) = (each for each in source.read(session).tables if each.shape.name == table)
        return {row["id"]: row for row in found.rows()}


def ledger(url: str) -> dict[str, dict[str, Any]]:
    """Without the time of booking, which is another when a row is booked again from the journal."""
    return {id: row | {"booked_at": None} for id, row in rows(url, "token_usage").items()}


def is_built(url: str) -> bool:
    return all(row["counter_built_at"] for row in rows(url, "budgets").values())


def check_books(url: str) -> None:
    """Hourly sums and budgets' counters are those of the rows."""
    at = datetime.now(UTC)
    with using(url) as engine:
        with reading(engine) as session:
            first = rollups.first_hour(session)
            assert first is not None
            for hour in {first, rollups.hour_of(at)}:
                assert rollups.differing(session, hour=hour) == set()
            budgets = session.scalars(select(Budget.id)).all()
        assert budgets
        for budget in budgets:
            drift = counter_checks.drift_of(engine, budget, at)
            assert drift is not None and drift.amounts == {}


def test_a_backup_under_traffic_and_the_journal_give_all_books_back_on_the_other_database(
    tmp_path: Path, database_url: str, backend: str, databases: Callable[[str], Databases]
) -> None:
    other = databases("postgresql" if backend == "sqlite" else "sqlite")
    config = {"model_list": [DEMO_MODEL], "budget": {"daily": 100}}
    with Installation(tmp_path, config, database_url) as installation:
        installation.start()
        wait_until(lambda: is_built(database_url), 20, "the budgets' counters")
        wait_until(lambda: installation.chat(max_tokens=100)[0] == 200, 20, "a gateway that knows them")
        wait_until(lambda: ledger(database_url), 20, "the first row")
        first = set(ledger(database_url))
        traffic = Traffic(installation)
        traffic.answered += first
        with traffic.flowing():
            traffic.wait_for(20)
            must(installation, "backup", "books.zip")
            traffic.wait_for(20)
            refused = typed(installation, "restore", "books.zip")
            assert refused.code == 1 and "is running" in refused.err
        lost = ledger(database_url)
        installation.stop(signal.SIGKILL)

        restored = other.empty()
        installation.environment["DATABASE_URL"] = restored
        said = must(installation, "restore", "books.zip")
        assert "counts and sums as in the file" in said.out and "booked" in said.err
        backed_up = ledger(restored)
        assert 0 < len(backed_up) < len(traffic.answered)
        assert backed_up == {id: row for id, row in ledger(database_url).items() if id in backed_up}
        check_books(restored)
        assert typed(installation, "restore", "books.zip").code == 1, "it is not empty any more"

        installation.start()
        wait_until(lambda: set(traffic.answered) <= set(ledger(restored)), 20, "the journal is booked")
        assert {id: row for id, row in ledger(restored).items() if id in lost} == lost
        assert installation.chat(max_tokens=100)[0] == 200, "the key is known"
        wait_until(lambda: len(ledger(restored)) == len(traffic.answered) + 1, 10, "its row, and no doubled one")
        check_books(restored)
        status, _, body = installation.call(
            "GET", f"{installation.api_url}/api/token-usage/summary", headers=installation.login()
        )
        assert status == 200
        assert json.loads(body)["totals"]["calls"] == len(traffic.answered) + 1

        third = databases(backend).empty()
        refused = typed(installation, "migrate", third)
        assert refused.code == 1 and "is running" in refused.err
        installation.stop()
        said = must(installation, "migrate", third)
        assert "counts and sums equal in both databases" in said.out
        for table in ("token_usage", "api_keys", "users", "budgets", "prices"):
            assert rows(third, table) == rows(restored, table)
        check_books(third)
