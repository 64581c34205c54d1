"""Prices as people look at them, and the overrides that they make; rows are added, never edited."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Any, NamedTuple

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from token_tracker.database.models import PriceRow
from token_tracker.domain.pricing import version_of
from token_tracker.domain.problems import Conflict, Invalid, NotFound
from token_tracker.domain.rates import SEARCH_FIELDS, TOKEN_FIELDS, UNIT_FIELDS, field_of
from token_tracker.services import checks
from token_tracker.services.pages import DEFAULT_LIMIT, MAX_LIMIT, Page
from token_tracker.services.usage import format_time

SOURCES = ("entry", "override", "pricing", "file")
KNOWN_FIELDS = TOKEN_FIELDS | UNIT_FIELDS | set(SEARCH_FIELDS)
OVERRIDE = "override"
_HIGHEST = Decimal(1_000_000)  # USD for one unit
_DIGITS = 40
_TOLERANCE_S = 60  # how far a clock of the caller's may be behind ours


def list_prices(
    session: Session,
    *,
    name: str | None = None,
    source: str | None = None,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[PriceRow]:
    """All rows, history included, the last added first. Raises Invalid (limit, source, cursor)."""
    problems = [] if 1 <= limit <= MAX_LIMIT else [("limit", f"must be between 1 and {MAX_LIMIT}")]
    if source is not None and source not in SOURCES:
        problems.append(("source", f"must be one of {', '.join(SOURCES)}"))
    if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 18):
        problems.append(("cursor", "is not one that this list gave out"))
    if problems:
        raise Invalid(problems)
    statement = select(PriceRow).order_by(PriceRow.id.desc()).limit(limit + 1)
    if name is not None:
        statement = statement.where(PriceRow.name == name)
    if source is not None:
        statement = statement.where(PriceRow.source == source)
    if cursor is not None:
        statement = statement.where(PriceRow.id < int(cursor))
    found = list(session.scalars(statement))
    return Page(found[:limit], str(found[limit - 1].id) if len(found) > limit else None)


def public(row: PriceRow) -> dict[str, Any]:
    """What may be shown of a price: JSON."""
    plain = {name: getattr(row, name) for name in ("id", "source", "name", "version", "rates")}
    return plain | {"valid_from": format_time(row.valid_from), "created_at": format_time(row.created_at)}


class Held(NamedTuple):
    """A price as it holds at a moment."""

    version: str
    rates: dict[str, str]


def holding(session: Session, *, source: str, at: datetime, names: Collection[str] | None = None) -> dict[str, Held]:
    """By name (of `names`, None: of all), the price of a source that holds at `at`; a name whose price was ended is
    absent."""
    found: dict[str, Held] = {}
    rows = select(PriceRow.name, PriceRow.version, PriceRow.rates).where(PriceRow.source == source)
    begun = rows.where(PriceRow.valid_from <= at).order_by(PriceRow.valid_from, PriceRow.id)
    if names is not None:
        begun = begun.where(PriceRow.name.in_(names))
    for name, version, rates in session.execute(begun):
        if rates is None:
            found.pop(name, None)
        else:
            found[name] = Held(version, rates)
    return found


def override(
    session: Session, *, name: str, rates: Mapping[str, str], at: datetime, valid_from: datetime | None = None
) -> PriceRow:
    """From `valid_from` on (default: now), calls of the model `name` cost this; before it, what they cost until now.

    `rates`: USD per unit as decimal text, by LiteLLM's field names. Raises Invalid with all problems, Conflict (there
    is one from the same moment on).
    """
    problems = checks.text("name", name, at_most=255)
    problems += [problem for field, rate in rates.items() for problem in _rate_problems(field, rate)]
    if not rates:
        problems.append(("rates", "must name at least one rate, like input_cost_per_token"))
    if valid_from is not None and (at - valid_from).total_seconds() > _TOLERANCE_S:
        problems.append(("valid_from", "must not lie in the past: what was booked is not priced again by this"))
    if problems:
        raise Invalid(problems)
    plain = {field: format(Decimal(rate).normalize(), "f") for field, rate in rates.items()}
    return _add(session, name, plain, max(valid_from or at, at), at)


def end_override(session: Session, *, price_id: int, at: datetime) -> PriceRow:
    """From now on the next source prices the model. One that has not begun yet never will. Raises NotFound, Conflict
    (it is over: what took its place has an id of its own)."""
    found = session.get(PriceRow, price_id)
    if found is None or found.source != OVERRIDE or found.rates is None:
        raise NotFound("price override", str(price_id))
    ends_at = max(found.valid_from, at)
    place = tuple_(PriceRow.valid_from, PriceRow.id)
    after_it = (place > (found.valid_from, found.id), PriceRow.valid_from <= ends_at)
    same = (PriceRow.source == OVERRIDE, PriceRow.name == found.name)
    if session.scalar(select(PriceRow.id).where(*same, *after_it).limit(1)) is not None:
        raise Conflict(
            f"The override {price_id} of '{found.name}' is over: it has ended, or a later one took its place."
        )
    return _add(session, found.name, None, ends_at, at)


def _add(session: Session, name: str, rates: dict[str, str] | None, valid_from: datetime, at: datetime) -> PriceRow:
    version = version_of(OVERRIDE, name, rates or {})
    same = select(PriceRow.id).where(
        PriceRow.source == OVERRIDE,
        PriceRow.name == name,
        PriceRow.version == version,
        PriceRow.valid_from == valid_from,
    )
    if session.scalar(same) is not None:
        raise Conflict(f"The same override of '{name}' from the same moment on is there already.")
    row = PriceRow(source=OVERRIDE, name=name, version=version, rates=rates, valid_from=valid_from, created_at=at)
    session.add(row)
    session.flush()
    return row


def _rate_problems(field: str, rate: object) -> Iterator[tuple[str, str]]:
    place = f"rates.{field[:80]}"
    if field_of(field) not in KNOWN_FIELDS:
        close = get_close_matches(field_of(field), sorted(KNOWN_FIELDS), n=1)
        yield place, f"is no rate that is billed here{f'; did you mean {close[0]}?' if close else ''}"
    try:
        value = Decimal(rate) if isinstance(rate, str) and len(rate) <= _DIGITS else None
    except InvalidOperation:
        value = None
    if value is None or not value.is_finite() or not 0 <= value <= _HIGHEST:
        yield place, "must be USD for one unit as decimal text, like '0.0000025'"
