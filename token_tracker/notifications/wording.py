"""What a letter says, as plain values: a subject, a sentence, lines of facts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from token_tracker.notifications.letter import Letter

NAME_CHARACTERS = 120


@dataclass(frozen=True, slots=True)
class Wording:
    """`percent` None: there is no bar. `tables`: (title, rows of name and amount)."""

    subject: str
    headline: str
    sentence: str
    color: str
    percent: float | None = None
    lines: list[tuple[str, str]] = field(default_factory=list)
    tables: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)


def worded(letter: Letter) -> Wording:
    """Every name in it is one line of printable text, at most 120 characters."""
    if letter.event == "test":
        who = plain(letter.facts.get("asked_by", ""))
        sentence = f"{who or 'Somebody'} asked for this message. Nothing happened; alerts would arrive here."
        return Wording("[Token Tracker] Test", "This is a test", sentence, "#475569")
    facts = letter.facts
    name, of = plain(facts["budget"]), _of(facts)
    spent, limit, percent = _amount(facts, "spent"), _amount(facts, "limit"), facts["percent"]
    match letter.event:
        case "budget.exceeded":
            headline, color = f"Budget {name} is spent", "#b91c1c"
            sentence = f"{spent} of {limit} are spent{of}. {_consequence(facts)}"
        case "budget.recovered":
            headline, color = f"Budget {name} has room again", "#15803d"
            sentence = f"{spent} of {limit} are spent{of}: a new window began, or the limit was raised."
        case _:
            headline, color = f"Budget {name} is at {percent}%", "#b45309"
            sentence = f"The threshold of {plain(letter.threshold)}% is passed: {spent} of {limit} are spent{of}."
    return Wording(
        subject=f"[Token Tracker] {headline}",
        headline=headline,
        sentence=sentence,
        color=color,
        percent=float(percent),
        lines=_lines(facts, spent, limit),
        tables=[
            (title, [(plain(who), f"${_money(amount)}") for who, amount in facts[field]])
            for title, field in (("Most spent by model", "top_models"), ("Most spent by user", "top_users"))
            if facts[field]
        ],
    )


def plain(value: object) -> str:
    """One line of printable text: what a name holds may come from anybody."""
    text = "".join(character if character.isprintable() else " " for character in str(value))
    text = " ".join(text.split())
    return text if len(text) <= NAME_CHARACTERS else text[: NAME_CHARACTERS - 1] + "…"


def _of(facts: Any) -> str:
    scope, model = facts["scope"], facts["model"]
    who = "" if scope["type"] == "global" else f" by the {scope['type'].replace('_', ' ')} {plain(scope['id'])}"
    return who + (f" on {plain(model)}" if model else "")


def _consequence(facts: Any) -> str:
    if facts["enforcement"] == "alert":
        return "Calls go on: this budget only warns."
    return "Calls that it covers are refused until the window resets or the limit is raised."


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
    return f"${_money(text)}" if facts["unit"] == "usd" else f"{int(text):,} tokens"


def _money(text: str) -> str:
    """Cents; all that is needed to tell from 0 below one cent."""
    amount = Decimal(text)
    return f"{amount:,.2f}" if abs(amount) >= Decimal("0.01") or not amount else f"{amount.normalize():f}"
