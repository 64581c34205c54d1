"""Checks of values from outside that several use cases share; each answers what is wrong, or nothing."""

from __future__ import annotations

import re
from datetime import datetime

Problems = list[tuple[str, str]]
IDENTITY = "^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$"
_IDENTITY = re.compile(IDENTITY)


def text(field: str, value: object, *, at_most: int, may_be_empty: bool = False) -> Problems:
    if not isinstance(value, str):
        return [(field, "must be text")]
    if not value.strip() and not may_be_empty:
        return [(field, "must not be empty")]
    if len(value) > at_most:
        return [(field, f"must have at most {at_most} characters")]
    return [] if value.isprintable() else [(field, "must not contain line breaks or control characters")]


def may_be_stored(value: object) -> bool:
    """Whether a database can be asked for this text at all: PostgreSQL takes no NUL, neither takes half characters."""
    return isinstance(value, str) and value.isprintable()


def identity(field: str, value: object) -> Problems:
    """A name that is used as an id in rows, filters and addresses."""
    if isinstance(value, str) and _IDENTITY.fullmatch(value):
        return []
    return [(field, "must be 1 to 64 letters, digits or . _ @ + -, beginning with a letter or digit")]


def texts(field: str, value: object, *, each_at_most: int, at_most: int) -> Problems:
    """A list of non-empty texts, at least one."""
    if not isinstance(value, list) or not value:
        return [(field, "must be a list with at least one entry")]
    if len(value) > at_most:
        return [(field, f"must have at most {at_most} entries")]
    return [problem for entry in value for problem in text(field, entry, at_most=each_at_most)][:1]


def whole(field: str, value: object, *, least: int, most: int) -> Problems:
    if isinstance(value, bool) or not isinstance(value, int):
        return [(field, "must be a whole number")]
    return [] if least <= value <= most else [(field, f"must be between {least} and {most}")]


def future(field: str, value: object, at: datetime) -> Problems:
    if not isinstance(value, datetime) or value.tzinfo is None:
        return [(field, "must be a time with its zone, like 2026-12-31T00:00:00Z")]
    return [] if value > at else [(field, "must lie in the future")]
