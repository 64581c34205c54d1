"""Lists a page at a time, newest first, with a cursor that stays right while rows are added."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import Session

from token_tracker.domain.problems import Invalid

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """`next_cursor` None: there is no more."""

    items: list[Item]
    next_cursor: str | None


def newest_first(
    session: Session, statement: Select[Item], model: Any, *, limit: int, cursor: str | None
) -> Page[Item]:
    """A page of `statement`, which selects `model`, by its `created_at` and `id`.

    Raises Invalid for a limit outside 1 to 1000 and for a cursor that did not come from here.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid([("limit", f"must be between 1 and {MAX_LIMIT}")])
    place = tuple_(model.created_at, model.id)
    if cursor is not None:
        statement = statement.where(place < _decode(cursor))
    found = session.scalars(statement.order_by(model.created_at.desc(), model.id.desc()).limit(limit + 1)).all()
    last: Any = found[limit - 1] if len(found) > limit else None
    return Page(list(found[:limit]), _encode(last.created_at, last.id) if last is not None else None)


def _encode(created_at: datetime, identity: str) -> str:
    text = json.dumps([created_at.astimezone(UTC).isoformat(), identity])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(cursor: str) -> tuple[datetime, str]:
    try:
        created_at, identity = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        at = datetime.fromisoformat(created_at)
        if at.tzinfo is None or not isinstance(identity, str):
            raise ValueError(cursor)
    except (ValueError, TypeError, binascii.Error):
        raise Invalid([("cursor", "is not one that this list gave out")]) from None
    return at, identity
