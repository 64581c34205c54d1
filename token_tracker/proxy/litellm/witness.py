"""What the child saw of one request beside LiteLLM's answer: failures, a success, who counted the tokens."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from token_tracker.proxy.litellm.report import Failure


@dataclass(slots=True)
class Witness:
    """`failures`: what the upstream said (filled in by the callback's failure hook); `was_served`: the upstream's last
    answer to a POST was a success; `has_counted`: LiteLLM put its own count where the upstream reported none."""

    failures: list[Failure] = field(default_factory=list)
    was_served: bool = False
    has_counted: bool = False


# The guard sets it; contexts are copied into LiteLLM's tasks, so all of a request's see the same object.
witness: ContextVar[Witness] = ContextVar("witness")


def watch() -> None:
    """Once, after LiteLLM was imported: neither fact is in anything that it hands out."""
    import httpx
    from litellm.litellm_core_utils.streaming_chunk_builder_utils import ChunkProcessor
    from litellm.responses import streaming_iterator

    send, count = httpx.AsyncClient._send_single_request, ChunkProcessor._calculate_usage_per_chunk
    estimate = streaming_iterator._estimate_usage_from_text

    async def sending(self: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
        response = await send(self, request)
        seen = witness.get(None)
        if seen is not None and request.method == "POST":
            seen.was_served = response.is_success
        return response

    def counting(self: ChunkProcessor, *arguments: Any, **named: Any) -> Any:
        found = count(self, *arguments, **named)
        if found["prompt_tokens"] is None or found["completion_tokens"] is None:
            _note_count()
        return found

    def estimating(*arguments: Any, **named: Any) -> Any:
        _note_count()
        return estimate(*arguments, **named)

    httpx.AsyncClient._send_single_request = sending  # type: ignore[method-assign]
    ChunkProcessor._calculate_usage_per_chunk = counting  # streams of chat completions, and what is made of them
    streaming_iterator._estimate_usage_from_text = estimating  # streams of an upstream that itself speaks Responses


def _note_count() -> None:
    if (seen := witness.get(None)) is not None:
        seen.has_counted = True
