"""Everything the page shows, read through `services` for one selection and within what the viewer may see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker.dashboard.ranges import RANGES, hour_label, slots
from token_tracker.database.models import ApiKey, User
from token_tracker.domain.access import Permission, Role, Scope, scope_of
from token_tracker.domain.usage import ERROR_REASONS, Usage
from token_tracker.services.usage import Filters, Sums, UsageRow, page, summarize

NEWEST_SHOWN = 25
DEFAULT_RANGE = "24h"
NO_NAME = "(none)"


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks, and how far they may see."""

    user: str
    role: Role
    scope: Scope


@dataclass(frozen=True, slots=True)
class Selection:
    """What the page's controls say; None: all. `zone` is the browser's."""

    range_name: str
    zone: str
    model: str | None = None
    user: str | None = None
    team: str | None = None
    key: str | None = None

    @classmethod
    def from_browser(cls, range_name: object, zone: object, *chosen: object) -> Selection:
        """What the controls hold, in the order of the fields; whatever no control of ours can hold is the default."""
        known = isinstance(range_name, str) and range_name in RANGES
        return cls(
            str(range_name) if known else DEFAULT_RANGE,
            zone if isinstance(zone, str) else "UTC",
            *(value if isinstance(value, str) and _is_storable(value) else None for value in chosen),
        )


def _is_storable(text: str) -> bool:
    """Whether a database can be asked for it: no NUL, no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


@dataclass(frozen=True, slots=True)
class Point:
    """One model's sums in one slot of time; `tokens` by the classes that the chart tells apart."""

    time: str
    model: str
    calls: int
    errors: int
    cost_nano_usd: int
    tokens: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ModelSums:
    model: str
    calls: int
    unpriced_calls: int
    cost_nano_usd: int


@dataclass(frozen=True, slots=True)
class Totals:
    calls: int
    attempts: int
    errors: int
    unpriced_calls: int
    cost_nano_usd: int
    prompt_tokens: int
    completion_tokens: int
    latency_p50_ms: float
    latency_p95_ms: float

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class NewestCall:
    """A row of the table. `model`: what was asked for → what it stood for. `cost_nano_usd` None: no price is known."""

    id: str
    time: str
    model: str
    user: str
    key_name: str
    prompt_tokens: int
    completion_tokens: int
    cost_nano_usd: int | None
    usage_source: str
    cost_source: str
    latency_ms: float
    end_reason: str
    status_code: int

    @property
    def is_error(self) -> bool:
        return self.end_reason in ERROR_REASONS


@dataclass(frozen=True, slots=True)
class Choice:
    """An entry of a filter's list, in the shape that Dash takes."""

    label: str
    value: str

    def as_option(self) -> dict[str, str]:
        return {"label": self.label, "value": self.value}


@dataclass(frozen=True, slots=True)
class Overview:
    """`times`: every slot of the range, also empty ones; `choices`: the options of each filter, in the page's order."""

    range_text: str
    updated_text: str
    times: Sequence[str]
    totals: Totals
    points: Sequence[Point]
    models: Sequence[ModelSums]
    newest: Sequence[NewestCall]
    choices: Sequence[list[dict[str, str]]]


def find_viewer(session: Session, user_id: str) -> Viewer | None:
    """The account behind a session; None if it is gone, disabled or may not read usage."""
    user = session.get(User, user_id)
    if user is None or user.disabled_at is not None:
        return None
    role = Role(user.role)
    scope = scope_of(role, Permission.USAGE_READ, user=user.id, team=user.team_id)
    return None if scope is None else Viewer(user.id, role, scope)


def load_overview(session: Session, viewer: Viewer, selection: Selection, *, at: datetime) -> Overview:
    """All figures of the page from one state of the database, so that they agree with each other."""
    zone = zone_or_utc(selection.zone)
    chosen = RANGES.get(selection.range_name, RANGES[DEFAULT_RANGE])
    range_slots = slots(chosen, zone, at)
    seen = Filters(start=range_slots.start, scope=viewer.scope)
    filters = Filters(
        start=range_slots.start,
        model=selection.model,
        user=selection.user,
        team=selection.team,
        key=selection.key,
        scope=viewer.scope,
    )
    summary = summarize(session, filters, groups=(chosen.slot, "model"), zone=zone)
    known = set(range_slots.times)
    points = [
        point for item in summary.items if (point := _point(item.groups, item.sums, chosen.slot, zone)).time in known
    ]
    key_names = _key_names(session)
    return Overview(
        range_text=f"{chosen.label}, times in {zone.key}",
        updated_text=at.astimezone(zone).strftime("%H:%M:%S"),
        times=range_slots.times,
        totals=_totals(summary.totals),
        points=points,
        models=_models(session, filters),
        newest=[_newest(row, key_names, zone) for row in page(session, filters, limit=NEWEST_SHOWN).items],
        choices=[_choices(session, seen, name, key_names) for name in ("model", "user", "team", "key")],
    )


def zone_or_utc(name: str) -> ZoneInfo:
    """The zone of that name; UTC where the browser sent something unknown."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def _point(groups: Sequence[str], sums: Sums, slot: str, zone: ZoneInfo) -> Point:
    time = hour_label(datetime.fromisoformat(groups[0]), zone) if slot == "hour" else groups[0]
    return Point(time, groups[1] or NO_NAME, sums.calls, sums.errors, sums.cost_nano_usd, _charted(sums.usage))


def _charted(usage: Usage) -> dict[str, int]:
    return {
        "input": usage.input_tokens + usage.input_audio_tokens + usage.input_image_tokens,
        "cache_read": usage.cache_read_tokens,
        "cache_write": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        "output": usage.output_tokens + usage.output_audio_tokens + usage.output_image_tokens,
        "reasoning": usage.reasoning_tokens,
    }


def _totals(sums: Sums) -> Totals:
    return Totals(
        sums.calls,
        sums.attempts,
        sums.errors,
        sums.unpriced_calls,
        sums.cost_nano_usd,
        sums.usage.prompt_tokens,
        sums.usage.completion_tokens,
        sums.latency_ms(0.5),
        sums.latency_ms(0.95),
    )


def _models(session: Session, filters: Filters) -> list[ModelSums]:
    items = summarize(session, filters, groups=("model",)).items
    return [
        ModelSums(item.groups[0] or NO_NAME, item.sums.calls, item.sums.unpriced_calls, item.sums.cost_nano_usd)
        for item in items
    ]


def _newest(row: UsageRow, key_names: Mapping[str, str], zone: ZoneInfo) -> NewestCall:
    return NewestCall(
        id=row.id,
        time=row.timestamp.astimezone(zone).strftime("%d %b %H:%M:%S"),
        model=row.model if row.requested_model == row.model else f"{row.requested_model} → {row.model}",
        user=row.user,
        key_name=key_names.get(row.key_id, row.key_id),
        prompt_tokens=row.usage.prompt_tokens,
        completion_tokens=row.usage.completion_tokens,
        cost_nano_usd=row.cost_nano_usd,
        usage_source=row.usage_source,
        cost_source=row.cost_source,
        latency_ms=row.latency_ms,
        end_reason=row.end_reason,
        status_code=row.status_code,
    )


def _key_names(session: Session) -> dict[str, str]:
    return {key_id: name for key_id, name in session.execute(select(ApiKey.id, ApiKey.name))}  # noqa: C416 (rows are typed, dict() of them is not)


def _choices(session: Session, seen: Filters, name: str, key_names: Mapping[str, str]) -> list[dict[str, str]]:
    """What occurs in the range, whatever the other filters say, so that one can always switch."""
    values = [item.groups[0] for item in summarize(session, seen, groups=(name,)).items if item.groups[0]]
    labels = key_names if name == "key" else {}
    return [Choice(labels.get(value, value), value).as_option() for value in values]
