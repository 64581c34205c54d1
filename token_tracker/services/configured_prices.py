"""The prices of proxy.yaml, of entries and of `pricing:`, as dated rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from itertools import chain

from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker.config.values import Configuration, ModelTable
from token_tracker.database.models import PriceRow
from token_tracker.domain.pricing import version_of
from token_tracker.services import audit

_SOURCES = ("entry", "pricing")
NAME_LENGTH = 255  # characters: the column's; the version tells longer names apart


def follow_prices(session: Session, configuration: Configuration, at: datetime) -> None:
    """A version that is no longer in the file ends at `at`, a new one begins then; older rows stay as they are.

    Versions are those that the gateway computes from the same file (`domain.pricing.make_price`).
    """
    wanted = {row.version: row for row in _rows(configuration, at)}
    current = current_prices(session)
    _record(session, current.values(), wanted.values(), at)
    for version, row in current.items():
        if version not in wanted:
            session.add(_row(row.source, row.name, version, None, at))
    session.add_all(row for version, row in wanted.items() if version not in current)


def _record(session: Session, current: Iterable[PriceRow], wanted: Iterable[PriceRow], at: datetime) -> None:
    """In the audit log, by source and name: several deployments of one name may have prices of their own."""
    before, after = _by_name(current), _by_name(wanted)
    for source, name in sorted(before.keys() | after.keys()):
        old, new = before.get((source, name)), after.get((source, name))
        verb = "create" if old is None else "delete" if new is None else "update"
        states = [None if rates is None else {"source": source, "rates": rates} for rates in (old, new)]
        if old != new:
            audit.record(session, audit.CONFIGURATION, f"price.{verb}", name, at=at, before=states[0], after=states[1])


def _by_name(rows: Iterable[PriceRow]) -> dict[tuple[str, str], list[dict[str, str]]]:
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in sorted(rows, key=lambda row: row.version):
        found.setdefault((row.source, row.name), []).append(dict(row.rates or {}))
    return found


def current_prices(session: Session) -> dict[str, PriceRow]:
    """What the file prices now, by version."""
    rows = select(PriceRow).where(PriceRow.source.in_(_SOURCES)).order_by(PriceRow.valid_from, PriceRow.id)
    last = {row.version: row for row in session.scalars(rows)}
    return {version: row for version, row in last.items() if row.rates is not None}


def _rows(configuration: Configuration, at: datetime) -> Iterator[PriceRow]:
    named = [("entry", name, rates) for name, rates in _entries(configuration.models)]
    named += [("pricing", f"{line.provider}/{line.pattern}", line.rates) for line in configuration.pricing]
    for source, name, rates in named:
        texts = {field: format(rate, "f") for field, rate in rates.items()}
        yield _row(source, name, version_of(source, name, rates), texts, at)


def _entries(models: ModelTable) -> Iterator[tuple[str, Mapping[str, Decimal]]]:
    """What `model_list` itself prices: every deployment with rates, under the name of its entry."""
    for deployment in chain(*models.exact.values(), *models.wildcards.values()):
        if deployment.rates is not None:
            yield deployment.name, deployment.rates


def _row(source: str, name: str, version: str, rates: dict[str, str] | None, at: datetime) -> PriceRow:
    return PriceRow(source=source, name=name[:NAME_LENGTH], version=version, rates=rates, valid_from=at, created_at=at)
