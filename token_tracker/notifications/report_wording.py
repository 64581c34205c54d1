"""What a report says, from the facts of `services.report_figures`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from token_tracker.notifications import chart
from token_tracker.notifications.letter import Letter
from token_tracker.notifications.wording import Picture, Table, Wording, money, plain

_TITLES = {"team": "Spend by team", "model": "Spend by model", "agent": "Spend by agent"}
_BEFORE = {"daily": "the day before", "weekly": "the week before", "monthly": "the month before"}
_NONE = "(none)"


def worded(letter: Letter) -> Wording:
    """Every name in it is one line of printable text."""
    facts = letter.facts
    span, before = _span(facts), _BEFORE[facts["cadence"]]
    now, earlier = facts["totals"], facts["before"]
    spent = _usd(now["cost_usd"])
    name, whose = plain(facts["report"]), f" by the team {plain(facts['team'])}" if facts["team"] else ""
    change = _change(now["cost_usd"], earlier["cost_usd"])
    compared = f"{change} against {before} ({_usd(earlier['cost_usd'])})"
    return Wording(
        subject=f"[Token Tracker] {name}: {spent}, {span}",
        headline=f"{name}: {span}",
        sentence=f"{spent} were spent{whose} on {now['calls']:,} calls: {compared}.",
        color="#2563eb",
        lines=_lines(facts, before),
        picture=_picture(facts, before),
        tables=[*_tables(facts), _budgets(facts)] if facts["budgets"] else _tables(facts),
    )


def _lines(facts: Any, before: str) -> list[tuple[str, str]]:
    now, earlier = facts["totals"], facts["before"]
    lines = [
        ("Spent", f"{_usd(now['cost_usd'])} ({before}: {_usd(earlier['cost_usd'])})"),
        ("Calls", f"{now['calls']:,} ({before}: {earlier['calls']:,}), {now['errors']:,} failed"),
        ("Tokens", f"{now['total_tokens']:,} ({before}: {earlier['total_tokens']:,})"),
        ("Without a price", _unpriced(facts)),
    ]
    uncertain = facts["uncertain"]
    if uncertain is None:
        return [*lines, ("Estimated", "unknown: the calls of this period are no longer kept one by one")]
    estimated, cost = uncertain["estimated_calls"], _usd(uncertain["estimated_usd"])
    share = _share(Decimal(uncertain["estimated_usd"]), Decimal(now["cost_usd"]))
    lines.append(("Estimated", f"{estimated:,} calls, {cost} ({share} of what was spent)"))
    if uncertain["calls_without_usage"]:
        lines.append(("Usage unknown", f"{uncertain['calls_without_usage']:,} calls"))
    return lines


def _unpriced(facts: Any) -> str:
    unpriced, calls = facts["totals"]["unpriced_calls"], facts["totals"]["calls"]
    said = f"{unpriced:,} calls ({_share(unpriced, calls)})"
    models = ", ".join(plain(name) for name, _ in facts["unpriced_models"][:3])
    return f"{said}: {models}" if models else said


def _tables(facts: Any) -> list[Table]:
    spend = [
        Table(_TITLES[group], [_row(plain(name) or _NONE, now, before) for name, now, before in rows])
        for group, rows in facts["spend"].items()
        if any(name for name, *_ in rows)
    ]
    movers = [
        (f"{plain(name)} ({group})", _moved(now, before), _change(now, before))
        for group, name, now, before in facts["movers"]
    ]
    return [*spend, Table("Moved most", movers)] if movers else spend


def _moved(now: str, before: str) -> str:
    moved = Decimal(now) - Decimal(before)
    return f"{'-' if moved < 0 else '+'}{_usd(str(abs(moved)))}"


def _row(name: str, now: str, before: str) -> tuple[str, ...]:
    return name, _usd(now), _change(now, before)


def _budgets(facts: Any) -> Table:
    rows, percents = [], []
    for budget in facts["budgets"]:
        of = f" · {plain(budget['member'])}" if budget["member"] else ""
        spent, limit = (_amount(budget, field) for field in ("spent", "limit"))
        name = f"{plain(budget['budget'])}{of} ({budget['period'].replace('_', ' ')})"
        rows.append((name, f"{spent} of {limit}", f"{budget['percent']}%"))
        percents.append(float(budget["percent"]))
    return Table("Budgets now", rows, percents)


def _picture(facts: Any, before: str) -> Picture:
    labels = _labels([label for label, *_ in facts["chart"]], facts["cadence"])
    bars = [
        chart.Bar(label, float(now), float(earlier))
        for label, (_, now, earlier) in zip(labels, facts["chart"], strict=True)
    ]
    unit = "hour" if facts["cadence"] == "daily" else "day"
    told = f"USD by {unit}"
    png = chart.draw(bars, (told, before))
    return Picture(png, f"{told}, beside {before}", chart.WIDTH_PX, chart.HEIGHT_PX)


def _labels(labels: Sequence[str], cadence: str) -> list[str]:
    if cadence == "daily":
        return [label and f"{label}:00" for label in labels]
    shape = "%a %d" if cadence == "weekly" else "%d %b"
    return [label and datetime.fromisoformat(label).strftime(shape) for label in labels]


def _span(facts: Any) -> str:
    """'Tue 10 Mar 2026', '2 to 8 Mar 2026', 'March 2026', by the clocks of the report's zone."""
    zone = ZoneInfo(facts["timezone"])
    first = datetime.fromisoformat(facts["start"]).astimezone(zone)
    last = datetime.fromisoformat(facts["end"]).astimezone(zone) - timedelta(seconds=1)
    if facts["cadence"] == "daily":
        return f"{first:%a} {first.day} {first:%b %Y}"
    if facts["cadence"] == "monthly":
        return f"{first:%B %Y}"
    begins = f"{first.day}" if first.month == last.month else f"{first.day} {first:%b}"
    return f"{begins} to {last.day} {last:%b %Y}"


def _change(now: str, before: str) -> str:
    spent, earlier = Decimal(now), Decimal(before)
    if not earlier:
        return "new" if spent else "unchanged"
    percent = (spent - earlier) * 100 / earlier
    if abs(percent) < Decimal("0.05"):
        return "unchanged"
    return f"{percent:+,.1f}%" if abs(percent) < 10 else f"{percent:+,.0f}%"


def _share(part: Decimal | int, whole: Decimal | int) -> str:
    return f"{Decimal(part) * 100 / Decimal(whole):.1f}%" if whole else "0%"


def _amount(budget: Any, field: str) -> str:
    return _usd(budget[field]) if budget["unit"] == "usd" else f"{int(budget[field]):,} tokens"


def _usd(text: str) -> str:
    return f"${money(text)}"
