"""What an alert rule can watch, as data: its unit, its bounds, its options, and the rule that is there by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

SEVERITIES = ("info", "warning", "critical")
HOUR_S, DAY_S = 3_600, 86_400
EXCEEDED = "budget.exceeded"


@dataclass(frozen=True, slots=True)
class Option:
    """A number from `least` to `most`, or one of `choices`."""

    default: int | str
    least: int = 0
    most: int = 0
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """`unit` of thresholds; a threshold outside `least` to `most` could never be passed. `is_below`: passed by falling
    to it. `subject`: what a rule may be narrowed to. `resolves`: its end is told too. `default`: the name of the rule
    that exists without configuration, '' for none."""

    name: str
    unit: str
    subject: str
    thresholds: tuple[Decimal, ...]
    least: Decimal
    most: Decimal
    severity: str
    cooldown_s: int
    default: str = ""
    resolves: bool = True
    is_below: bool = False
    options: Mapping[str, Option] = field(default_factory=dict)


def _kind(
    name: str,
    unit: str,
    subject: str,
    thresholds: tuple[str, ...],
    bounds: tuple[str, str],
    severity: str,
    cooldown_s: int,
    default: str = "",
    *,
    resolves: bool = True,
    is_below: bool = False,
    **options: Option,
) -> Kind:
    least, most = map(Decimal, bounds)
    passed = tuple(map(Decimal, thresholds))
    return Kind(name, unit, subject, passed, least, most, severity, cooldown_s, default, resolves, is_below, options)


def _by(*choices: str) -> Option:
    return Option(choices[0], choices=choices)


def _calls(default: int) -> Option:
    return Option(default, 1, 1_000_000)


_MANY = "1000000000"
KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        _kind(EXCEEDED, "%", "budget", ("100",), ("100", "100"), "critical", 0, "Budget exceeded"),
        _kind(
            "budget.forecast",
            "%",
            "budget",
            ("100",),
            ("1", "10000"),
            "warning",
            DAY_S,
            "Budget will not last",
            over_hours=Option(0, 0, 720),
            ahead_hours=Option(168, 1, 8760),
        ),
        _kind("budget.unproven", "%", "budget", ("10", "50"), ("0.001", "100"), "warning", DAY_S, "Unproven spend"),
        _kind(
            "budget.overrun",
            "calls",
            "model",
            ("1",),
            ("1", _MANY),
            "warning",
            DAY_S,
            "Billed beyond the bound",
            resolves=False,
        ),
        _kind(
            "spend.unusual",
            "times",
            "name",
            ("3",),
            ("1.1", "1000000"),
            "warning",
            6 * HOUR_S,
            "Unusual spend",
            by=_by("all", "team", "user", "key", "model", "provider"),
            weeks=Option(4, 1, 12),
            least_usd=Option(5, 0, 1_000_000),
        ),
        _kind(
            "upstream.errors",
            "%",
            "name",
            ("20", "50"),
            ("0.001", "100"),
            "critical",
            HOUR_S,
            "Upstream errors",
            by=_by("model", "provider"),
            least_calls=_calls(20),
        ),
        _kind(
            "upstream.latency",
            "seconds",
            "name",
            ("60",),
            ("0.002", "780"),
            "warning",
            HOUR_S,
            by=_by("model", "provider"),
            least_calls=_calls(20),
            percentile=Option(95, 50, 99),
        ),
        _kind(
            "upstream.slow",
            "times",
            "name",
            ("4",),
            ("1.1", "1000"),
            "warning",
            6 * HOUR_S,
            "Upstream slower than usual",
            by=_by("model", "provider"),
            least_calls=_calls(50),
            least_ms=Option(2_000, 0, 780_000),
            days=Option(7, 1, 60),
        ),
        _kind(
            "usage.unpriced",
            "calls",
            "model",
            ("1",),
            ("1", _MANY),
            "warning",
            7 * DAY_S,
            "Unpriced traffic",
            resolves=False,
        ),
        _kind(
            "usage.missing",
            "%",
            "model",
            ("5",),
            ("0.001", "100"),
            "warning",
            DAY_S,
            "Streams without usage",
            resolves=False,
            least_calls=_calls(20),
            least_missing=_calls(5),
        ),
        _kind(
            "requests.refused",
            "calls",
            "name",
            ("100",),
            ("1", _MANY),
            "info",
            DAY_S,
            "Refused by rate limits",
            resolves=False,
            by=_by("key", "user", "team", "model"),
        ),
        _kind(
            "key.expiring",
            "hours",
            "key",
            ("168", "24"),
            ("0.1", "8760"),
            "warning",
            0,
            "Key about to expire",
            resolves=False,
            is_below=True,
            least_days=Option(14, 0, 3650),
        ),
        _kind(
            "journal.backlog", "MiB", "node", ("64", "1024"), ("0.01", _MANY), "critical", 6 * HOUR_S, "Journal backlog"
        ),
        _kind("store.away", "seconds", "store", ("60",), ("10", "604800"), "critical", HOUR_S, "A store is away"),
    )
}
