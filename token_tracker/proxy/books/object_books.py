"""Stored objects between journal, database and index: the recorder's part of knowing who owns what."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from token_tracker.database.models import ProviderObject
from token_tracker.database.session import reading
from token_tracker.proxy.books.object_index import SYNCED_TO, ObjectIndex
from token_tracker.proxy.books.records import Stored
from token_tracker.services.objects import ObjectRow, changed_since

log = logging.getLogger("token_tracker.recorder")

# A transaction shows its rows later than it dated them, and clocks of nodes differ: so far back is looked again.
OVERLAP = timedelta(seconds=30)
NOTE_US = 10_000_000  # how far apart notes are: an idle recorder writes little
PAGE = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LENGTHS: dict[str, int] = {
    column.name: column.type.length  # type: ignore[attr-defined]
    for column in ProviderObject.__table__.columns
    if getattr(column.type, "length", None)
}


def object_row(stored: Stored, node: str) -> ObjectRow:
    """What is booked of a record; texts are cut to their columns."""
    at = _EPOCH + stored.at_us * _MICROSECOND
    row: dict[str, Any] = {
        "kind": stored.kind,
        "id": stored.id,
        "account": stored.account,
        "deployment": stored.deployment,
        "provider": stored.provider,
        "model": stored.model,
        "team_id": stored.team,
        "user_id": stored.user,
        "key_id": stored.key_id,
        "call_id": stored.call_id,
        "is_background": stored.is_background,
        "metered_by": stored.metered_by,
        "created_at": at,
        "deleted_at": at if stored.is_deleted else None,
        "node": node,
    }
    for name, length in _LENGTHS.items():
        row[name] = row[name].replace("\0", "")[:length]
    return row


class ObjectBooks:
    """Keeps one node's index up to what journal and database know."""

    def __init__(self, engine: Engine, index: ObjectIndex, node: str) -> None:
        self._engine, self._index, self._node = engine, index, node
        self._is_broken = False

    def booked(self, records: Sequence[Stored]) -> None:
        """These are committed. The gateway has put them into the index already, unless it could not."""
        if records:
            try:
                self._index.put(records)
            except sqlite3.Error as error:
                self._complain(error)

    def sync(self, at: datetime) -> None:
        """Learn what other nodes made until `at`; everything if the index is new. Raises SQLAlchemyError."""
        try:
            self._sync(self._index.fact(SYNCED_TO), (at - _EPOCH) // _MICROSECOND)
        except sqlite3.Error as error:
            self._complain(error)
        else:
            self._is_broken = False

    def _sync(self, synced_to_us: int, now_us: int) -> None:
        since = max(_EPOCH, _EPOCH + synced_to_us * _MICROSECOND - OVERLAP)
        own, after = self._node if synced_to_us else "", tuple[str, ...]()
        while True:
            with reading(self._engine) as session:
                page = changed_since(session, since, after, not_from=own, limit=PAGE)
                records = [_record(row) for row in page]
                if page:
                    last = page[-1]
                    since, after = last.updated_at, (last.kind, last.id, last.account)
            if records:
                self._index.put(records)
            if len(records) < PAGE:
                break
        if now_us - synced_to_us >= NOTE_US:
            self._index.note(SYNCED_TO, now_us)

    def _complain(self, error: sqlite3.Error) -> None:
        if not self._is_broken:
            log.error("the index of stored objects cannot be written, so other gateways may not find them: %s", error)
        self._is_broken = True


def _record(row: ProviderObject) -> Stored:
    return Stored(
        kind=row.kind,
        id=row.id,
        account=row.account,
        deployment=row.deployment,
        provider=row.provider,
        model=row.model,
        team=row.team,
        user=row.user,
        key_id=row.key_id,
        call_id=row.call_id,
        at_us=(row.created_at - _EPOCH) // _MICROSECOND,
        is_background=row.is_background,
        metered_by=row.metered_by,
        is_deleted=row.deleted_at is not None,
    )
