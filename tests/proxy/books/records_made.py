"""Records for tests, as a gateway worker would write them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from msgspec import structs

from token_tracker.proxy.books.journal import Journal
from token_tracker.proxy.books.records import End, Open, Subject

NODE = "0badcafe"
NOON = datetime(2026, 3, 14, 12, 30, tzinfo=UTC)
SUBJECT = Subject("key_1", "alice", "blue", "", "s-1", "eu-9", ("red", "green"), '{"a":"b"}')


def an_open(number: int, *, lane: str = "direct", subject: Subject = SUBJECT) -> Open:
    return Open(
        id=f"{number:032x}",
        call_id=f"{number:032x}",
        attempt=1,
        timestamp_us=int(NOON.timestamp()) * 1_000_000 + number,
        endpoint="/v1/chat/completions",
        lane=lane,
        stream=True,
        requested_model="fast",
        model="gpt-4o",
        provider="openai",
        subject=subject,
    )


def an_end(opened: Open, *, cost_nano_usd: int | None = 1_500) -> End:
    """120 tokens: 100 fresh, 5 read from the cache, 15 out."""
    return End(
        opened=opened,
        end_reason="complete",
        status_code=200,
        tokens=(100, 5, 0, 0, 0, 0, 15, 0, 0, 0),
        usage_source="provider",
        cost_nano_usd=cost_nano_usd,
        cost_source="unpriced" if cost_nano_usd is None else "priced",
        price_version="file:gpt-4o@1a2b3c4d",
        latency_ms=850.5,
        ttft_ms=120.25,
        upstream_id="chatcmpl-1",
        upstream_request_id="req_1",
    )


def largest_end(number: int, *, lane: str = "litellm") -> End:
    """What the gateway's bounds allow at most: every text full of characters of four bytes."""
    subject = Subject("k" * 40, "u" * 64, "t" * 64, "🦉" * 200, "🦉" * 255, "🦉" * 255, ("🦉" * 128,) * 32, "x" * 4096)
    opened = structs.replace(
        an_open(number, lane=lane, subject=subject), requested_model="🦉" * 255, model="🦉" * 255, provider="🦉" * 64
    )
    return structs.replace(
        an_end(opened),
        end_reason="upstream_disconnect",
        usage_source="provider_partial",
        tokens=(2**63,) * 10,
        cost_nano_usd=2**62,
        price_version="🦉" * 300,
        upstream_id="🦉" * 255,
        upstream_request_id="🦉" * 255,
        request_bytes=2**40,
        response_bytes=2**40,
    )


def write_calls(journal: Journal, numbers: range) -> list[End]:
    """Calls that were opened and ended."""
    ends = [an_end(an_open(number)) for number in numbers]
    for end in ends:
        journal.open(end.opened)
        journal.end(end)
    return ends


def a_journal(directory: Path, **options: int) -> Journal:
    return Journal(directory, NODE, 5, **options)
