"""The fields of an alert rule as they come from outside: checked all at once, completed, read as text and numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import time
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from token_tracker.domain.alert_kinds import KINDS, SEVERITIES, Kind, Option

Problems = list[tuple[str, str]]
MOST_THRESHOLDS, MOST_CHANNELS = 20, 20
MOST_COOLDOWN_S = 31 * 86_400
EMAIL = "email"  # the channel that NOTIFICATION_EMAIL is
FIELDS = (
    "name",
    "kind",
    "subject",
    "thresholds",
    "options",
    "severity",
    "cooldown_s",
    "quiet_hours",
    "channels",
    "enabled",
)
_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_CHANNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")


def completed(fields: Mapping[str, Any]) -> tuple[dict[str, Any], Problems]:
    """All of `FIELDS`, what is not given by the kind's defaults, and what is wrong. `subject` '' for all; thresholds
    as text, ascending; `quiet_hours` None or {from, to, timezone}."""
    kind, problems = _kind(fields.get("kind"))
    problems += _text("name", fields.get("name"), 100)
    if kind is None:
        return {}, problems
    rule: dict[str, Any] = {
        "name": fields.get("name"),
        "kind": kind.name,
        "subject": fields.get("subject") or "",
        "severity": _given(fields, "severity", kind.severity),
        "cooldown_s": _given(fields, "cooldown_s", kind.cooldown_s),
        "quiet_hours": fields.get("quiet_hours"),
        "channels": _given(fields, "channels", [EMAIL]),
        "enabled": _given(fields, "enabled", True),
    }
    rule["thresholds"], found = _thresholds(kind, _given(fields, "thresholds", kind.thresholds))
    problems += found
    rule["options"], found = _options(kind, _given(fields, "options", {}))
    problems += found + _others(rule)
    return rule, problems


def quiet_time(text: str) -> time:
    return time(int(text[:2]), int(text[3:]))


def number_text(value: Decimal) -> str:
    return f"{value.normalize():f}"


def time_of_day(field: str, value: object) -> Problems:
    is_time = isinstance(value, str) and _TIME.fullmatch(value)
    return [] if is_time else [(field, "must be a time of day in quotes, like '22:00'")]


def time_zone(field: str, value: object) -> Problems:
    try:
        ZoneInfo(str(value))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return [(field, "is no time zone: write one such as 'Europe/Berlin'")]
    return []


def channel_name(field: str, value: object) -> Problems:
    if isinstance(value, str) and _CHANNEL.fullmatch(value):
        return []
    return [(field, "must be the name of a channel: letters, digits or . _ @ + -")]


def _given(fields: Mapping[str, Any], name: str, default: Any) -> Any:
    value = fields.get(name)
    return default if value is None else value


def _kind(name: object) -> tuple[Kind | None, Problems]:
    if isinstance(name, str) and name in KINDS:
        return KINDS[name], []
    near = get_close_matches(str(name), KINDS, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return None, [("kind", f"must be one of {', '.join(KINDS)}{hint}")]


def _thresholds(kind: Kind, given: object) -> tuple[list[str], Problems]:
    if not isinstance(given, (list, tuple)) or not 0 < len(given) <= MOST_THRESHOLDS:
        return [], [("thresholds", f"must be a list of 1 to {MOST_THRESHOLDS} numbers ({kind.unit})")]
    found: set[Decimal] = set()
    problems: Problems = []
    for index, value in enumerate(given):
        number = _number(value)
        if number is None or number * 1000 % 1:
            problems.append((f"thresholds[{index}]", "must be a number with at most 3 places"))
        elif not kind.least <= number <= kind.most:
            bounds = f"{number_text(kind.least)} to {number_text(kind.most)} {kind.unit}"
            problems.append((f"thresholds[{index}]", f"can never be passed: '{kind.name}' reaches {bounds}"))
        else:
            found.add(number)
    return [number_text(each) for each in sorted(found)], problems


def _number(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        return None
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) < 20 else None


def _options(kind: Kind, given: object) -> tuple[dict[str, Any], Problems]:
    if not isinstance(given, Mapping):
        return {}, [("options", "must be a mapping of names to values")]
    known = kind.options
    names = f"it has {', '.join(known)}" if known else "it has none"
    problems: Problems = [
        (f"options.{name}", f"is no option of '{kind.name}': {names}") for name in given if name not in known
    ]
    for name, option in known.items():
        if name in given:
            problems += _option(f"options.{name}", option, given[name])
    return {name: given.get(name, option.default) for name, option in known.items()}, problems


def _option(field: str, option: Option, value: object) -> Problems:
    if option.choices:
        return [] if value in option.choices else [(field, f"must be one of {', '.join(option.choices)}")]
    if isinstance(value, bool) or not isinstance(value, int) or not option.least <= value <= option.most:
        return [(field, f"must be a whole number from {option.least} to {option.most}")]
    return []


def _others(rule: Mapping[str, Any]) -> Problems:
    problems = _text("subject", rule["subject"], 255) if rule["subject"] != "" else []
    if rule["severity"] not in SEVERITIES:
        problems.append(("severity", f"must be one of {', '.join(SEVERITIES)}"))
    cooldown_s = rule["cooldown_s"]
    if isinstance(cooldown_s, bool) or not isinstance(cooldown_s, int) or not 0 <= cooldown_s <= MOST_COOLDOWN_S:
        problems.append(("cooldown_s", f"must be a whole number of seconds, 0 to {MOST_COOLDOWN_S}"))
    if not isinstance(rule["enabled"], bool):
        problems.append(("enabled", "must be true or false"))
    channels = rule["channels"]
    if not isinstance(channels, (list, tuple)) or len(channels) > MOST_CHANNELS:
        problems.append(("channels", f"must be a list of at most {MOST_CHANNELS} names"))
    else:
        problems += [each for index, name in enumerate(channels) for each in channel_name(f"channels[{index}]", name)]
    return problems + _quiet_hours(rule)


def _quiet_hours(rule: Mapping[str, Any]) -> Problems:
    quiet = rule["quiet_hours"]
    if quiet is None:
        return []
    if not isinstance(quiet, Mapping) or set(quiet) != {"from", "to", "timezone"}:
        return [("quiet_hours", "must hold 'from', 'to' and 'timezone'")]
    problems = [each for name in ("from", "to") for each in time_of_day(f"quiet_hours.{name}", quiet[name])]
    problems += time_zone("quiet_hours.timezone", quiet["timezone"])
    if not problems and quiet["from"] == quiet["to"]:
        problems.append(("quiet_hours", "must not be the whole day: such a rule can never speak; disable it instead"))
    if rule["severity"] == "critical":
        problems.append(("quiet_hours", "would do nothing: 'critical' is told at any hour; choose another severity"))
    return problems


def _text(field: str, value: object, at_most: int) -> Problems:
    if not isinstance(value, str) or not value.strip():
        return [(field, "must be text")]
    if len(value) > at_most or not value.isprintable():
        return [(field, f"must be one line of at most {at_most} characters")]
    return []
