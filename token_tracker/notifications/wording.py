"""What a letter says, as plain values: a subject, a sentence, lines of facts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from token_tracker.notifications import alert_wording
from token_tracker.notifications.letter import Letter
from token_tracker.notifications.wording_parts import Picture, Table, Wording, money, plain

__all__ = ["Picture", "Table", "Wording", "money", "plain", "worded"]


def worded(letter: Letter) -> Wording:
    """Every name in it is one line of printable text, at most 120 characters."""
    if letter.event == "test":
        who = plain(letter.facts.get("asked_by", ""))
        sentence = f"{who or 'Somebody'} asked for this message. Nothing happened; alerts would arrive here."
        return Wording("[Token Tracker] Test", "This is a test", sentence, "#475569")
    if letter.event == "alert.digest":
        return alert_wording.digest(letter.facts, lambda event, facts: _worded(event, "", facts))
    return _worded(letter.event, letter.threshold, letter.facts)


def _worded(event: str, threshold: str, facts: Mapping[str, Any]) -> Wording:
    if event == "alert.resolved":
        return alert_wording.resolved(facts)
    if "budget" not in facts:
        return alert_wording.worded(facts)
    name, of = plain(facts["budget"]), _of(facts)
    spent, limit, percent = _amount(facts, "spent"), _amount(facts, "limit"), facts["percent"]
    match event:
        case "budget.exceeded":
            headline, color = f"Budget {name} is spent", "#b91c1c"
            sentence = f"{spent} of {limit} are spent{of}. {_consequence(facts)}"
        case "budget.recovered":
            headline, color = f"Budget {name} has room again", "#15803d"
            sentence = f"{spent} of {limit} are spent{of}: a new window began, or the limit was raised."
        case "budget.forecast":
            headline, color = f"Budget {name} will not last", "#b45309"
            sentence = f"{_ends(facts)} {spent} of {limit} are spent{of}. {_consequence(facts, 'then')}"
        case "budget.unproven":
            headline, color = f"{facts['unproven_percent']}% of budget {name} are unproven", "#b45309"
            sentence = (
                f"Calls that broke off may have cost so much{of}; it stays held until there is proof, or an admin "
                "releases it (POST /api/budgets/…/release)."
            )
        case _:
            passed = f"${money(threshold.removesuffix(' USD'))}" if threshold.endswith(" USD") else f"{threshold}%"
            headline, color = f"Budget {name} is at {percent}%", "#b45309"
            sentence = f"The threshold of {plain(passed)} is passed: {spent} of {limit} are spent{of}."
    return Wording(
        subject=f"[Token Tracker] {headline}",
        headline=headline,
        sentence=sentence,
        color=color,
        percent=float(percent),
        lines=_lines(facts, spent, limit),
        tables=[
            Table(title, [(plain(who), f"${money(amount)}") for who, amount in facts[field]])
            for title, field in (("Most spent by model", "top_models"), ("Most spent by user", "top_users"))
            if facts[field]
        ],
    )


def _ends(facts: Any) -> str:
    rate = f"at the rate of the last {facts['over_hours']} hours"
    if facts["forecast_ends_at"]:
        return f"It ends on {_when(facts['forecast_ends_at'], facts)} {rate}."
    return f"It will be at {facts['forecast_percent']}% when the window ends, {rate}."


def _of(facts: Any) -> str:
    scope, model = facts["scope"], facts["model"]
    who = "" if scope["type"] == "global" else f" by the {scope['type'].replace('_', ' ')} {plain(scope['id'])}"
    return who + (f" on {plain(model)}" if model else "")


def _consequence(facts: Any, when: str = "") -> str:
    if facts["enforcement"] == "alert":
        return "Calls go on: this budget only warns."
    refused = "Calls that it covers are refused until the window resets or the limit is raised."
    return refused if not when else f"{when.capitalize()} c{refused[1:]}"


def _lines(facts: Any, spent: str, limit: str) -> list[tuple[str, str]]:
    ends = facts["window_end"]
    window = f"{facts['period']}, since {_when(facts['window_start'], facts)}"
    lines = [("Spent", f"{spent} of {limit} ({facts['percent']}%)"), ("Window", window)]
    if ends:
        lines.append(("Resets", _when(ends, facts)))
    if facts["forecast_ends_at"]:
        lines.append(("At this rate", f"it ends on {_when(facts['forecast_ends_at'], facts)}"))
    return lines


def _when(text: str, facts: Any) -> str:
    at = datetime.fromisoformat(text).astimezone(ZoneInfo(facts["timezone"]))
    return f"{at:%a %d %b %Y %H:%M} {facts['timezone']}"


def _amount(facts: Any, field: str) -> str:
    text = facts[field]
    return f"${money(text)}" if facts["unit"] == "usd" else f"{int(text):,} tokens"
