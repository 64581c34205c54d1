"""Calls that were refused before anything was sent: a compact table by code, model and key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from dash import html
from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker.dashboard.data import Selection, Viewer
from token_tracker.dashboard.ranges import RANGES, slots
from token_tracker.database.models import ApiKey
from token_tracker.services.refusals import RefusalFilters, refusals

SHOWN = 10
_READ = 1_000
_COLUMNS = ("Refused with", "Model", "User", "Key", "Calls", "Last hour")


@dataclass(frozen=True, slots=True)
class Kind:
    """So many calls that were refused alike. Texts are '–' where nobody knows."""

    code: str
    status: int
    model: str
    user: str
    key_name: str
    calls: int
    last_hour: str


def load(session: Session, viewer: Viewer, selection: Selection, *, zone: ZoneInfo, at: datetime) -> list[Kind]:
    """Those of the selection as `/api/refusals` counts them, the most frequent first; a model is what was asked for."""
    filters = RefusalFilters(
        start=slots(RANGES[selection.range_name], zone, at).start,
        model=selection.model,
        user=selection.user,
        team=selection.team,
        key=selection.key,
        scope=viewer.scope,
    )
    calls: dict[tuple[str, int, str, str, str], int] = {}
    last: dict[tuple[str, int, str, str, str], datetime] = {}
    for each in refusals(session, filters, limit=_READ):  # teams and endpoints apart
        kind = (each.code, each.status, each.model, each.user, each.key_id)
        calls[kind] = calls.get(kind, 0) + each.calls
        last[kind] = max(last.get(kind, each.last_hour), each.last_hour)
    ordered = sorted(calls, key=lambda kind: (-calls[kind], kind))
    names = _key_names(session, {kind[-1] for kind in ordered})
    return [
        Kind(code, status, model or "–", user or "–", names.get(key, key) or "–", calls[kind], _hour(last[kind], zone))
        for kind in ordered
        for code, status, model, user, key in (kind,)
    ]


def panel(kinds: Sequence[Kind]) -> list[html.Section]:
    """Nothing at all while nothing was refused."""
    if not kinds:
        return []
    head = html.Tr([html.Th(name, className="number" if name == "Calls" else None) for name in _COLUMNS])
    table = html.Table([html.Thead(head), html.Tbody([_row(kind) for kind in kinds[:SHOWN]])], className="calls")
    others = sum(kind.calls for kind in kinds[SHOWN:])
    rest = [html.P(f"and {others:,} more: GET /api/refusals", className="state")] if others else []
    return [
        html.Section([html.H2("Refused"), html.Div(table, className="scroll"), *rest], className="panel refused"),
    ]


def _row(kind: Kind) -> html.Tr:
    code = html.Span(f"{kind.code} {kind.status}", className="tag warn")
    cells: list[Any] = [code, kind.model, kind.user, kind.key_name, f"{kind.calls:,}", kind.last_hour]
    return html.Tr([_cell(name, value) for name, value in zip(_COLUMNS, cells, strict=True)])


def _cell(column: str, value: Any) -> html.Td:
    label: dict[str, Any] = {"data-label": column}
    return html.Td(value, className="number" if column == "Calls" else None, **label)


def _hour(at: datetime, zone: ZoneInfo) -> str:
    return at.astimezone(zone).strftime("%d %b %H:%M")


def _key_names(session: Session, ids: set[str]) -> dict[str, str]:
    rows = session.execute(select(ApiKey.id, ApiKey.name).where(ApiKey.id.in_(ids)))
    return {key_id: name for key_id, name in rows}  # noqa: C416 (rows are typed, dict() of them is not)
