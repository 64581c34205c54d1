"""`rate_limits:` and `budget:` of proxy.yaml, read into the shapes of the API."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from token_tracker.config.recipients import CHANNELS, address_problem
from token_tracker.config.section import Section
from token_tracker.config.values import AlertEntry, BudgetEntry, RateLimitEntry
from token_tracker.domain.money import to_nano_usd

SCOPES = ("global", "team", "user", "key", "provider", "agent", "tag", "session", "end_user")
UNITS = ("requests", "tokens", "concurrent")
PERIODS = ("second", "minute", "hour", "day")
ENFORCEMENTS = ("hard", "soft", "alert")
_MOST_USD = Decimal(9_000_000_000)  # what 64 bits hold in nano-dollars


def read_rate_limits(entries: list[Section]) -> tuple[RateLimitEntry, ...]:
    """Each entry once; two for the same scope, model, unit and period contradict each other."""
    limits: dict[tuple[str | None, ...], RateLimitEntry] = {}
    for entry in entries:
        limit = _rate_limit(entry)
        entry.finish()
        if limit is None:
            continue
        key = (limit.scope_type, limit.scope_id, limit.model, limit.unit, limit.period)
        if key in limits:
            entry.problems.append(f"{entry.where} limits the same as an entry before it: keep one.")
        limits[key] = limit
    return tuple(limits.values())


def _rate_limit(entry: Section) -> RateLimitEntry | None:
    scope_type, scope_id, scope_model = _scope(entry)
    model = entry.text("model") or scope_model
    unit = entry.choice("unit", UNITS, "requests") or "requests"
    limit = entry.whole("limit", least=0)
    period = entry.choice("period", PERIODS)
    on_store_error = entry.choice("on_store_error", ("allow", "deny"), "allow") or "allow"
    if "limit" not in entry.content:
        entry.complain("limit", "is missing.")
    if "period" not in entry.content and unit != "concurrent":
        entry.complain("period", f"is missing: one of {', '.join(PERIODS)}.")
    if limit is None:
        return None
    return RateLimitEntry(scope_type, scope_id, model, unit, limit, period or "", on_store_error)


def _scope(entry: Section) -> tuple[str, str | None, str | None]:
    """(type, id, model): global unless it says otherwise; type `model` is another way to write `model:`."""
    scope = entry.section("scope")
    scope_type = scope.choice("type", (*SCOPES, "model"), "global") or "global"
    scope_id = scope.text("id")
    scope.finish()
    if scope_type == "global" and scope_id is not None:
        scope.complain("id", "must be absent: 'global' is everybody.")
    if scope_type != "global" and scope_id is None:
        scope.complain("id", f"is missing: which {scope_type}? ('*' gives each its own limit.)")
    return ("global", None, scope_id) if scope_type == "model" else (scope_type, scope_id, None)


def read_budget(section: Section) -> tuple[BudgetEntry, ...]:
    """`total` and `daily` are two global budgets with the same enforcement and alerts."""
    limits = {period: _amount(section, period) for period in ("total", "daily")}
    enforcement = section.choice("enforcement", ENFORCEMENTS, "hard") or "hard"
    timezone = read_timezone(section)
    alerts = tuple(alert for entry in section.sections("alerts") if (alert := _alert(entry)))
    section.finish()
    if section.content and not any(period in section.content for period in limits):
        section.problems.append(f"{section.where} names no amount: give 'total', 'daily' or both.")
    for period, amount in limits.items():
        if enforcement == "hard" and amount is not None and _is_beyond(alerts, to_nano_usd(amount)):
            section.complain("alerts", f"hold a 'threshold_usd' above '{period}', which is never passed.")
    return tuple(
        BudgetEntry(period, to_nano_usd(amount), enforcement, timezone, alerts)
        for period, amount in limits.items()
        if amount is not None
    )


def _is_beyond(alerts: Sequence[AlertEntry], limit_nano_usd: int) -> bool:
    return any((alert.threshold_nano_usd or 0) > limit_nano_usd for alert in alerts)


def _amount(section: Section, key: str) -> Decimal | None:
    amount = section.number(key, least=0)
    if amount is not None and amount > _MOST_USD:
        section.complain(key, f"must be at most {_MOST_USD}.")
        return None
    return amount


def read_timezone(section: Section) -> str:
    """UTC where none is named."""
    name = section.text("timezone") or "UTC"
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        section.complain("timezone", "is no time zone: write one such as 'Europe/Berlin'.")
        return "UTC"


def _alert(entry: Section) -> AlertEntry | None:
    threshold, usd = entry.number("threshold", above=0), entry.number("threshold_usd", above=0)
    recipients = {name: entry.text(name) for name in CHANNELS}
    entry.finish()
    if sum(name in entry.content for name in ("threshold", "threshold_usd")) != 1:
        entry.complain("threshold", "is missing: a percentage of the budget; or else 'threshold_usd', an amount.")
    if sum(value is not None for value in recipients.values()) != 1:
        entry.problems.append(f"{entry.where} must name exactly one of {', '.join(CHANNELS)}.")
        return None
    for name, address in recipients.items():
        if address is not None and (problem := address_problem(name, address)):
            entry.complain(name, f"{problem}.")
    if threshold is None and usd is None:
        return None
    return AlertEntry(threshold, **recipients, threshold_nano_usd=None if usd is None else to_nano_usd(usd))
