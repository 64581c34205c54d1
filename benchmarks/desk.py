"""`--part ledger`: how long the API takes for pages, summaries, budgets and an export over a ledger of many rows.

Cold: the first question to a fresh API process, a SQLite file being dropped from the system's cache before it (what
PostgreSQL keeps in its own memory stays). Warm: the median of ten more.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from sqlalchemy import make_url, select

from benchmarks.ledger import generate
from benchmarks.servers import free_port, process, rss_mb, wait_for
from token_tracker.database.models import Budget, TokenUsage
from token_tracker.database.session import make_engine, reading
from token_tracker.services import counter_checks

PASSWORD = "a password of the benchmark"
WARM = 10
DIMENSIONS = ("model", "provider", "user", "team", "key", "agent")


@dataclass(frozen=True)
class Question:
    """`promised`: it is to be answered in under 50 ms; else within 2 s, or refused."""

    name: str
    path: str
    promised: bool = True


@dataclass
class Desk:
    """A running API and a login."""

    url: str
    pid: int
    token: str = ""

    def ask(self, path: str) -> tuple[float, int, bytes]:
        """(milliseconds, status, body)."""
        began = time.perf_counter()
        host = urlsplit(self.url)
        connection = http.client.HTTPConnection(host.hostname or "", host.port, timeout=600)
        connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return (time.perf_counter() - began) * 1000, answer.status, body

    def post(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        host = urlsplit(self.url)
        connection = http.client.HTTPConnection(host.hostname or "", host.port, timeout=60)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        connection.request("POST", path, json.dumps(document), headers)
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return found


def measure(directory: Path, url: str, rows: int, say: Callable[..., None]) -> dict[str, Any]:
    """Fill the database at `url` if it has no rows, ask, and say a table."""
    place = directory / f"desk-{make_url(url).get_backend_name()}"
    place.mkdir()
    environment = {
        "DATABASE_URL": url,
        "TOKEN_TRACKER_DATA_DIR": str(place / "data"),
        "TOKEN_TRACKER_CONFIG": str(place / "proxy.yaml"),
        "TOKEN_TRACKER_ADMIN_PASSWORD": PASSWORD,
    }
    (place / "proxy.yaml").write_text("model_list: [{model_name: demo, litellm_params: {model: demo/echo}}]\n")
    if not _last_row(url):
        generate(url, rows)
    prepare = [sys.executable, "-m", "token_tracker.database.init", "--json", "--reset-admin-password"]
    subprocess.run(prepare, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL)
    with api(environment, place) as desk:
        budgets = _budgets(desk, url)
    figures: dict[str, Any] = {}
    say("", f"{make_url(url).get_backend_name()}:", "")
    say("| | cold ms | warm ms | fastest | slowest | |", "| --- | ---: | ---: | ---: | ---: | --- |")
    for question in _questions(_last_row(url), budgets):
        cold, warm, note = _timed(question, environment, place, url)
        found = {"cold_ms": cold, "warm_ms": statistics.median(warm), "fastest_ms": min(warm), "slowest_ms": max(warm)}
        say(f"| {question.name} | {' | '.join(f'{each:,.1f}' for each in found.values())} | {note} |")
        figures[question.name] = found | {"answer": note}
    with api(environment, place) as desk:
        for media in ("csv", "jsonl"):
            figures[f"export {media}"] = _export(desk, media, min(rows, 1_000_000), say)
    return figures


def _timed(question: Question, environment: dict[str, str], place: Path, url: str) -> tuple[float, list[float], str]:
    _forget(url)
    with api(environment, place) as desk:
        cold, status, body = desk.ask(question.path)
        warm = [desk.ask(question.path)[0] for _ in range(WARM)]
    if status == 200:
        found = json.loads(body)
        note = f"{len(found['items']):,} items" if "items" in found else ""
    else:
        note = f"{status} {json.loads(body)['error']['code']}"
    return cold, warm, note if not question.promised or statistics.median(warm) < 50 else f"{note}, too slow"


def _questions(last: datetime | None, budgets: dict[str, str]) -> Iterator[Question]:
    assert last is not None
    # Hours at both ends are the worst for sums of days.
    end = last.replace(hour=12, minute=0, second=0, microsecond=0)
    month = {"start": _shown(end - timedelta(days=30)), "end": _shown(end)}
    for query in ({}, {"user": "user003"}, {"team": "team07"}, {"key": "key_011"}, {"model": "openai-large"}):
        yield Question(f"page {_named(query)}", f"/api/token-usage?{urlencode(query)}")
    deep = {"end": _shown(end - timedelta(days=90)), "key": "key_150"}
    yield Question("page 90 days back, of a rare key", f"/api/token-usage?{urlencode(deep)}")
    for group in ("", "hour", "day", *DIMENSIONS):
        yield Question(f"30 days by {group or 'nothing'}", _summary(month, group_by=group))
    yield Question("30 days by day, one user", _summary(month, group_by="day", user="user003"))
    yield Question("30 days by day and model", _summary(month, group_by="day,model"))
    for name, path in budgets.items():
        yield Question(f"budget status {name}", path)
    for name, path in budgets.items():
        if "each" in name:
            yield Question(f"budget status {name}, 100 members", f"{path}?limit=100", promised=False)
    yield Question("all time by model", _summary({}, group_by="model"), promised=False)
    yield Question("30 days by model and user", _summary(month, group_by="model,user"), promised=False)
    yield Question("30 days by model, one team", _summary(month, group_by="model", team="team07"), promised=False)
    yield Question("30 days by session", _summary(month, group_by="session"), promised=False)
    yield Question("page of an end user without rows", "/api/token-usage?end_user=nobody", promised=False)


def _summary(month: dict[str, str], **query: str) -> str:
    return f"/api/token-usage/summary?{urlencode({**month, **{name: each for name, each in query.items() if each}})}"


def _named(query: dict[str, str]) -> str:
    return f"of one {next(iter(query))}" if query else "of all"


def _shown(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _budgets(desk: Desk, url: str) -> dict[str, str]:
    """For all and for each, calendar and rolling, with the counters that a recorder keeps; in dollars and tokens."""
    everybody, users, keys = {"type": "global"}, {"type": "user", "id": "*"}, {"type": "key", "id": "*"}
    kinds: tuple[tuple[str, dict[str, str], str], ...] = (
        ("of all, total", everybody, "total"),
        ("of all, rolling 30 days", everybody, "rolling_30d"),
        ("for each user, rolling 30 days", users, "rolling_30d"),
        ("for each user, rolling 24 hours", users, "rolling_24h"),
        ("for each key, rolling 30 days", keys, "rolling_30d"),
        ("for each key, monthly", keys, "monthly"),
    )
    limits = {"limit_usd": "1000000.00", "limit_tokens": 1_000_000_000_000}
    found = {}
    for name, scope, period in kinds:
        document = {"name": name, "scope": scope, "period": period, **limits}
        found[name] = f"/api/budgets/{desk.post('/api/budgets', document)['id']}/status"
    engine, at = make_engine(url, statement_timeout_ms=0), datetime.now(UTC)
    try:
        with reading(engine) as session:
            identities = session.scalars(select(Budget.id)).all()
        for identity in identities:
            drift = counter_checks.drift_of(engine, identity, at)
            if drift is not None:
                counter_checks.correct(engine, drift, at)
    finally:
        engine.dispose()
    return found


def _export(desk: Desk, media: str, rows: int, say: Callable[..., None]) -> dict[str, float]:
    """The most memory that the API had while so many rows were streamed."""
    before, most, over = rss_mb(desk.pid), [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            most[0] = max(most[0], rss_mb(desk.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    began, size, lines = time.perf_counter(), 0, 0
    host = urlsplit(desk.url)
    connection = http.client.HTTPConnection(host.hostname or "", host.port, timeout=600)
    path = f"/api/token-usage?format={media}"
    connection.request("GET", path, headers={"Authorization": f"Bearer {desk.token}"})
    answer = connection.getresponse()
    while lines < rows and (piece := answer.read(262_144)):
        size, lines = size + len(piece), lines + piece.count(b"\n")
    seconds = time.perf_counter() - began
    over.set()
    watcher.join()
    connection.close()
    say(
        "",
        f"Export {media}: {lines:,} rows, {size / 1e6:,.0f} MB in {seconds:.0f} s ({lines / seconds:,.0f} rows/s); "
        f"memory of the API {before:.0f} MB before, at most {most[0]:.0f} MB.",
    )
    return {"rows": lines, "seconds": seconds, "before_mb": before, "most_mb": most[0]}


@contextmanager
def api(environment: dict[str, str], directory: Path) -> Iterator[Desk]:
    """A fresh API process, with somebody logged in."""
    port = free_port()
    command = [sys.executable, "-m", "token_tracker.run", "api"]
    with process(command, {**environment, "TOKEN_TRACKER_API_PORT": str(port)}, directory, "api") as child:
        wait_for(f"http://127.0.0.1:{port}/api/health")
        desk = Desk(f"http://127.0.0.1:{port}", _serving(child.pid))
        login = desk.post("/api/auth/login", {"username": "admin", "password": PASSWORD})
        desk.token = login["access_token"]
        yield desk


def _serving(pid: int) -> int:
    """The process that answers: the last of the line of children."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if f"\nPPid:\t{pid}\n" in status.read_text():
                return _serving(int(status.parent.name))
        except OSError:
            continue
    return pid


def _last_row(url: str) -> datetime | None:
    engine = make_engine(url)
    try:
        with reading(engine) as session:
            newest = select(TokenUsage.timestamp).order_by(TokenUsage.timestamp.desc()).limit(1)
            return session.scalar(newest) if engine.dialect.has_table(session.connection(), "token_usage") else None
    finally:
        engine.dispose()


def _forget(url: str) -> None:
    """Drop a SQLite file from the system's cache."""
    path = make_url(url).database
    if make_url(url).get_backend_name() != "sqlite" or path is None:
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
