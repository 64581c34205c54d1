"""What the API takes and answers about alert rules and mutes."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType, field

from token_tracker.api.schemas import MAX_WHOLE, Input, Time, given
from token_tracker.database.models import AlertEpisode, AlertMute, AlertRule
from token_tracker.domain.alert_fields import MOST_COOLDOWN_S
from token_tracker.domain.alert_kinds import KINDS
from token_tracker.services.usage import format_time

Text = Annotated[str, Meta(max_length=64)]
_Number = Meta(ge=-MAX_WHOLE, le=MAX_WHOLE)
Threshold = Annotated[float, _Number] | Annotated[int, _Number] | Text


class QuietHours(Struct, frozen=True, forbid_unknown_fields=True):
    """By the zone's clocks, as '22:00'; over midnight where `to` is the earlier one."""

    from_: Annotated[str, Meta(max_length=5)] = field(name="from")
    to: Annotated[str, Meta(max_length=5)]
    timezone: Annotated[str, Meta(max_length=64)] = "UTC"


class RuleChange(Input, frozen=True):
    """What is left out stays. `kind`: what is watched; `thresholds` in its unit; `subject`: one budget, model, key …
    by its id, null for all; `channels`: 'email' (NOTIFICATION_EMAIL) and those of alerts.channels."""

    name: Annotated[str, Meta(max_length=100)] | UnsetType = UNSET
    kind: Annotated[str, Meta(max_length=32)] | UnsetType = UNSET
    subject: Annotated[str, Meta(max_length=255)] | UnsetType | None = UNSET
    thresholds: Annotated[list[Threshold], Meta(max_length=20)] | UnsetType = UNSET
    options: Annotated[dict[Text, Annotated[int, _Number] | Text], Meta(max_length=20)] | UnsetType = UNSET
    severity: Annotated[str, Meta(max_length=16)] | UnsetType = UNSET
    cooldown_s: Annotated[int, Meta(ge=0, le=MOST_COOLDOWN_S)] | UnsetType = UNSET
    quiet_hours: QuietHours | UnsetType | None = UNSET
    channels: Annotated[list[Text], Meta(max_length=20)] | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET

    def fields(self) -> dict[str, Any]:
        """As the service takes them."""
        fields = given(self)
        if isinstance(quiet := fields.get("quiet_hours"), QuietHours):
            fields["quiet_hours"] = {"from": quiet.from_, "to": quiet.to, "timezone": quiet.timezone}
        return fields


class RuleSave(RuleChange, frozen=True, kw_only=True):
    """What is left out is as the kind has it."""

    name: Annotated[str, Meta(max_length=100)]
    kind: Annotated[str, Meta(max_length=32)]


class Firing(Struct, frozen=True):
    """`subject`: what the rule fires for, and its `name`. `threshold`: the farthest that was passed; `since`: when it
    began."""

    rule_id: str
    rule: str
    kind: str
    severity: str
    subject: str
    name: str
    threshold: float
    since: str


class FiringList(Struct, frozen=True):
    items: list[Firing]


class RuleShown(Struct, frozen=True, kw_only=True):
    """`source` config: of proxy.yaml, or there without configuration; changed in the file. `unit`: of thresholds.
    `warnings`: why it reaches nobody, and what to do."""

    id: str
    name: str
    kind: str
    subject: str | None
    thresholds: list[float]
    unit: str
    options: dict[str, Any]
    severity: str
    cooldown_s: int
    quiet_hours: QuietHours | None
    channels: list[str]
    enabled: bool
    source: str
    warnings: list[str]
    created_at: str
    updated_at: str | None


class RulePage(Struct, frozen=True):
    items: list[RuleShown]
    next_cursor: str | None


class MuteSave(Input, frozen=True):
    """`rule`: an id or a name; left out: all rules, and budgets' own thresholds. `subject`: as deliveries name it."""

    until: Time
    rule: Annotated[str, Meta(max_length=100)] | None = None
    subject: Annotated[str, Meta(max_length=300)] | None = None
    reason: Annotated[str, Meta(max_length=500)] = ""


class MuteShown(Struct, frozen=True):
    id: str
    rule_id: str | None
    subject: str | None
    until: str
    reason: str
    created_at: str
    created_by: str


class MutePage(Struct, frozen=True):
    items: list[MuteShown]
    next_cursor: str | None


def rule_shown(rule: AlertRule, warnings: list[str]) -> RuleShown:
    quiet = rule.quiet_hours
    return RuleShown(
        id=rule.id,
        name=rule.name,
        kind=rule.kind,
        subject=rule.subject or None,
        thresholds=[float(each) for each in rule.thresholds],
        unit=KINDS[rule.kind].unit,
        options=rule.options,
        severity=rule.severity,
        cooldown_s=rule.cooldown_s,
        quiet_hours=None if quiet is None else QuietHours(quiet["from"], quiet["to"], quiet["timezone"]),
        channels=rule.channels,
        enabled=rule.enabled,
        source=rule.source,
        warnings=warnings,
        created_at=format_time(rule.created_at),
        updated_at=format_time(rule.updated_at) if rule.updated_at else None,
    )


def firing_shown(rule: AlertRule, episode: AlertEpisode, name: str) -> Firing:
    since = format_time(episode.since) if episode.since else ""
    about = (rule.id, rule.name, rule.kind, rule.severity, episode.subject, name)
    return Firing(*about, float(episode.threshold), since)


def mute_shown(mute: AlertMute) -> MuteShown:
    return MuteShown(
        mute.id,
        mute.rule_id,
        mute.subject or None,
        format_time(mute.until),
        mute.reason,
        format_time(mute.created_at),
        mute.created_by,
    )
