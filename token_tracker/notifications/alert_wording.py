"""What a letter about anything but a budget's own threshold says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from token_tracker.notifications.wording_parts import Table, Wording, money, plain

_COLORS = {"critical": "#b91c1c", "warning": "#b45309", "info": "#1d4ed8"}
_OVER, _DIGEST = "#15803d", "#475569"
Facts = Mapping[str, Any]


def _number(text: object) -> str:
    return f"{Decimal(str(text)):,.1f}".removesuffix(".0")


def _name(facts: Facts) -> str:
    return plain(facts.get("name") or "(none)")


def _value(facts: Facts) -> str:
    return _number(facts["value"])


# By kind: a headline, and a sentence that says what happened and what to do.
_SAYS: Mapping[str, Callable[[Facts], tuple[str, str]]] = {
    "budget.overrun": lambda f: (
        f"{_name(f)} was billed beyond its bound",
        f"The provider billed {f['counted']} calls of the last hour for more than the bound that was sent with them. "
        "What was billed is booked; look at the rows with an overrun, and set a larger output maximum.",
    ),
    "spend.unusual": lambda f: (
        f"Spend is {_value(f)} times the usual" + ("" if f.get("name") == "all" else f": {_name(f)}"),
        f"${money(str(f['spent']))} within an hour; at this hour of the week ${money(str(f['usual']))} are usual.",
    ),
    "upstream.errors": lambda f: (
        f"{_value(f)}% of calls to {_name(f)} fail",
        f"{f['errors']} of {f['calls']} calls of this hour ended in an error of the upstream.",
    ),
    "upstream.latency": lambda f: (
        f"{_name(f)} takes {_value(f)} seconds",
        f"{f['percentile']} of 100 calls take up to so long; {f['calls']} calls of this hour are counted.",
    ),
    "upstream.slow": lambda f: (
        f"{_name(f)} is about {_value(f)} times slower than usual",
        f"95 of 100 calls take up to {f['seconds']} s, where {f['usual_seconds']} s are usual.",
    ),
    "usage.unpriced": lambda f: (
        f"Calls of {_name(f)} have no price",
        f"{f['counted']} calls in the last day count as nothing in sums and budgets. Name the model's price under "
        "'pricing', or by POST /api/prices.",
    ),
    "usage.missing": lambda f: (
        f"Streams of {_name(f)} come without usage",
        f"{f['counted']} of {f['total']} streams of the last hour ended without the provider's usage; theirs is "
        "estimated.",
    ),
    "requests.refused": lambda f: (
        f"{f['counted']} calls of {_name(f)} were refused",
        "Rate limits refused them within an hour. Raise the limit, or ask whoever calls to wait as Retry-After says.",
    ),
    "key.expiring": lambda f: (
        f"Key {_name(f)} expires in {_value(f)} hours",
        f"The key of {plain(f['user'])} works until {_when(f['expires_at'], 'UTC')}. Rotate it, or give it a later "
        "expiry.",
    ),
    "journal.backlog": lambda f: (
        f"{f['counted']} MiB of the journal are not booked",
        f"The recorder of node {_name(f)} books more slowly than calls come. Nothing is lost; figures and budgets lag "
        "behind. Look at the database's load.",
    ),
    "store.away": lambda f: (
        f"{_name(f)} is away",
        f"It has not answered for {f['counted']} seconds. Calls are kept in the journal; rules without their store "
        "decide by 'on_store_error'.",
    ),
}


def worded(facts: Facts) -> Wording:
    """Of a rule that fires."""
    headline, sentence = _SAYS[facts["kind"]](facts)
    subject = f"[Token Tracker] {plain(headline)}"
    return Wording(subject, plain(headline), sentence, _COLORS[facts["severity"]], lines=lines(facts))


def resolved(facts: Facts) -> Wording:
    """Of one that no longer does."""
    of = plain(facts.get("budget") or facts.get("name") or "")
    headline = f"Over: {plain(facts['rule'])}" + (f", {of}" if of and of != "all" else "")
    unit = facts["threshold_unit"]
    was, now = _with_unit(facts["threshold"], unit), _with_unit(_value(facts), unit)
    sentence = f"It was beyond {was}, and is now at {now}."
    return Wording(f"[Token Tracker] {headline}", headline, sentence, _OVER, lines=lines(facts))


def digest(facts: Facts, words_of: Callable[[str, Facts], Wording]) -> Wording:
    """What was held back, each by its headline."""
    count, items = facts["count"], facts["items"]
    rows = [
        (words_of(each["event"], each["facts"]).headline, _when(each["created_at"], facts["timezone"]))
        for each in items
    ]
    headline = f"{count} alert{'s' if count != 1 else ''} held back"
    sentence = "Cooldowns or quiet hours held them back since the last digest."
    if count > len(items):
        sentence += f" The first {len(items)} are listed; /api/alerts/deliveries has all."
    return Wording(f"[Token Tracker] {headline}", headline, sentence, _DIGEST, tables=[Table("Held back", rows)])


def lines(facts: Facts) -> list[tuple[str, str]]:
    return [
        ("Rule", f"{plain(facts['rule'])} ({facts['severity']})"),
        ("Threshold", _with_unit(facts["threshold"], facts["threshold_unit"])),
        ("Seen", _when(facts["at"], "UTC")),
    ]


def _with_unit(number: str, unit: str) -> str:
    if unit == "%":
        return f"{number}%"
    return f"{number} {unit.removesuffix('s') if number == '1' and unit != 'times' else unit}"


def _when(text: str, zone: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone(ZoneInfo(zone)):%a %d %b %Y %H:%M} {zone}"
