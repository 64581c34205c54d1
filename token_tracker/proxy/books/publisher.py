"""Publishes what gateways live from: reads the database when its version grows, and replaces the snapshot file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from token_tracker.database.models import ApiKey, ConfigVersion, PriceRow, User
from token_tracker.database.session import reading
from token_tracker.proxy.books.publication import KeyRecord, PriceRecord, RulesRecord, Section, Snapshot
from token_tracker.services import price_list, provider_credentials, rule_rows

SOURCES = ("override", "file")
_encoder = msgspec.msgpack.Encoder()  # order as selected: keys and prices come in the order of their ids


class Publisher:
    """One snapshot file. `publish` is to be called often: without a change it asks the database one small question.

    `version`: the configuration that was published last; None before the first.
    """

    def __init__(self, engine: Engine, path: Path) -> None:
        self._engine, self._path = engine, path
        self.version: int | None = None
        self._due: datetime | None = None  # when a price that stands in the database begins to hold
        self._prices: Section | None = None
        self._price_rows: tuple[int, int] | None = None

    def current_version(self) -> int:
        """Of the configuration that stands now."""
        with reading(self._engine) as session:
            return session.scalar(select(ConfigVersion.version)) or 0

    def publish(self, at: datetime, at_most: int | None = None) -> bool:
        """Write the snapshot if there is something new; True if it was written. A configuration beyond the version
        `at_most` waits.

        Raises SQLAlchemyError or OSError; the file stays as it was, and the next call tries again.
        """
        with reading(self._engine) as session:
            version = session.scalar(select(ConfigVersion.version)) or 0
            if at_most is not None and version > at_most:
                return False
            is_due = self._due is not None and self._due <= at
            if version == self.version and not is_due and self._path.exists():
                return False
            sections = {
                "keys": _keys_section(session, at),
                "prices": self._prices_section(session, at, is_due),
                "rules": _rules_section(session),
                "credentials": _section(provider_credentials.sealed_by_name(session)),
            }
        snapshot = Snapshot(version, int(at.timestamp() * 1_000_000), sections)
        _replace(self._path, _encoder.encode(snapshot))
        self.version = version
        return True

    def _prices_section(self, session: Session, at: datetime, is_due: bool) -> Section:
        """Rows are only added, so prices are the same while their number is, until the next begins to hold."""
        count, last_id = session.execute(select(func.count(), func.max(PriceRow.id))).one()
        rows = (count, last_id or 0)
        if self._prices is None or is_due or rows != self._price_rows:
            self._prices = _section(_prices(session, at))
            self._price_rows = rows
            self._due = session.scalar(select(func.min(PriceRow.valid_from)).where(PriceRow.valid_from > at))
        return self._prices


def _keys_section(session: Session, at: datetime) -> Section:
    return _section(dict(_live_keys(session, at)))


def _rules_section(session: Session) -> Section:
    rules = rule_rows.load(session)
    return _section(RulesRecord(rules.budgets, rules.rates, rules.freezes))


def _live_keys(session: Session, at: datetime) -> Iterator[tuple[bytes, KeyRecord]]:
    """Keys that may be used now or later; one that is to end later brings the time of its end."""
    statement = select(ApiKey).join(User, User.id == ApiKey.user_id).where(User.disabled_at.is_(None))
    for key in session.scalars(statement.order_by(ApiKey.id)):
        ends = [end for end in (key.expires_at, key.revoked_at) if end is not None]
        if all(end > at for end in ends):
            yield (
                key.hash,
                KeyRecord(
                    id=key.id,
                    user=key.user_id,
                    team=key.team_id or "",
                    agent=key.agent,
                    models=tuple(key.models),
                    expires_at_us=_microseconds(min(ends)) if ends else 0,
                    permissions=tuple(key.permissions),
                ),
            )


def _prices(session: Session, at: datetime) -> dict[str, dict[str, PriceRecord]]:
    """By source and name, the row that holds at `at`; a name whose price was ended has none."""
    return {
        source: {name: PriceRecord(*held) for name, held in price_list.holding(session, source=source, at=at).items()}
        for source in SOURCES
    }


def _section(content: Any) -> Section:
    body = _encoder.encode(content)
    return Section(hashlib.sha256(body).hexdigest(), body)


def _microseconds(time: datetime) -> int:
    return int(time.astimezone(UTC).timestamp() * 1_000_000)


def _replace(path: Path, content: bytes) -> None:
    """A gateway sees the old file or the new one, also after a power cut; nobody else may read it."""
    fresh = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
