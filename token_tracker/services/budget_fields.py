"""The fields of a budget as they come from outside: checked all at once, and read into columns."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypedDict
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from token_tracker.config import recipients
from token_tracker.config.recipients import CHANNELS, address_problem
from token_tracker.database.models import Budget, BudgetAlert
from token_tracker.domain.money import format_usd, to_nano_usd
from token_tracker.domain.windows import PERIODS
from token_tracker.services import checks

MOST_USD = Decimal(9_000_000_000)  # what 64 bits hold in nano-dollars
MOST_TOKENS = 2**52
MOST_ALERTS = 50
_CHOICES = {
    "enforcement": ("hard", "soft", "alert"),
    "action": ("block", "downgrade"),
    "clamp": ("missing", "always"),
    "on_store_error": ("deny", "allow"),
}
_NAMES = {"action": "on_exceeded.action", "downgrade_at": "on_exceeded.downgrade_at"}  # as the contract has them


class AlertFields(TypedDict, total=False):
    """`threshold`: percent of the budget; or `threshold_usd`: an amount. Exactly one recipient."""

    threshold: Decimal | int | float | str | None
    threshold_usd: Decimal | int | float | str | None
    email: str | None
    slack_webhook: str | None
    webhook: str | None
    apprise: str | None


class BudgetFields(TypedDict, total=False):
    """What may be set and changed. `limit_usd`: an exact decimal, best as text; None: no limit of that measure.
    `downgrade_model` '' or None: none."""

    name: str
    limit_usd: Decimal | int | float | str | None
    limit_tokens: int | None
    enforcement: str
    action: str
    downgrade_model: str | None
    downgrade_at: int
    clamp: str
    default_output_tokens: int
    min_output_tokens: int
    allow_unbounded: bool
    on_store_error: str
    alerts: Sequence[AlertFields]


DEFAULTS: dict[str, Any] = {
    "limit_nano_usd": None,
    "limit_tokens": None,
    "enforcement": "hard",
    "action": "block",
    "downgrade_model": "",
    "downgrade_at": 100,
    "clamp": "missing",
    "default_output_tokens": 8192,
    "min_output_tokens": 256,
    "allow_unbounded": False,
    "on_store_error": "deny",
}
COLUMNS = ("name", *DEFAULTS)


def read(fields: BudgetFields) -> tuple[dict[str, Any], checks.Problems]:
    """The fields given as columns (alerts apart), and what is wrong with each."""
    columns: dict[str, Any] = {}
    problems: checks.Problems = []
    given: Mapping[str, Any] = fields
    for name, value in given.items():
        if name == "limit_usd":
            columns["limit_nano_usd"], found = (None, []) if value is None else usd(name, value)
        elif name == "alerts":
            found = _alert_problems(value)
        else:
            columns[name], found = value, _problems(name, value)
        problems += found
    if "downgrade_model" in columns:
        columns["downgrade_model"] = columns["downgrade_model"] or ""
    return columns, problems


def together(columns: Mapping[str, Any], model: str) -> checks.Problems:
    """What is wrong with all columns of a budget beside each other."""
    problems: checks.Problems = []
    if columns["limit_nano_usd"] is None and columns["limit_tokens"] is None:
        problems.append(("limit_usd", "is required, or 'limit_tokens', or both"))
    if columns["min_output_tokens"] > columns["default_output_tokens"]:
        problems.append(("min_output_tokens", "must not be larger than 'default_output_tokens'"))
    goes_to = columns["downgrade_model"]
    if columns["action"] == "downgrade":
        if not goes_to:
            problems.append(("on_exceeded.model", "is required: the model to go to"))
        elif goes_to == model:
            problems.append(("on_exceeded.model", "must be another model than the budget's own"))
        if columns["enforcement"] == "alert":
            problems.append(("on_exceeded.action", "must be 'block' with enforcement 'alert', which never acts"))
    elif goes_to:
        problems.append(("on_exceeded.model", "goes with the action 'downgrade' only"))
    return problems


def usd(field: str, value: object, *, least: Decimal = Decimal(0)) -> tuple[int, checks.Problems]:
    """Nano-dollars, and what is wrong."""
    amount = _decimal(value)
    if amount is None:
        return 0, [(field, "must be an amount in US dollars, like '10.00'")]
    if not least <= amount <= MOST_USD:
        return 0, [(field, f"must be between {least} and {MOST_USD}")]
    if amount * 10**9 % 1:
        return 0, [(field, "must have at most 9 places")]
    return to_nano_usd(amount), []


def alerts(entries: Iterable[AlertFields]) -> list[dict[str, Any]]:
    """As columns of `budget_alerts`; of entries that `read` found right."""
    return [
        {
            **dict(zip(("threshold_percent", "threshold_nano_usd"), _threshold(entry), strict=True)),
            **{name: entry.get(name) for name in CHANNELS},
        }
        for entry in entries
    ]


def with_urls(entries: Sequence[AlertFields], present: Iterable[BudgetAlert]) -> list[AlertFields]:
    """Entries whose URL is shortened, as it is shown, with that of the alert that is shown so: same threshold, same
    beginning, in the same order where there are several. Where it is not plain which is meant, they are left alone."""
    hidden: dict[tuple[object, ...], list[str]] = {}
    for alert in present:
        for name in CHANNELS:
            if (url := getattr(alert, name)) is not None:
                percent, nano_usd = alert.threshold_percent, alert.threshold_nano_usd
                hidden.setdefault((percent, nano_usd, name, recipients.shown(name, url)), []).append(url)
    asked = [_asked(entry) for entry in entries]
    meant = {key: iter(urls) for key, urls in hidden.items() if asked.count(key) == len(urls)}
    return [
        {**entry, key[2]: next(meant[key])} if key in meant else entry  # type: ignore[misc]
        for entry, key in zip(entries, asked, strict=True)
    ]


def _asked(entry: AlertFields) -> tuple[object, ...]:
    """As a key of what is hidden; () where no URL is shortened."""
    found = [(name, entry.get(name)) for name in CHANNELS if recipients.is_shortened(str(entry.get(name)))]
    return (*_threshold(entry), *found[0]) if len(found) == 1 else ()


def unreachable(columns: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> checks.Problems:
    """Thresholds in money that the budget can never come to."""
    limit = columns["limit_nano_usd"]
    amounts = [entry["threshold_nano_usd"] for entry in entries if entry["threshold_nano_usd"] is not None]
    if amounts and limit is None:
        return [("alerts", "hold a 'threshold_usd', but the budget has no 'limit_usd': use 'threshold', in percent")]
    if amounts and columns["enforcement"] == "hard" and max(amounts) > limit:
        return [("alerts", "hold a 'threshold_usd' above 'limit_usd', which a hard budget never passes: lower it")]
    return []


def time_zone(value: object) -> tuple[str, checks.Problems]:
    try:
        return ZoneInfo(str(value)).key, [] if isinstance(value, str) else [("timezone", "must be text")]
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return "UTC", [("timezone", "is no time zone: write one such as 'Europe/Berlin'")]


def period(value: object) -> checks.Problems:
    return [] if value in PERIODS else [("period", f"must be one of {', '.join(PERIODS)}")]


def public(budget: Budget) -> dict[str, Any]:
    """What the audit log says of a budget: JSON, money as text."""
    limit = budget.limit_nano_usd
    fields = {name: getattr(budget, name) for name in COLUMNS if name != "limit_nano_usd"}
    return fields | {
        "scope_type": budget.scope_type,
        "scope_id": budget.scope_id,
        "model": budget.model,
        "period": budget.period,
        "timezone": budget.timezone,
        "starts_at": budget.starts_at.astimezone(UTC).isoformat(),
        "limit_usd": None if limit is None else format_usd(limit),
        "alerts": sorted(f"{_threshold_text(alert)} {_whom(alert)}" for alert in budget.alerts),
    }


def _whom(alert: BudgetAlert) -> str:
    """An address of a person, else the service with a digest to tell one from another: who knows all of a URL may use
    it."""
    ((name, address),) = [(name, getattr(alert, name)) for name in CHANNELS if getattr(alert, name)]
    digest = "" if name == "email" else hashlib.sha256(address.encode()).hexdigest()[:8]
    return f"{recipients.shown(name, address)}{digest}"


def starts_at(value: object, period_name: object) -> checks.Problems:
    if value is None:
        return []
    if not isinstance(value, datetime) or value.tzinfo is None:
        return [("starts_at", "must be a time with its zone, like 2026-12-31T00:00:00Z")]
    return [] if period_name == "total" else [("starts_at", "goes with the period 'total' only")]


def _problems(name: str, value: object) -> checks.Problems:
    field = _NAMES.get(name, name)
    if name == "name":
        return checks.text(field, value, at_most=200)
    if name in _CHOICES:
        return [] if value in _CHOICES[name] else [(field, f"must be one of {', '.join(_CHOICES[name])}")]
    if name == "downgrade_model":
        return checks.text("on_exceeded.model", value, at_most=255) if value not in (None, "") else []
    if name == "allow_unbounded":
        return [] if isinstance(value, bool) else [(field, "must be true or false")]
    if name == "limit_tokens":
        return [] if value is None else checks.whole(field, value, least=0, most=MOST_TOKENS)
    if name == "downgrade_at":
        return checks.whole(field, value, least=1, most=100)
    return checks.whole(field, value, least=1, most=MOST_TOKENS)


def _alert_problems(entries: object) -> checks.Problems:
    if not isinstance(entries, (list, tuple)) or len(entries) > MOST_ALERTS:
        return [("alerts", f"must be a list of at most {MOST_ALERTS} entries")]
    problems: checks.Problems = []
    seen = set()
    for index, entry in enumerate(entries):
        field = f"alerts[{index}]"
        threshold = (_decimal(entry.get("threshold")), _decimal(entry.get("threshold_usd")))
        problems += _threshold_problems(field, entry)
        named = {name: entry.get(name) for name in CHANNELS if entry.get(name) is not None}
        if len(named) != 1:
            problems.append((field, f"must name exactly one of {', '.join(CHANNELS)}"))
            continue
        ((name, recipient),) = named.items()
        problems += _recipient_problems(f"{field}.{name}", name, recipient)
        if (threshold, name, recipient) in seen:
            problems.append((field, "says the same as an entry before it"))
        seen.add((threshold, name, recipient))
    return problems


def _threshold(entry: Mapping[str, Any]) -> tuple[Decimal | None, int | None]:
    """Percent, or nano-dollars."""
    amount = entry.get("threshold_usd")
    return _decimal(entry.get("threshold")), None if amount is None else usd("", amount)[0]


def _threshold_problems(field: str, entry: Mapping[str, Any]) -> checks.Problems:
    if entry.get("threshold_usd") is not None:
        if entry.get("threshold") is not None:
            return [(field, "must hold either 'threshold', in percent, or 'threshold_usd'")]
        return usd(f"{field}.threshold_usd", entry["threshold_usd"], least=Decimal("0.000000001"))[1]
    threshold = _decimal(entry.get("threshold"))
    if threshold is None or not 0 < threshold <= 1_000 or threshold * 1_000 % 1:
        return [(f"{field}.threshold", "must be a percentage above 0, at most 1000, with at most 3 places")]
    return []


def _threshold_text(alert: BudgetAlert) -> str:
    if alert.threshold_percent is not None:
        return f"{alert.threshold_percent.normalize():f}"
    return f"{format_usd(alert.threshold_nano_usd or 0)} USD"


def _recipient_problems(field: str, name: str, recipient: object) -> checks.Problems:
    problems = checks.text(field, recipient, at_most=320 if name == "email" else 2000)
    wrong = address_problem(name, str(recipient))
    return problems or ([(field, wrong)] if wrong else [])


def _decimal(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        return None
    try:
        amount = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and abs(amount.adjusted()) < 30 else None
