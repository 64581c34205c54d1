"""Usage that was metered elsewhere: the shape of one event, its bounds, and the ledger row that it becomes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from token_tracker.domain.money import to_nano_usd
from token_tracker.domain.pricing import Choice, Cost, CostSource, cost_of
from token_tracker.domain.usage import NO_USAGE, TOKEN_CLASSES, EndReason, Usage, UsageSource
from token_tracker.proxy.books.records import End, Open, Subject
from token_tracker.proxy.call import PROVIDER_CHARACTERS, no_cost, uncounted_cost
from token_tracker.proxy.dialects.counts import MAX_COUNT, inclusive_usage
from token_tracker.proxy.subject import AGENT_CHARACTERS, METADATA_BYTES, NAME_CHARACTERS, TAG_CHARACTERS, TAGS, clean

PATH = "/v1/usage/events"
LANE = "ingest"
DAYS_BACK = 90
FUTURE = timedelta(minutes=10)
USER_CHARACTERS = 64
_MAX_USD = Decimal(1_000_000)
_MAX_MS = 7 * 24 * 3600 * 1000
_USD = re.compile(r"\d{1,9}(\.\d{1,30})?([eE][+-]?\d{1,2})?")
_REASON_CHARACTERS = 300
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CONTENT = (
    "messages message prompt prompts input inputs content contents text system instructions choices completion "
    "completions output outputs response responses request body tools tool_calls image images audio file files"
)
CONTENT_FIELDS = frozenset(_CONTENT.split())

Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARACTERS)]
Label = Annotated[str, Meta(max_length=NAME_CHARACTERS)]
Milliseconds = Annotated[float, Meta(ge=0, le=_MAX_MS)]
Scalar = str | int | float | bool | None


class Rejected(Exception):
    """An event that is not taken; the text says why, and quotes nothing of its content."""


class Event(Struct, frozen=True, forbid_unknown_fields=True):
    """One event as its sender writes it. Token counts either in the ledger's disjoint classes or inclusive as in
    OpenAI's usage, never both. `cost_usd`: a decimal string or a JSON number, both read by their text."""

    id: Name
    timestamp: Annotated[datetime, Meta(tz=True)]
    model: Name
    provider: Annotated[str, Meta(min_length=1, max_length=PROVIDER_CHARACTERS)]
    input_tokens: Count | UnsetType = UNSET
    cache_read_tokens: Count | UnsetType = UNSET
    cache_write_5m_tokens: Count | UnsetType = UNSET
    cache_write_1h_tokens: Count | UnsetType = UNSET
    input_audio_tokens: Count | UnsetType = UNSET
    input_image_tokens: Count | UnsetType = UNSET
    output_tokens: Count | UnsetType = UNSET
    reasoning_tokens: Count | UnsetType = UNSET
    output_audio_tokens: Count | UnsetType = UNSET
    output_image_tokens: Count | UnsetType = UNSET
    prompt_tokens: Count | UnsetType = UNSET
    completion_tokens: Count | UnsetType = UNSET
    total_tokens: Count | UnsetType = UNSET
    prompt_tokens_details: dict[str, Any] | None = None
    completion_tokens_details: dict[str, Any] | None = None
    usage_source: Literal["provider", "provider_partial", "estimated", "none"] = "provider"
    cost_usd: msgspec.Raw = msgspec.Raw(b"null")
    cost_source: Literal["provider", "litellm"] = "provider"
    user: Label = ""
    agent: Annotated[str, Meta(max_length=AGENT_CHARACTERS)] = ""
    session: Label = ""
    end_user: Label = ""
    tags: Annotated[tuple[Annotated[str, Meta(max_length=TAG_CHARACTERS)], ...], Meta(max_length=TAGS)] = ()
    metadata: dict[str, Scalar] | None = None
    requested_model: Label = ""
    endpoint: Annotated[str, Meta(min_length=1, max_length=64)] = PATH
    stream: bool = False
    status_code: Annotated[int, Meta(ge=100, le=599)] = 200
    end_reason: Literal["complete", "client_disconnect", "upstream_error", "upstream_disconnect", "timeout"] | None = (
        None
    )
    latency_ms: Milliseconds = 0.0
    ttft_ms: Milliseconds | None = None
    upstream_id: Label = ""


@dataclass(frozen=True, slots=True)
class Known:
    """What reads true of an event: its usage (None: nobody counted) and the cost its sender names (None: none)."""

    event: Event
    usage: Usage | None
    cost_usd: Decimal | None
    timestamp_us: int
    metadata: str


_decoder = msgspec.json.Decoder(Event)
_DISJOINT = TOKEN_CLASSES
_INCLUSIVE = ("prompt_tokens", "completion_tokens", "total_tokens")


def read_event(raw: bytes | msgspec.Raw, now: datetime, days_back: int = DAYS_BACK) -> Known:
    """One event of a request. Raises Rejected."""
    try:
        event = _decoder.decode(raw)
    except (msgspec.ValidationError, msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Rejected(_reason(str(error))) from None
    usage = _usage(event)
    cost_usd = _cost_usd(bytes(event.cost_usd))
    if usage is None and cost_usd is None and event.status_code < 400 and event.usage_source != "none":
        raise Rejected("neither token counts nor cost_usd: nothing to book (usage_source 'none' says so on purpose)")
    if usage is not None and event.usage_source == "none":
        raise Rejected("usage_source 'none' with token counts")
    return Known(event, usage, cost_usd, _timestamp_us(event.timestamp, now, days_back), _metadata(event.metadata))


def event_id(raw: bytes | msgspec.Raw) -> str | None:
    """The id to answer a rejected event with; None where it has none that could be repeated."""
    try:
        return msgspec.json.decode(raw, type=_OnlyId).id
    except (msgspec.ValidationError, msgspec.DecodeError, ValueError, RecursionError):
        return None


class _OnlyId(Struct):
    id: Name


def ledger_id(namespace: str, event: str) -> str:
    """The row's id: the same event of the same team is the same row, and no team can name another's."""
    return "ev_" + hashlib.sha256(f"{namespace}\0{event}".encode("utf-8", "replace")).hexdigest()[:32]


def end_record(known: Known, subject: Subject, row_id: str, price: Choice) -> End:
    """The row of an event, on the sender's word; `lane` tells such rows from what the gateway saw itself."""
    event = known.event
    opened = Open(
        id=row_id,
        call_id=row_id,
        attempt=1,
        timestamp_us=known.timestamp_us,
        endpoint=clean(event.endpoint, 64),
        lane=LANE,
        stream=event.stream,
        requested_model=clean(event.requested_model or event.model, NAME_CHARACTERS),
        model=clean(event.model, NAME_CHARACTERS),
        provider=clean(event.provider, PROVIDER_CHARACTERS),
        subject=subject,
    )
    reason = event.end_reason or (EndReason.UPSTREAM_ERROR if event.status_code >= 400 else EndReason.COMPLETE).value
    cost = cost_of_event(known, price, is_refusal=reason == EndReason.UPSTREAM_ERROR)
    return End(
        opened=opened,
        end_reason=reason,
        status_code=event.status_code,
        tokens=known.usage or NO_USAGE,
        usage_source=UsageSource.NONE.value if known.usage is None else event.usage_source,
        cost_nano_usd=cost.nano_usd,
        cost_source=cost.source.value,
        price_version=cost.version,
        latency_ms=event.latency_ms,
        ttft_ms=event.ttft_ms,
        upstream_id=clean(event.upstream_id, NAME_CHARACTERS),
        upstream_request_id=clean(event.id, NAME_CHARACTERS),
    )


def cost_of_event(known: Known, price: Choice, *, is_refusal: bool) -> Cost:
    """Our price first, for it is dated and exact; then the cost that the sender names; then 0 for what nobody bills.

    What nobody counted costs 0 only where the provider refused it; a call that broke may have been billed."""
    if known.usage is None and known.cost_usd is None:
        return no_cost(price) if is_refusal else uncounted_cost(price)
    if known.usage is not None and price.cost_source is CostSource.PRICED:
        ours = cost_of(known.usage, price)
        if ours.nano_usd is not None:
            return ours
    if known.cost_usd is not None:
        return Cost(to_nano_usd(known.cost_usd), CostSource(known.event.cost_source))
    return Cost(0, CostSource.LOCAL) if price.cost_source is CostSource.LOCAL else Cost(None, CostSource.UNPRICED)


def _usage(event: Event) -> Usage | None:
    disjoint = _given(event, _DISJOINT)
    inclusive: dict[str, Any] = dict(_given(event, _INCLUSIVE))
    details = {
        name: value
        for name in ("prompt_tokens_details", "completion_tokens_details")
        if (value := getattr(event, name)) is not None
    }
    if disjoint and (inclusive or details):
        raise Rejected("token counts come either in disjoint classes or as prompt_tokens/completion_tokens, not both")
    if details and not inclusive:
        raise Rejected("details without prompt_tokens or completion_tokens")
    if inclusive:
        return inclusive_usage(inclusive | details)
    return Usage(**disjoint) if disjoint else None


def _given(event: Event, names: tuple[str, ...]) -> Mapping[str, int]:
    return {name: value for name in names if (value := getattr(event, name)) is not UNSET}


def _cost_usd(raw: bytes) -> Decimal | None:
    text = raw.decode("utf-8", "replace").strip()
    if text == "null":
        return None
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if not _USD.fullmatch(text) or (cost := Decimal(text)) > _MAX_USD:
        raise Rejected("cost_usd is not a decimal number of US dollars from 0 to 1000000")
    return cost


def _timestamp_us(at: datetime, now: datetime, days_back: int) -> int:
    """Unix microseconds. Raises Rejected for what lies beyond the window that events are taken from."""
    if at > now + FUTURE:
        raise Rejected(f"timestamp is more than {FUTURE.seconds // 60} minutes in the future; check the sender's clock")
    if at < now - timedelta(days=days_back):
        raise Rejected(f"timestamp is more than {days_back} days in the past")
    return (at - _EPOCH) // timedelta(microseconds=1)


def _metadata(metadata: dict[str, Scalar] | None) -> str:
    if not metadata:
        return ""
    text = msgspec.json.encode(metadata)
    if len(text) > METADATA_BYTES:
        raise Rejected(f"metadata is larger than {METADATA_BYTES} bytes")
    if b"\\u0000" in text:
        raise Rejected("metadata contains a NUL character")
    return text.decode()


def _reason(text: str) -> str:
    """msgspec's words, with the field; for content, why it is refused."""
    named = re.search(r"unknown field `([^`]*)`", text)
    if named and named.group(1) in CONTENT_FIELDS:
        return f"'{named.group(1)}' is content: events carry counts and names, never prompts or answers"
    return text[:_REASON_CHARACTERS]
