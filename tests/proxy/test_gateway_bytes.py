"""What a predecessor got wrong in forwarding: the bytes of odd, large and many answers, and where each one's end is."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.proxy.house import KEY, House, wait_until
from tests.proxy.upstream import DONE, USAGE_EVENT, Out, Seen, Upstream, delta

# No decoder is installed and none was asked for; what is in it does not matter to anyone on the way.
ZSTD = bytes(range(256)) * 40
STREAMS = 60


@pytest.mark.parametrize("status", ["200 OK", "429 Too Many Requests"])
def test_a_zstd_answer_that_nobody_asked_for_passes_as_it_is_and_is_an_estimate(
    house: House, upstream: Upstream, status: str
) -> None:
    async def answer(seen: Seen, out: Out) -> None:
        await out.whole(ZSTD, "content-encoding: zstd", "retry-after: 9", status=status)

    upstream.answer = answer
    reply = house.chat(headers={"accept_encoding": "zstd, gzip;q=0.5"})
    assert upstream.seen[0].header(b"accept-encoding") == b"gzip;q=0.5", "only what can be metered is asked for"
    assert (reply.body, reply.headers["content-encoding"]) == (ZSTD, "zstd")
    assert (reply.headers["content-length"], reply.headers["retry-after"]) == (str(len(ZSTD)), "9")
    row = house.row()
    if status.startswith("200"):
        assert (row.end_reason, row.usage_source) == ("complete", "estimated")
        assert row.tokens[0] > 0 and row.cost_nano_usd
    else:
        assert (row.end_reason, row.usage_source, row.cost_nano_usd) == ("upstream_error", "none", 0)


def test_a_brotli_stream_passes_as_it_is_and_its_last_bytes_wait_for_the_row(house: House, upstream: Upstream) -> None:
    open_it, wait = upstream.gate()

    async def answer(seen: Seen, out: Out) -> None:
        await out.begin_stream("content-encoding: zstd")
        await out.chunk(ZSTD[:5000])
        await out.chunk(ZSTD[5000:])
        await wait()
        await out.end()

    upstream.answer = answer
    body = b'{"model":"gpt","messages":[{"role":"user","content":"Hello"}],"stream":true}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", house.port), timeout=10) as client:
        client.sendall(head.encode() + body)
        wait_until(lambda: upstream.seen, "the call")
        assert house.rows() == []
        open_it()
        seen = b""
        while not seen.endswith(b"0\r\n\r\n"):
            more = client.recv(65536)
            assert more
            seen += more
        assert len(house.rows()) == 1, "the row stands before the last bytes are there"
    assert b"content-encoding: zstd" in seen
    assert _dechunked(seen.partition(b"\r\n\r\n")[2]) == ZSTD
    row = house.row()
    assert (row.end_reason, row.usage_source) == ("complete", "estimated")


def test_a_brotli_stream_that_breaks_off_is_no_complete_call(house: House, upstream: Upstream) -> None:
    async def answer(seen: Seen, out: Out) -> None:
        await out.begin_stream("content-encoding: zstd")
        await out.chunk(ZSTD)
        raise ConnectionError

    upstream.answer = answer
    reply = house.chat(stream=True)
    assert reply.status == 502 or not reply.is_whole
    assert (house.row().end_reason, house.row().usage_source) == ("upstream_disconnect", "estimated")


def _dechunked(framed: bytes) -> bytes:
    body = b""
    while framed:
        size, _, framed = framed.partition(b"\r\n")
        body, framed = body + framed[: int(size, 16)], framed[int(size, 16) + 2 :]
    return body


def test_no_stream_waits_for_another_however_many_are_open(house: House, upstream: Upstream) -> None:
    everyone_is_here = threading.Barrier(STREAMS + 1, timeout=20)
    begun = 0

    async def answer(seen: Seen, out: Out) -> None:
        nonlocal begun
        await out.begin_stream()
        await out.chunk(delta("Hello"))
        begun += 1
        while begun < STREAMS:  # ends only once all others have begun, too
            await asyncio.sleep(0.01)
        await out.chunk(USAGE_EVENT + DONE)
        await out.end()

    def call(_: int) -> bool:
        everyone_is_here.wait()
        return house.chat(stream=True).body.endswith(DONE)

    upstream.answer = answer
    with ThreadPoolExecutor(STREAMS) as pool:
        replies = pool.map(call, range(STREAMS))
        everyone_is_here.wait()
        assert all(replies)
    wait_until(lambda: len(house.rows()) == STREAMS, "all rows")
    assert {row.end_reason for row in house.rows()} == {"complete"}


def test_the_values_of_a_large_body_reach_the_upstream_byte_for_byte_although_the_model_is_changed(
    house: House, upstream: Upstream
) -> None:
    text = json.dumps("\u00fc\u2028 \ud83d\ude00 " * 20_000)  # escaped as no serialiser of ours would repeat it
    messages = b'[{ "role":"user",\t"content":%s} ]' % text.encode()
    body = b'{ "temperature" : 1.00e0,"messages":%s,\n "model":"gpt", "n":1}' % messages
    assert 500_000 < len(body) < house.settings.max_body_bytes
    assert house.call(body).status == 200
    sent = b'{"temperature":1.00e0,"messages":%s,"model":"upstream-name","n":1}' % messages
    assert upstream.seen[0].body == sent
