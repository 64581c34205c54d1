"""`alerts:` of proxy.yaml: rules, the channels that they name, and when the digest goes out."""

from __future__ import annotations

from collections.abc import Mapping

from token_tracker.config.recipients import CHANNELS, address_problem
from token_tracker.config.section import Section
from token_tracker.config.values import AlertRuleEntry, AlertSettings, ChannelEntry
from token_tracker.domain import alert_fields
from token_tracker.domain.alert_fields import EMAIL, FIELDS
from token_tracker.domain.alert_kinds import KINDS


def read_alerts(section: Section) -> AlertSettings:
    """With the rules that exist without configuration, unless an entry of the same name takes their place or
    `defaults: false` leaves them out."""
    has_defaults = section.flag("defaults")
    channels = _channels(section.section("channels"))
    digest_at, timezone = _digest(section.section("digest"))
    rules: dict[str, AlertRuleEntry] = {} if has_defaults is False else dict(default_rules())
    named: set[str] = set()
    for entry in section.sections("rules"):
        rule = _rule(entry)
        if rule is None:
            continue
        if rule.name in named:
            entry.complain("name", "is that of a rule before it: keep one.")
        named.add(rule.name)
        rules[rule.name] = rule
    section.finish()
    return AlertSettings(tuple(rules.values()), channels, digest_at, timezone)


def default_rules() -> Mapping[str, AlertRuleEntry]:
    """By their names."""
    named = ({"name": kind.default, "kind": kind.name} for kind in KINDS.values() if kind.default)
    return {str(each["name"]): AlertRuleEntry(**alert_fields.completed(each)[0]) for each in named}


def _rule(entry: Section) -> AlertRuleEntry | None:
    given = {name: entry.get(name) for name in FIELDS}
    entry.finish()
    quiet = given["quiet_hours"]
    if isinstance(quiet, Mapping):
        given["quiet_hours"] = {"timezone": "UTC", **quiet}
    rule, problems = alert_fields.completed(given)
    for field, problem in problems:
        entry.complain(field, f"{problem}.")
    return AlertRuleEntry(**rule) if not problems else None


def _channels(section: Section) -> tuple[ChannelEntry, ...]:
    found = []
    for name in section.names():
        for field, problem in alert_fields.channel_name(name, name):
            section.complain(field, f"{problem}.")
        if name == EMAIL:
            section.complain(name, "is NOTIFICATION_EMAIL: set that, or take another name.")
        channel = _channel(section.section(name), name)
        if channel is not None:
            found.append(channel)
    return tuple(found)


def _channel(entry: Section, name: str) -> ChannelEntry | None:
    recipients = {key: text for key in CHANNELS if (text := entry.text(key)) is not None}
    entry.finish()
    if len(recipients) != 1:
        entry.problems.append(f"{entry.where} must name exactly one of {', '.join(CHANNELS)}.")
        return None
    ((key, recipient),) = recipients.items()
    if problem := address_problem(key, recipient):
        entry.complain(key, f"{problem}.")
    return ChannelEntry(name, CHANNELS[key], recipient)


def _digest(section: Section) -> tuple[str, str]:
    at, timezone = section.text("at") or "08:00", section.text("timezone") or "UTC"
    section.finish()
    problems = [*alert_fields.time_of_day("at", at), *alert_fields.time_zone("timezone", timezone)]
    for field, problem in problems:
        section.complain(field, f"{problem}.")
    return at, timezone
