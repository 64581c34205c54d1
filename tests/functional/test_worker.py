"""The worker: one at a time, healing what differs, removing what is old, whatever stops it in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select, text, update

from tests.functional.installation import ROOT, wait_until
from tests.services.ledger_rows import NOON, a_row
from token_tracker.database.models import Lease, TokenUsage, UsageHourly
from token_tracker.database.session import make_engine, reading, transaction
from token_tracker.services.booking import book
from token_tracker.services.rollups import hour_of
from token_tracker.worker import EXIT_CONFIGURATION, Worker, nightly

TABLE = UsageHourly.__table__
HOUR = timedelta(hours=1)


@contextmanager
def started(directory: Path, url: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    (directory / "proxy.yaml").write_text("model_list: [{model_name: demo, litellm_params: {model: demo/echo}}]")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_TRACKER_")}
    environment = inherited | {
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": url,
        "TOKEN_TRACKER_CONFIG": str(directory / "proxy.yaml"),
        "TOKEN_TRACKER_DATA_DIR": str(directory / "data"),
        **settings,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "token_tracker.worker"],
        env=environment,
        cwd=directory,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def fill(engine: Engine, hours: int, now: datetime) -> None:
    """One call in each of the last `hours`, and sums that are all wrong."""
    rows = [a_row(number, timestamp=hour_of(now) - number * HOUR) for number in range(hours)]
    with transaction(engine) as session:
        book(session, rows, at=now)
    damage(engine)


def damage(engine: Engine) -> None:
    with transaction(engine) as session:
        session.execute(update(TABLE).values(cost_nano_usd=-1))


def costs(engine: Engine) -> list[int]:
    with reading(engine) as session:
        return list(session.scalars(select(TABLE.c.cost_nano_usd).order_by(TABLE.c.hour)))


def run_until_idle(worker: Worker, at: datetime) -> int:
    """Steps that the worker took until nothing was due at `at`."""
    steps = 0
    while worker.step(at) < 1.0:
        steps += 1
    return steps


def test_a_worker_killed_between_hours_has_harmed_nothing_and_the_next_one_finishes(
    laid_url: str, engine: Engine, tmp_path: Path
) -> None:
    fill(engine, 40, datetime.now(UTC))
    with started(tmp_path, laid_url) as worker:
        wait_until(lambda: 40 in costs(engine), 20, "the first hours are healed")
        worker.kill()
        worker.wait()
    assert set(costs(engine)) <= {40, -1}
    with transaction(engine) as session:
        session.execute(update(Lease).values(expires_at=NOON))  # 15 s later
    with started(tmp_path, laid_url) as worker:
        wait_until(lambda: set(costs(engine)) == {40}, 20, "every hour is healed")
        worker.send_signal(signal.SIGTERM)
        _, said = worker.communicate(timeout=10)
        assert worker.returncode == 0
    assert "differed from the ledger and are right again" in said
    assert all(" token_tracker.worker: " in line for line in said.splitlines()), said
    with reading(engine) as session:
        assert session.scalars(select(Lease)).all() == [], "the lease is given back"


def test_a_second_worker_waits_until_the_first_has_ended(laid_url: str, engine: Engine, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    first, second = Worker(engine, None, "first", now), Worker(engine, None, "second", now)
    fill(engine, 3, now)
    assert run_until_idle(first, now) > 0
    damage(engine)
    assert second.step(now) > 1.0, "it stands by"
    assert second.step(now + timedelta(seconds=14)) > 1.0
    assert set(costs(engine)) == {-1}
    run_until_idle(second, now + timedelta(seconds=16))
    assert costs(engine) == [40, 40, 40]


def test_the_recent_hours_are_checked_often_and_everything_at_night(engine: Engine) -> None:
    evening = datetime(2026, 3, 14, 22, 10, tzinfo=UTC)
    worker = Worker(engine, None, "only", evening)
    fill(engine, 100, evening)
    run_until_idle(worker, evening)
    assert costs(engine) == [-1] * 51 + [40] * 49, "at the start the last two days"
    damage(engine)
    assert run_until_idle(worker, evening + timedelta(minutes=4)) == 0
    run_until_idle(worker, evening + timedelta(minutes=5))
    assert costs(engine) == [-1] * 97 + [40] * 3
    run_until_idle(worker, nightly(evening))
    assert costs(engine) == [40] * 100


def test_old_rows_are_removed_only_where_retention_is_set_and_their_sums_stay_right(engine: Engine) -> None:
    with transaction(engine) as session:
        book(session, [a_row(number, timestamp=NOON - number * HOUR) for number in range(80)], at=NOON)
    before = costs(engine)
    run_until_idle(Worker(engine, None, "keeps all", NOON), NOON)
    assert rows_left(engine) == 80
    later = NOON + timedelta(seconds=20)
    run_until_idle(Worker(engine, 2, "keeps two days", later), later)
    assert rows_left(engine) == 49
    run_until_idle(Worker(engine, 2, "at night", nightly(later)), nightly(later))
    assert costs(engine) == before


def rows_left(engine: Engine) -> int:
    with reading(engine) as session:
        return session.scalar(select(func.count()).select_from(TokenUsage)) or 0


def test_a_worker_survives_a_database_that_is_locked_and_goes_on(laid_url: str, engine: Engine, tmp_path: Path) -> None:
    with started(tmp_path, laid_url) as worker:
        wait_until(lambda: leases_held(engine), 20, "it is at work")
        with transaction(engine) as session:
            is_sqlite = engine.dialect.name == "sqlite"
            session.execute(text("SELECT 1" if is_sqlite else "LOCK TABLE leases IN ACCESS EXCLUSIVE MODE"))
            assert worker.stderr is not None
            lines = iter(worker.stderr.readline, "")
            assert any("the database does not answer" in line for line in lines)
        assert any("the database answers again" in line for line in lines)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 0


def leases_held(engine: Engine) -> int:
    with reading(engine) as session:
        return session.scalar(select(func.count()).select_from(Lease)) or 0


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_worker_without_a_database_waits_for_it_and_ends_when_told(laid_url: str, tmp_path: Path) -> None:
    with started(tmp_path, "postgresql://nobody@127.0.0.1:1/none") as worker:
        assert worker.stderr is not None
        assert "does not answer" in worker.stderr.readline()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 0
    with started(tmp_path, "nonsense") as worker:
        _, said = worker.communicate(timeout=20)
        assert worker.returncode == EXIT_CONFIGURATION
        assert "DATABASE_URL" in said


def test_what_is_removed_is_removed_in_steps(laid_url: str, monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    monkeypatch.setattr("token_tracker.worker.DELETED_ROWS", 10)
    with transaction(engine) as session:
        book(session, [a_row(number) for number in range(35)], at=NOON)
    other = make_engine(laid_url)
    later = NOON + timedelta(days=30)
    seen = []
    for _ in Worker(other, 1, "only", later).purge(later):
        seen.append(rows_left(engine))
    assert seen == [25, 15, 5, 0]
    other.dispose()
