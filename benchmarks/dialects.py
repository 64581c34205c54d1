"""What reading a call costs the gateway: µs per plain call and per stream chunk, for each dialect.

python -m benchmarks.dialects
"""

from __future__ import annotations

import json
import time
import timeit
from collections.abc import Callable

from token_tracker.proxy.dialects import ROUTES
from token_tracker.proxy.dialects.base import Dialect

MESSAGES = [{"role": "system", "content": "You are helpful."}, {"role": "user", "content": "Say hello. " * 20}]
CHAT = json.dumps({"model": "gpt-4o", "messages": MESSAGES, "temperature": 0.2, "max_tokens": 64, "user": "u-1"})
STREAMED = json.dumps({"model": "gpt-4o", "messages": MESSAGES, "stream": True}, separators=(",", ":"))
MEGABYTE = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "word " * 200_000}]})
CHAT_ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello there. " * 20}}],
        "usage": {
            "prompt_tokens": 1000,
            "completion_tokens": 50,
            "total_tokens": 1050,
            "prompt_tokens_details": {"cached_tokens": 800, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 0},
        },
    }
)
CHAT_CHUNK = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4o-2024-08-06",'
    b'"service_tier":"default","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"content":" Hello"},'
    b'"logprobs":null,"finish_reason":null}],"usage":null}\n\n'
)
MESSAGES_CHUNK = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta",'
    b'"text":" Hello"}}\n\n'
)
RESPONSES_CHUNK = (
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":5,'
    b'"item_id":"msg_1","output_index":0,"content_index":0,"delta":" Hello","logprobs":[]}\n\n'
)


def show(what: str, work: Callable[[], object], per: int = 1) -> None:
    timer = timeit.Timer(work, timer=time.process_time)  # of this process alone, whatever else runs
    count, _ = timer.autorange()
    best_s = min(timer.repeat(5, count)) / count / per
    print(f"{what:46} {best_s * 1e6:9.2f} µs")


def plain_call(dialect: Dialect, body: bytes, answer: bytes, model: str) -> Callable[[], object]:
    def work() -> None:
        request = dialect.read(body)
        dialect.outgoing(request, model=model, meter_stream=True)
        dialect.read_body(answer)

    return work


def stream(dialect: Dialect, chunks: list[bytes]) -> Callable[[], object]:
    request = dialect.read(STREAMED.encode())

    def work() -> None:
        observer = dialect.observer(request)
        for chunk in chunks:
            observer.feed(chunk)

    return work


def main() -> None:
    chat = ROUTES["/v1/chat/completions"].dialect
    answer = CHAT_ANSWER.encode()
    show("chat, plain call, model unchanged", plain_call(chat, CHAT.encode(), answer, "gpt-4o"))
    show("chat, plain call, model renamed", plain_call(chat, CHAT.encode(), answer, "other"))
    show("chat, streamed request, usage option put in", plain_call(chat, STREAMED.encode(), b"", "gpt-4o"))
    show("chat, a request of 1 MB, model renamed", plain_call(chat, MEGABYTE.encode(), b"", "other"))
    for path, chunk in (
        ("/v1/chat/completions", CHAT_CHUNK),
        ("/v1/messages", MESSAGES_CHUNK),
        ("/v1/responses", RESPONSES_CHUNK),
    ):
        dialect = ROUTES[path].dialect
        show(f"{path}, one event a chunk", stream(dialect, [chunk] * 100), per=100)
        show(f"{path}, an event in two chunks", stream(dialect, [chunk[:90], chunk[90:]] * 100), per=100)
        show(f"{path}, each of 100 events in one chunk", stream(dialect, [chunk * 100]), per=100)
        crlf = chunk.replace(b"\n", b"\r\n")
        show(f"{path}, one event a chunk, CRLF", stream(dialect, [crlf] * 100), per=100)


if __name__ == "__main__":
    main()
