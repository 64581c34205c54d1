"""The panel of budgets: what is spent, held and unproven of each limit, the fullest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from dash import html
from sqlalchemy.orm import Session

from token_tracker.dashboard.data import Viewer
from token_tracker.database.models import ApiKey
from token_tracker.domain.access import Permission, scope_of
from token_tracker.domain.money import format_usd
from token_tracker.domain.rules import EACH
from token_tracker.domain.windows import ROLLING_HOURS
from token_tracker.services import budget_status, budgets
from token_tracker.services.accounts import find_user

SHOWN = 12
_READ, _MEMBERS_READ = 100, 20
NEAR_PERCENT, FULL_PERCENT = 80, 100


@dataclass(frozen=True, slots=True)
class Bar:
    """A budget, or a member of one for each. Amounts are texts in its unit, shares percent of the limit."""

    name: str
    about: str
    amount: str
    limit: str
    spent_percent: float
    held_percent: float
    unproven_percent: float
    note: str

    @property
    def used_percent(self) -> float:
        return self.spent_percent + self.held_percent + self.unproven_percent


def load_bars(session: Session, viewer: Viewer, *, zone: ZoneInfo, at: datetime) -> tuple[list[Bar], int]:
    """The fullest bars, and how many more there are."""
    user = find_user(session, viewer.user)
    team = user.team_id if user is not None else None
    scope = scope_of(viewer.role, Permission.RULES_READ, user=viewer.user, team=team)
    if scope is None:
        return [], 0
    bars: list[Bar] = []
    for budget in budgets.list_budgets(session, scope=scope, limit=_READ).items:
        if budget.scope_id == EACH:
            page = budget_status.members(session, budget_id=budget.id, at=at, limit=_MEMBERS_READ, scope=scope)
            found = page.items
        else:
            found = (budget_status.status(session, budget_id=budget.id, at=at),)
        for status in found:
            bars += _bars(session, status, zone)
    bars.sort(key=lambda bar: -bar.used_percent)
    return bars[:SHOWN], max(0, len(bars) - SHOWN)


def _bars(session: Session, status: budget_status.BudgetStatus, zone: ZoneInfo) -> list[Bar]:
    bars = []
    for measure, is_money in ((status.usd, True), (status.tokens, False)):
        if measure is None:
            continue
        limit = max(1, measure.limit)
        bars.append(
            Bar(
                name=status.budget.name,
                about=_about(session, status),
                amount=_amount(measure.spent, is_money),
                limit=_amount(measure.limit, is_money),
                spent_percent=100 * measure.spent / limit,
                held_percent=100 * measure.held / limit,
                unproven_percent=100 * measure.unproven / limit,
                note=_note(status, measure, zone),
            )
        )
    return bars


def _about(session: Session, status: budget_status.BudgetStatus) -> str:
    budget = status.budget
    who = status.member_id or budget.scope_id
    if budget.scope_type == "key" and (key := session.get(ApiKey, who)) is not None:
        who = key.name
    scope = "everybody" if budget.scope_type == "global" else f"{budget.scope_type} {who}"
    model = f", {budget.model}" if budget.model else ""
    return f"{scope}{model} · {budget.period.replace('_', ' ')} · {'soft' if status.is_soft else budget.enforcement}"


def _note(status: budget_status.BudgetStatus, measure: budget_status.Measure, zone: ZoneInfo) -> str:
    if status.is_building:
        return "being counted"
    notes = []
    if not measure.remaining:
        notes.append("nothing is left")
    elif measure.ends_at is not None:
        notes.append(f"at this rate it ends {_time(measure.ends_at, zone)}")
    if status.window_end is not None and status.budget.period not in ROLLING_HOURS:
        notes.append(f"resets {_time(status.window_end, zone)}")
    return " · ".join(notes)


def _time(at: datetime, zone: ZoneInfo) -> str:
    return at.astimezone(zone).strftime("%d %b %H:%M")


def _amount(value: int, is_money: bool) -> str:
    """Money to the cent where that says enough: from a dollar on, and where there is nothing beyond."""
    if not is_money:
        return f"{value:,} tokens"
    text = format_usd(value)
    return f"${text[:-7]}" if value >= 10**9 or not value % 10_000_000 else f"${text}"


def panel(bars: Sequence[Bar], more: int) -> list[html.Section]:
    """Nothing at all while there are no budgets."""
    if not bars:
        return []
    rest = [html.P(f"and {more:,} more: GET /api/budgets", className="state")] if more else []
    return [html.Section([html.H2("Budgets"), *map(_row, bars), *rest], className="panel budgets")]


def _row(bar: Bar) -> html.Div:
    used = bar.used_percent
    style = "bad" if used >= FULL_PERCENT else "warn" if used >= NEAR_PERCENT else ""
    head = html.Div([html.Strong(bar.name), html.Span(bar.about, className="about")], className="head")
    figures = html.Div(
        [html.Span(f"{bar.amount} of {bar.limit}", className="amount"), html.Span(f"{used:.0f} %", className="percent")]
    )
    parts = (
        ("spent", bar.spent_percent, "spent"),
        ("held", bar.held_percent, "held by calls in flight"),
        ("unproven", bar.unproven_percent, "unproven: may have been spent by calls that broke"),
    )
    left, segments = 100.0, []
    for name, percent, title in parts:
        width = min(left, percent)
        left -= width
        if width > 0:
            segments.append(
                html.Span(className=name, style={"width": f"{width:.3f}%"}, title=f"{percent:.1f} % {title}")
            )
    meter = html.Div(segments, className="meter", role="img", **{"aria-label": f"{used:.0f} percent used"})
    return html.Div([head, figures, meter, html.Div(bar.note, className="note")], className=f"budget {style}".strip())
