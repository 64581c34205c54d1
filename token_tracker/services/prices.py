"""LiteLLM's price file as dated rows: the locked package's when it is new, a newer one that somebody uploads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from token_tracker.config.price_file import PriceFileError, load_rates, price_file_path, rates_of
from token_tracker.database.models import PriceRow, SystemState
from token_tracker.domain.pricing import version_of
from token_tracker.domain.problems import Invalid

_STATE = "price_file"
_READING = 2  # raise it when `load_rates` reads a file differently, so that the same file is imported anew
_NAME_LENGTH = 255

Rates = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """What a file would change. `changed`: by name, the rates until now and those of the file. `missing`: names that
    the file no longer has; they keep their price, for what was dropped from a list did not become free."""

    added: dict[str, Rates] = field(default_factory=dict)
    changed: dict[str, tuple[Rates, Rates]] = field(default_factory=dict)
    unchanged: int = 0
    missing: tuple[str, ...] = ()


def import_file(session: Session, *, at: datetime, path: Path | None = None) -> int:
    """Add a row, valid from `at`, for each name whose rates differ from the last known ones; how many were added.

    Nothing is read but the file's digest when this file was imported before.
    """
    source = path or price_file_path()
    state = f"{_READING}:{hashlib.sha256(source.read_bytes()).hexdigest()}"
    imported = session.get(SystemState, _STATE)
    if imported is not None and imported.value == state:
        return 0
    difference = _difference(session, load_rates(source))
    session.merge(SystemState(name=_STATE, value=state))
    return _add(session, difference, at)


def read_upload(content: bytes) -> dict[str, dict[str, str]]:
    """The rates of a file that somebody sent. Raises Invalid."""
    try:
        rates = rates_of(content)
    except PriceFileError as error:
        raise Invalid([("file", str(error))]) from None
    if not rates:
        raise Invalid([("file", "names no price; is it LiteLLM's model_prices_and_context_window.json?")])
    if long := next((name for name in rates if len(name) > _NAME_LENGTH or not name.isprintable()), None):
        raise Invalid([("file", f"has a name that is no model's: '{long[:80]}'")])
    return rates


def preview(session: Session, rates: Mapping[str, Rates]) -> Difference:
    """What `import_rates` would do."""
    return _difference(session, rates)


def import_rates(session: Session, rates: Mapping[str, Rates], *, at: datetime) -> Difference:
    """Add rows, valid from `at`, for what differs. The locked package's own file is not imported again after that
    before it changes itself: what was uploaded stays until then."""
    difference = _difference(session, rates)
    _add(session, difference, at)
    return difference


def _difference(session: Session, rates: Mapping[str, Rates]) -> Difference:
    known = _known(session)
    fresh = {name: version_of("file", name, given) for name, given in rates.items()}
    added = {name: rates[name] for name in fresh if name not in known}
    changed = {
        name: (known[name].rates or {}, rates[name])
        for name, version in fresh.items()
        if name in known and version != known[name].version
    }
    missing = tuple(sorted(known.keys() - rates.keys()))
    return Difference(added, changed, len(fresh) - len(added) - len(changed), missing)


def _add(session: Session, difference: Difference, at: datetime) -> int:
    new = difference.added | {name: rates for name, (_, rates) in difference.changed.items()}
    rows: list[dict[str, Any]] = [
        {
            "source": "file",
            "name": name,
            "version": version_of("file", name, rates),
            "rates": dict(rates),
            "valid_from": at,
            "created_at": at,
        }
        for name, rates in new.items()
    ]
    if rows:
        session.execute(insert(PriceRow), rows)
    return len(rows)


def _known(session: Session) -> dict[str, Any]:
    """The last row of each name; an older one is overwritten by a newer one in the order of the query."""
    rows = select(PriceRow.name, PriceRow.version, PriceRow.rates).where(PriceRow.source == "file")
    return {row.name: row for row in session.execute(rows.order_by(PriceRow.valid_from, PriceRow.id))}
