"""What the API takes and answers about usage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct, field

from token_tracker.api.schemas import Cursor, Input, Limit, Time
from token_tracker.domain.access import Scope
from token_tracker.domain.pricing import CostSource
from token_tracker.domain.problems import Invalid
from token_tracker.domain.usage import EndReason, UsageSource
from token_tracker.services import usage
from token_tracker.services.usage import GROUPS, MAX_GROUPS_AT_ONCE, Filters, Sums, TokenUsageRow

Text = Annotated[str, Meta(max_length=255, description="equal to this; empty: rows that have none")]
_FILTERS = tuple(name for name in Filters.__dataclass_fields__ if name != "scope")


class UsageFilters(Input, frozen=True):
    """Rows of `start` <= timestamp < `end` that equal everything given."""

    start: Time | None = None
    end: Time | None = None
    model: Text | None = None
    provider: Text | None = None
    user: Text | None = None
    team: Text | None = None
    key: Annotated[str, Meta(max_length=255, description="a key's id")] | None = None
    agent: Text | None = None
    session: Text | None = None
    end_user: Text | None = None
    tag: Text | None = None
    status: Annotated[int, Meta(ge=0, le=999, description="HTTP status")] | None = None
    end_reason: EndReason | None = None
    usage_source: UsageSource | None = None
    cost_source: CostSource | None = None
    lane: Literal["direct", "litellm", "ingest"] | None = None

    def within(self, scope: Scope) -> Filters:
        """The same for the service, narrowed to `scope`. Raises Invalid."""
        if self.start is not None and self.end is not None and self.end < self.start:
            raise Invalid([("end", "is before start")])
        return Filters(**{name: getattr(self, name) for name in _FILTERS}, scope=scope)


class RollupQuery(Input, frozen=True):
    """What the hourly sums know; `start` and `end` count by whole hours."""

    start: Time | None = None
    end: Time | None = None
    model: Text | None = None
    provider: Text | None = None
    user: Text | None = None
    team: Text | None = None
    key: Annotated[str, Meta(max_length=255, description="a key's id")] | None = None
    agent: Text | None = None

    def within(self, scope: Scope) -> Filters:
        """The same for the service, narrowed to `scope`. Raises Invalid."""
        if self.start is not None and self.end is not None and self.end < self.start:
            raise Invalid([("end", "is before start")])
        return Filters(**{name: getattr(self, name) for name in self.__struct_fields__}, scope=scope)


class UsageQuery(UsageFilters, frozen=True):
    """`format` csv or jsonl streams all rows, or as many as `limit` says."""

    limit: Limit | None = None
    cursor: Cursor | None = None
    format: Literal["json", "csv", "jsonl"] = "json"


class SummaryQuery(UsageFilters, frozen=True):
    group_by: Annotated[str, Meta(max_length=200, description=f"at most 3 of {', '.join(GROUPS)}; with commas")] = ""
    timezone: Annotated[str, Meta(max_length=64, description="IANA name, for days and months")] = "UTC"

    def groups(self) -> tuple[str, ...]:
        """Raises Invalid."""
        names = tuple(name.strip() for name in self.group_by.split(",")) if self.group_by else ()
        unknown = [name for name in names if name not in GROUPS]
        if unknown:
            raise Invalid([("group_by", f"'{unknown[0]}' is not one of {', '.join(GROUPS)}")])
        if len(names) > MAX_GROUPS_AT_ONCE or len(set(names)) < len(names):
            raise Invalid([("group_by", f"takes at most {MAX_GROUPS_AT_ONCE} different groups")])
        return names

    def zone(self) -> ZoneInfo:
        """Raises Invalid."""
        try:
            return ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):
            message = f"'{self.timezone}' is not a time zone; write an IANA name such as Europe/Berlin"
            raise Invalid([("timezone", message)]) from None


class UsagePage(Struct, frozen=True):
    items: list[TokenUsageRow]
    next_cursor: str | None


class Latency(Struct, frozen=True):
    """From 24 log-spaced counters: at most a factor of 1.75 from the truth."""

    p50: float
    p95: float
    p99: float


class Totals(Struct, frozen=True, kw_only=True):
    """`calls`, `errors`, `unpriced_calls` and latencies count calls; tokens and cost are of all attempts.

    `cost_usd` leaves unpriced attempts out.
    """

    calls: int
    attempts: int
    errors: int
    unpriced_calls: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    input_audio_tokens: int
    input_image_tokens: int
    output_tokens: int
    reasoning_tokens: int
    output_audio_tokens: int
    output_image_tokens: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost_usd: str
    latency_ms: Latency


class SummaryItem(Totals, frozen=True, kw_only=True, omit_defaults=True):
    """With the groups asked for, and no others; '' stands for rows that have none."""

    hour: str | None = None
    day: str | None = None
    month: str | None = None
    model: str | None = None
    provider: str | None = None
    user: str | None = None
    team: str | None = None
    key: str | None = None
    agent: str | None = None
    session: str | None = None
    end_user: str | None = None
    tag: str | None = None


class Summary(Struct, frozen=True):
    """`missing_before`: rows before this time were needed and are no longer kept; null: nothing is missing."""

    items: list[SummaryItem]
    totals: Totals
    missing_before: str | None = field(default=None)


def totals(sums: Sums) -> Totals:
    return Totals(**_sums_fields(sums))


def summary_item(groups: Sequence[str], item: usage.SummaryItem) -> SummaryItem:
    """`groups` are the names of `item.groups`."""
    return SummaryItem(**_sums_fields(item.sums), **dict[str, Any](zip(groups, item.groups, strict=True)))


def _sums_fields(sums: Sums) -> dict[str, Any]:
    document = usage.sums_document(sums)
    document["latency_ms"] = Latency(**document["latency_ms"])
    return document
