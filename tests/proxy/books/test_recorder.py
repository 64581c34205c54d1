"""The recorder as a process: one per data directory, killed at any point, stopped in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select

from tests.functional.installation import ROOT, wait_until
from tests.proxy.books.records_made import a_journal, an_open, write_calls
from token_tracker.database.models import TokenUsage, TokenUsageTag, UsageHourly
from token_tracker.database.session import reading
from token_tracker.proxy.books.recorder import EXIT_CONFIGURATION
from token_tracker.proxy.books.segments import list_segments
from token_tracker.proxy.books.status import RecorderStatus, read_recorder_status, recorder_problems

Start = Callable[[], "subprocess.Popen[str]"]


def environment(directory: Path, url: str) -> dict[str, str]:
    (directory / "proxy.yaml").write_text("model_list: [{model_name: demo, litellm_params: {model: demo/echo}}]")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_TRACKER_")}
    return inherited | {
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": url,
        "TOKEN_TRACKER_CONFIG": str(directory / "proxy.yaml"),
        "TOKEN_TRACKER_DATA_DIR": str(directory / "data"),
    }


@contextmanager
def started(directory: Path, url: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "token_tracker.proxy.books.recorder"],
        env=environment(directory, url),
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


def count(engine: Engine) -> int:
    with reading(engine) as session:
        return session.scalar(select(func.count()).select_from(TokenUsage)) or 0


def status(directory: Path) -> RecorderStatus | None:
    return read_recorder_status(directory / "data" / "recorder.json")


def test_a_recorder_killed_over_and_over_loses_nothing_and_doubles_nothing(
    laid_url: str, engine: Engine, tmp_path: Path
) -> None:
    journal = a_journal(tmp_path / "data" / "journal", segment_bytes=300_000)
    total = 0
    for _ in range(4):
        written = total
        with started(tmp_path, laid_url) as recorder:
            write_calls(journal, range(total, total + 1_500))
            total += 1_500
            wait_until(lambda seen=written: count(engine) > seen, 20, "the first rows of this round")
            recorder.kill()
    journal.open(an_open(900_000))
    journal.close()
    with started(tmp_path, laid_url) as recorder:
        wait_until(lambda: not list_segments(tmp_path / "data" / "journal"), 20, "all segments are booked and gone")
        recorder.send_signal(signal.SIGTERM)
        assert recorder.wait(10) == 0
    with reading(engine) as session:
        reasons = session.execute(select(TokenUsage.end_reason, func.count()).group_by(TokenUsage.end_reason)).all()
        assert sorted(tuple(row) for row in reasons) == [("complete", 6_000), ("crash", 1)]
        sums = session.execute(
            select(func.sum(UsageHourly.__table__.c.attempts), func.sum(UsageHourly.__table__.c.cost_nano_usd))
        ).one()
        assert [int(value) for value in sums] == [6_001, 6_000 * 1_500]
        assert session.scalar(select(func.count()).select_from(TokenUsageTag)) == 2 * 6_001


def test_a_second_recorder_says_once_that_it_stands_by_and_takes_over_when_the_first_ends(
    laid_url: str, engine: Engine, tmp_path: Path
) -> None:
    journal = a_journal(tmp_path / "data" / "journal")
    with started(tmp_path, laid_url) as first:
        wait_until(lambda: status(tmp_path), 20, "the first one reports")
        with started(tmp_path, laid_url) as second:
            assert second.stderr is not None
            said = next(line for line in second.stderr if "recorder" in line)
            assert "Another recorder already books" in said
            assert "TOKEN_TRACKER_DATA_DIR" in said
            first.kill()
            write_calls(journal, range(5))
            wait_until(lambda: count(engine) == 5, 20, "the second one books")
            told = wait_until(lambda: (found := status(tmp_path)) and found.pid == second.pid, 20, "it reports")
            assert told
            second.send_signal(signal.SIGTERM)
            _, rest = second.communicate(timeout=10)
            assert second.returncode == 0
            assert "takes over" in rest
            assert "Another recorder" not in rest
    journal.close()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_recorder_that_stands_by_ends_at_once_when_it_is_told_to(laid_url: str, tmp_path: Path) -> None:
    with started(tmp_path, laid_url):
        wait_until(lambda: status(tmp_path), 20, "the first one reports")
        with started(tmp_path, laid_url) as second:
            assert second.stderr is not None
            next(line for line in second.stderr if "Another recorder" in line)
            second.send_signal(signal.SIGTERM)
            assert second.wait(5) == 0


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_wrong_database_url_ends_the_recorder_with_a_clear_word(tmp_path: Path, laid_url: str) -> None:
    with started(tmp_path, "mysql://somewhere/else") as recorder:
        _, said = recorder.communicate(timeout=20)
        assert recorder.returncode == EXIT_CONFIGURATION
        assert "DATABASE_URL" in said
        assert "Traceback" not in said


def test_it_drains_what_is_there_when_it_is_told_to_stop(laid_url: str, engine: Engine, tmp_path: Path) -> None:
    journal = a_journal(tmp_path / "data" / "journal")
    with started(tmp_path, laid_url) as recorder:
        wait_until(lambda: status(tmp_path), 20, "it reports")
        write_calls(journal, range(1_200))
        recorder.send_signal(signal.SIGTERM)
        assert recorder.wait(10) == 0
    assert count(engine) == 1_200
    last = status(tmp_path)
    assert last is not None
    assert (last.backlog_bytes, last.is_database_ok, last.problem) == (0, True, "")
    journal.close()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_it_tells_gateways_that_the_database_is_away_and_ends_all_the_same(laid_url: str, tmp_path: Path) -> None:
    journal = a_journal(tmp_path / "data" / "journal")
    write_calls(journal, range(3))
    path = tmp_path / "data" / "recorder.json"
    with started(tmp_path, "postgresql://nobody@127.0.0.1:1/none") as recorder:
        told = wait_until(lambda: (found := status(tmp_path)) and found.problem and found, 20, "it reports the outage")
        assert not told.is_database_ok
        assert told.backlog_bytes > 1_000
        (problem,) = recorder_problems(path, told.updated_at_us)
        assert "the database does not answer" in problem
        assert "bytes wait" in problem
        recorder.send_signal(signal.SIGTERM)
        _, said = recorder.communicate(timeout=10)
        assert recorder.returncode == 0
        assert said.count("does not answer") == 1
    journal.close()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_status_that_cannot_be_written_is_said_once_and_seen_by_its_age(laid_url: str, tmp_path: Path) -> None:
    path = tmp_path / "data" / "recorder.json"
    with started(tmp_path, laid_url) as recorder:
        last = wait_until(lambda: status(tmp_path), 20, "it reports")
        (path.parent / ".recorder.json.new").mkdir()  # as with a full disk: no new file, the old one stays
        wait_until(lambda: recorder_problems(path, time.time_ns() // 1000), 20, "its silence is a problem")
        recorder.send_signal(signal.SIGTERM)
        _, said = recorder.communicate(timeout=10)
        assert said.count("status cannot be written") == 1
    (problem,) = recorder_problems(path, last.updated_at_us + 60_000_000)
    assert "has said nothing for" in problem


def test_a_recorder_that_fell_silent_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "recorder.json"
    assert recorder_problems(path, 0) == ["the recorder has not reported yet; calls are kept in the journal"]
    fields = {"pid": 1, "updated_at_us": 5_000_000, "last_commit_us": 0, "backlog_bytes": 0}
    path.write_text(json.dumps(fields | {"is_database_ok": True, "problem": ""}))
    assert recorder_problems(path, 9_000_000) == []
    assert "has said nothing for 7 s" in recorder_problems(path, 12_000_000)[0]
    assert "has said nothing for 95 s" in recorder_problems(path, 100_000_000)[0]
    path.write_text("{")
    assert read_recorder_status(path) is None
