"""The price file of the locked LiteLLM package as dated rows: imported when it is new, never edited."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from token_tracker.config.price_file import load_rates, price_file_path
from token_tracker.database.models import PriceRow, SystemState
from token_tracker.domain.pricing import version_of

_STATE = "price_file"
_READING = 2  # raise it when `load_rates` reads a file differently, so that the same file is imported anew


def import_file(session: Session, *, at: datetime, path: Path | None = None) -> int:
    """Add a row, valid from `at`, for each name whose rates differ from the last known ones; how many were added.

    Nothing is read but the file's digest when this file was imported before. A name that is no longer in the file
    keeps its price: what was dropped from a list did not become free, and calls of it should stay priced.
    """
    source = path or price_file_path()
    state = f"{_READING}:{hashlib.sha256(source.read_bytes()).hexdigest()}"
    imported = session.get(SystemState, _STATE)
    if imported is not None and imported.value == state:
        return 0
    known = _known_versions(session)
    rows = [
        {"source": "file", "name": name, "version": version, "rates": rates, "valid_from": at, "created_at": at}
        for name, rates in load_rates(source).items()
        if (version := version_of("file", name, rates)) != known.get(name)
    ]
    if rows:
        session.execute(insert(PriceRow), rows)
    session.merge(SystemState(name=_STATE, value=state))
    return len(rows)


def _known_versions(session: Session) -> dict[str, str]:
    """The last version of each name; an older row is overwritten by a newer one in the order of the query."""
    rows = select(PriceRow.name, PriceRow.version).where(PriceRow.source == "file")
    return {row.name: row.version for row in session.execute(rows.order_by(PriceRow.valid_from, PriceRow.id))}
