"""The database, its tables and its clock; Redis, what it throws away, and its clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import redis
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from token_tracker.cli.checks.findings import Finding, Ground, ok, problem, skipped, warning
from token_tracker.cli.problems import said
from token_tracker.config.values import Settings
from token_tracker.database import migrations
from token_tracker.database.address import DatabaseUrlError, parse_url
from token_tracker.database.session import make_engine

SLOW_S = 0.05  # what the gateway gives Redis for an answer
CLOCK_OFF_S, CLOCK_WRONG_S = 1.0, 5.0
TIMEOUT_S = 3.0
_SET_CLOCK = "let NTP set the clocks of both machines: timedatectl set-ntp true"


def database(settings: Settings) -> tuple[list[Finding], Engine | None]:
    """Findings, and an engine where it can be read and its tables are those of this version."""
    name, remedy = "database", "make it reachable, or correct DATABASE_URL"
    try:
        url = parse_url(settings.database_url.value)
    except DatabaseUrlError as error:
        return [problem(name, str(error), "token-tracker init, or correct DATABASE_URL")], None
    if url.drivername == "sqlite" and not Path(url.database or "").exists():
        return [problem(name, f"{url.database} does not exist yet", "token-tracker init")], None
    shown = url.render_as_string(hide_password=True)
    engine = make_engine(settings.database_url.value, lock_wait_ms=2_000, statement_timeout_ms=10_000)
    try:
        with engine.connect() as connection:
            wrong = [*_replica(connection), *_tables(connection)]
            clock = [*_database_clock(connection)]
    except SQLAlchemyError as error:
        words = said(error) if isinstance(error, DBAPIError) else str(error)
        return [problem(name, f"{shown}: {words}", remedy)], None
    if wrong:
        return [*wrong, *clock], None
    return [ok(name, f"{shown}, revision {migrations.HEAD}"), *clock], engine


def _replica(connection: Connection) -> Iterator[Finding]:
    if connection.dialect.name == "postgresql" and connection.scalar(text("SELECT pg_is_in_recovery()")):
        yield problem("database", "this server is a replica and takes no writes", "name its primary in DATABASE_URL")


def _tables(connection: Connection) -> Iterator[Finding]:
    revision = migrations.current_revision(connection)
    if revision is None:
        yield problem("database", "it has no tables of Token Tracker", "token-tracker init")
    elif revision > migrations.HEAD:
        message = f"a newer version has used it: its tables are at {revision}, this version knows {migrations.HEAD}"
        yield problem("database", message, "install that version, or restore a backup")
    elif revision < migrations.HEAD:
        message = f"its tables are at revision {revision}, this version needs {migrations.HEAD}"
        yield problem(
            "database", message, "token-tracker backup with the version that used it, then token-tracker init"
        )


def _database_clock(connection: Connection) -> Iterator[Finding]:
    if connection.dialect.name == "sqlite":
        yield ok("clocks", "the database is a file: it has this machine's clock")
        return
    connection.scalar(text("SELECT 1"))  # so that nothing but the question takes time
    before = time.time()
    theirs = cast(datetime, connection.scalar(text("SELECT clock_timestamp()")))
    yield _compared("the database", theirs.timestamp(), before, time.time())


def store(ground: Ground) -> Iterator[Finding]:
    name, url = "redis", ground.settings.redis_url
    if url is None:
        yield skipped(name, "REDIS_URL is not set: one gateway counts limits and budgets in its memory")
        return
    try:
        with closing(
            redis.Redis.from_url(url.value, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
        ) as link:
            yield from _examined(link)
    except (redis.RedisError, ValueError, OSError) as error:
        yield problem(
            name, f"REDIS_URL: {error}", "start it, or correct REDIS_URL; meanwhile rules decide by on_store_error"
        )


def _examined(link: redis.Redis) -> Iterator[Finding]:
    link.ping()
    began_s = time.perf_counter()
    link.ping()
    took_s = time.perf_counter() - began_s
    facts = link.info()
    before = time.time()
    seconds, microseconds = link.time()
    clock = _compared("Redis", seconds + microseconds / 1e6, before, time.time())
    policy = facts.get("maxmemory_policy", "noeviction")
    wrong = []
    if policy != "noeviction":
        message = f"its maxmemory-policy is {policy}: it would throw budgets' counters away, so gateways refuse it"
        remedy = "redis-cli CONFIG SET maxmemory-policy noeviction, and the same in redis.conf; or a Redis of its own"
        wrong.append(problem("redis", message, remedy))
    if facts.get("role", "master") != "master":
        wrong.append(problem("redis", "it is a replica and takes no writes", "name its master in REDIS_URL"))
    if took_s > SLOW_S:
        message = f"it answers in {took_s * 1000:.0f} ms; the gateway waits {SLOW_S * 1000:.0f} ms"
        wrong.append(warning("redis", message, "bring it nearer to the gateways"))
    right = ok("redis", f"version {facts.get('redis_version', '?')}, {policy}, answers in {took_s * 1000:.1f} ms")
    yield from wrong or [right]
    yield clock


def _compared(whose: str, theirs_s: float, before_s: float, after_s: float) -> Finding:
    """How far another clock is from ours, beyond what the question took."""
    off_s = max(before_s - theirs_s, theirs_s - after_s, 0.0)
    message = f"{whose} and this machine differ by {off_s:.1f} s"
    if off_s > CLOCK_WRONG_S:
        return problem("clocks", f"{message}: windows of budgets and ends of keys are wrong by as much", _SET_CLOCK)
    if off_s > CLOCK_OFF_S:
        return warning("clocks", message, _SET_CLOCK)
    return ok("clocks", f"{whose} and this machine agree")


def local_clock(ground: Ground) -> Iterator[Finding]:
    """A machine that woke up in 1970 books into windows that nobody looks at."""
    if ground.at.year < 2025:
        yield problem("clocks", f"this machine believes that it is {ground.at.astimezone(UTC):%Y-%m-%d}", _SET_CLOCK)
