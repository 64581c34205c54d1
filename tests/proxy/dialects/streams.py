"""Streams as the providers send them, written after their documentation, and ways to cut them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any

from token_tracker.proxy.dialects.base import Reading, StreamObserver


def chat_chunk(delta: dict[str, Any] | None, **more: Any) -> bytes:
    """A chunk of a chat completion; `delta` None: no choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]
    chunk = {"id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 1760000000, "model": "gpt-4o"}
    return data({**chunk, "choices": choices, **more})


def data(value: Any) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def event(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\n".encode() + data({"type": kind, **members})


CHAT_USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 50,
    "total_tokens": 1050,
    "prompt_tokens_details": {"cached_tokens": 800, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 0, "accepted_prediction_tokens": 0},
}
FINISH = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
CHAT_BODY = [
    chat_chunk({"role": "assistant", "content": "", "refusal": None}, usage=None),
    chat_chunk({"content": "Grüße, "}, usage=None),
    chat_chunk({"content": 'say "choices":[{ or [DONE]\n\n'}, usage=None),
    chat_chunk({}, choices=[FINISH], usage=None),
]
CHAT_USAGE_CHUNK = chat_chunk(None, usage=CHAT_USAGE)
DONE = b"data: [DONE]\n\n"
CHAT = [*CHAT_BODY, CHAT_USAGE_CHUNK, DONE]
CHAT_TEXT_BYTES = len('Grüße, say "choices":[{ or [DONE]\n\n'.encode())

MESSAGES_START = event(
    "message_start",
    message={
        "id": "msg_7",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [],
        "stop_reason": None,
        "usage": {
            "input_tokens": 100,
            "cache_creation_input_tokens": 700,
            "cache_read_input_tokens": 2000,
            "cache_creation": {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 400},
            "output_tokens": 1,
        },
    },
)
MESSAGES_END = [
    event("content_block_stop", index=0),
    event(
        "message_delta",
        delta={"stop_reason": "end_turn", "stop_sequence": None},
        usage={
            "input_tokens": 100,
            "cache_creation_input_tokens": 700,
            "cache_read_input_tokens": 2000,
            "output_tokens": 40,
        },
    ),
    event("message_stop"),
]
MESSAGES = [
    MESSAGES_START,
    event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    event("ping"),
    event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hello"}),
    event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm, event: message_stop"}),
    event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": ""}),
    *MESSAGES_END,
]

RESPONSES_USAGE = {
    "input_tokens": 1000,
    "input_tokens_details": {"cached_tokens": 800},
    "output_tokens": 50,
    "output_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 1050,
}


def response(status: str, usage: dict[str, Any] | None, error: Any = None) -> dict[str, Any]:
    return {"id": "resp_7", "object": "response", "status": status, "error": error, "model": "gpt-4o", "usage": usage}


RESPONSES = [
    event("response.created", sequence_number=0, response=response("in_progress", None)),
    event("response.in_progress", sequence_number=1, response=response("in_progress", None)),
    event("response.output_text.delta", sequence_number=2, item_id="m", delta="Hi ", logprobs=[]),
    event("response.output_text.delta", sequence_number=3, item_id="m", delta="you", logprobs=[]),
    event("response.output_text.done", sequence_number=4, item_id="m", text="Hi you"),
    event("response.completed", sequence_number=5, response=response("completed", RESPONSES_USAGE)),
]


def bytewise(stream: bytes) -> list[bytes]:
    return [stream[i : i + 1] for i in range(len(stream))]


def cut_at(stream: bytes, positions: Iterable[int]) -> list[bytes]:
    marks = [0, *sorted(positions), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(marks)]


def run(observer: StreamObserver, chunks: Sequence[bytes], is_clean: bool = True) -> tuple[bytes, bytes, Reading]:
    """What went out before the end, the end and all after it, and what was read."""
    before, after = b"", b""
    for chunk in chunks:
        cut = observer.feed(chunk)
        assert not (cut.forward and after), "nothing goes out at once after the end"
        before, after = before + cut.forward, after + cut.terminal
    cut = observer.close(is_clean)
    return before + cut.forward, after + cut.terminal, observer.reading
