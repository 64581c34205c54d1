"""Sums of the ledger, kept for ever: of hours over all dimensions at once, and of what is over over each one alone."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import BigInteger, Column, Integer, String, Table

from token_tracker.database.models.base import Base, UtcDateTime
from token_tracker.domain.latency import BUCKETS
from token_tracker.domain.usage import TOKEN_CLASSES

ROLLUP_KEYS = ("hour", "key_id", "user_id", "team_id", "agent", "model", "provider", "outcome")
LATENCY_COLUMNS = tuple(f"latency_{index:02d}" for index in range(BUCKETS))
ROLLUP_SUMS = ("attempts", "calls", "errors", "unpriced_calls", *TOKEN_CLASSES, "cost_nano_usd", *LATENCY_COLUMNS)
EVERYBODY = ""  # the dimension that has one value, '': all
SUM_DIMENSIONS = (EVERYBODY, *ROLLUP_KEYS[1:])
_KEY_LENGTHS = {"key_id": 40, "user_id": 64, "team_id": 64, "agent": 200, "model": 255, "provider": 64, "outcome": 24}


def _sums() -> Iterator[Column[int]]:
    for name in ROLLUP_SUMS:
        yield Column(name, Integer if name in LATENCY_COLUMNS else BigInteger, nullable=False, default=0)


class UsageHourly(Base):
    """`hour` is the UTC hour of admission; `outcome` the end reason. `calls` counts last attempts, `attempts` all rows;
    `errors`, `unpriced_calls` and the latency counters (`domain/latency.py`) count last attempts."""

    __table__ = Table(
        "usage_hourly",
        Base.metadata,
        Column("hour", UtcDateTime, primary_key=True),
        *(Column(name, String(_KEY_LENGTHS[name]), primary_key=True) for name in ROLLUP_KEYS[1:]),
        *_sums(),
    )


class UsageSums(Base):
    """What `usage_hourly` says of one dimension (of `SUM_DIMENSIONS`), for the hours (`span` 'hour') and the UTC days
    ('day') that are closed (`services/closed_sums.py`); `start` is when they begin, `value` whose the sums are."""

    __table__ = Table(
        "usage_sums",
        Base.metadata,
        Column("dimension", String(16), primary_key=True),
        Column("span", String(4), primary_key=True),
        Column("start", UtcDateTime, primary_key=True),
        Column("value", String(255), primary_key=True),
        *_sums(),
        sqlite_with_rowid=False,  # a range of the key is then one run of pages
    )
