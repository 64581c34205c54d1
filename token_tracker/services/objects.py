"""Who owns what is stored at providers: booked from the journal, read by other nodes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Table, and_, or_, select, update
from sqlalchemy.orm import Session

from token_tracker.database.models import ProviderObject
from token_tracker.services import bulk

_OBJECTS = cast(Table, ProviderObject.__table__)
_KEY = ("kind", "id", "account")
# One object by the column names of `provider_objects`, without `updated_at`.
ObjectRow = dict[str, Any]


def book_objects(session: Session, rows: Sequence[ObjectRow], *, at: datetime) -> None:
    """Add objects that are new, and to known ones that they were metered or deleted: the first word of each counts.

    Rows may come in any order and any number of times.
    """
    merged: dict[tuple[str, ...], ObjectRow] = {}
    for row in rows:
        key = tuple(row[name] for name in _KEY)
        known = merged.setdefault(key, {**row, "updated_at": at})
        known["metered_by"] = known["metered_by"] or row["metered_by"]
        known["deleted_at"] = known["deleted_at"] or row["deleted_at"]
    if not merged:
        return
    ordered = [merged[key] for key in sorted(merged)]
    bulk.insert_missing(session, _OBJECTS, ordered)
    for row in ordered:
        if row["metered_by"]:
            _change(session, row, ProviderObject.metered_by == "", {"metered_by": row["metered_by"]}, at)
        if row["deleted_at"]:
            _change(session, row, ProviderObject.deleted_at.is_(None), {"deleted_at": row["deleted_at"]}, at)


def changed_since(
    session: Session, since: datetime, after: tuple[str, ...] = (), *, not_from: str = "", limit: int = 1000
) -> list[ProviderObject]:
    """At most `limit` objects that changed at `since` or later, oldest first; `after`: the kind, id and account of the
    last one that was read at exactly `since`. `not_from`: a node whose own objects are left out."""
    statement = select(ProviderObject).where(ProviderObject.updated_at >= since)
    if after:
        kind, identity, account = after
        same = and_(ProviderObject.kind == kind, ProviderObject.id == identity)
        later = or_(
            ProviderObject.updated_at > since,
            ProviderObject.kind > kind,
            and_(ProviderObject.kind == kind, ProviderObject.id > identity),
            and_(same, ProviderObject.account > account),
        )
        statement = statement.where(later)
    if not_from:
        statement = statement.where(ProviderObject.node != not_from)
    order = (ProviderObject.updated_at, ProviderObject.kind, ProviderObject.id, ProviderObject.account)
    return list(session.scalars(statement.order_by(*order).limit(limit)))


def _change(session: Session, row: ObjectRow, is_open: Any, values: dict[str, Any], at: datetime) -> None:
    same = [getattr(ProviderObject, name) == row[name] for name in _KEY]
    changed = {**values, "node": row["node"], "updated_at": at}
    statement = update(ProviderObject).where(*same, is_open).values(**changed)
    session.execute(statement.execution_options(synchronize_session=False))
