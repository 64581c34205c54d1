"""Every way a call can end: what the client sees, what the upstream sees, and the one row."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.proxy.conftest import MakeHouse
from tests.proxy.house import KEY, House, wait_until
from tests.proxy.upstream import COMPLETION, DONE, USAGE_EVENT, Out, Seen, Upstream, delta
from token_tracker.config.values import GatewayOptions

BODY = json.dumps(COMPLETION).encode()
CLOSED_PORT = "http://127.0.0.1:9/v1"


def connect(house: House, **fields: Any) -> socket.socket:
    """A client that sent a call and has not read anything yet."""
    body = json.dumps({"model": "gpt", "messages": [{"role": "user", "content": "Hello"}], **fields}).encode()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(10)
    client.connect(("127.0.0.1", house.port))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    client.sendall(head.encode() + body)
    return client


def read_until(client: socket.socket, mark: bytes) -> bytes:
    seen = b""
    while mark not in seen:
        more = client.recv(65536)
        assert more, seen
        seen += more
    return seen


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_an_upstream_that_cannot_be_reached_is_502_and_a_row_without_usage(
    make_house: MakeHouse, caplog: pytest.LogCaptureFixture
) -> None:
    house = make_house()
    house.configuration.models.exact["dead"] = (house.deployment("dead", api_base=CLOSED_PORT),)  # type: ignore[index]
    reply = house.chat("dead")
    assert (reply.status, reply.headers["x-tt-code"]) == (502, "upstream_unreachable")
    assert "it refused the connection" in reply.json["error"]["message"]
    assert "dead (openai at 127.0.0.1) cannot be reached: it refused the connection" in caplog.text
    row = house.row()
    assert (row.status_code, row.end_reason, row.usage_source, row.cost_nano_usd) == (502, "upstream_error", "none", 0)


@pytest.fixture
def unanswered() -> Iterator[str]:
    """The base URL of a listener whose queue is full: it answers no handshake."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield f"http://127.0.0.1:{full.getsockname()[1]}/v1"


def test_a_connection_that_never_comes_about_is_given_up_and_costs_nothing(
    make_house: MakeHouse, unanswered: str
) -> None:
    house = make_house(options=GatewayOptions(connect_timeout_s=0.3))
    house.configuration.models.exact["far"] = (house.deployment("far", api_base=unanswered),)  # type: ignore[index]
    reply = house.chat("far")
    assert (reply.status, reply.headers["x-tt-code"]) == (502, "upstream_unreachable")
    assert "connecting took too long" in reply.json["error"]["message"]
    row = house.row()
    assert (row.end_reason, row.usage_source, row.cost_nano_usd) == ("upstream_error", "none", 0)


def test_a_client_that_leaves_before_anything_was_sent_costs_nothing(make_house: MakeHouse, unanswered: str) -> None:
    house = make_house()
    house.configuration.models.exact["gpt"] = (house.deployment("gpt", api_base=unanswered),)  # type: ignore[index]
    client = connect(house)
    wait_until(house.records, "the open record")
    reset(client)
    row = house.row()
    assert (row.end_reason, row.status_code, row.usage_source, row.cost_nano_usd) == ("cancelled", 0, "none", 0)


@pytest.mark.parametrize("is_stream", [False, True])
def test_an_upstream_that_says_nothing_is_504_and_may_have_been_billed(
    make_house: MakeHouse, upstream: Upstream, is_stream: bool
) -> None:
    async def silent(seen: Seen, out: Out) -> None:
        await asyncio.to_thread(seen.left.wait, 10)

    upstream.answer = silent
    house = make_house(options=GatewayOptions(first_byte_timeout_s=0.3))
    reply = house.chat(stream=is_stream)
    assert (reply.status, reply.headers["x-tt-code"]) == (504, "upstream_timeout")
    row = house.row()
    assert (row.status_code, row.end_reason, row.usage_source) == (504, "timeout", "estimated")
    assert row.tokens[0] > 0 and row.cost_nano_usd
    assert upstream.seen[0].left.wait(5)


def test_a_deployments_own_time_outs_come_before_the_gateways(make_house: MakeHouse, upstream: Upstream) -> None:
    async def silent(seen: Seen, out: Out) -> None:
        await asyncio.to_thread(seen.left.wait, 10)

    upstream.answer = silent
    house = make_house()
    hasty = house.deployment("hasty", first_byte_timeout_s=0.2)
    house.configuration.models.exact["hasty"] = (hasty,)  # type: ignore[index]
    began = time.monotonic()
    assert house.chat("hasty").status == 504
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_stream_that_dies_breaks_the_client_visibly(house: House, upstream: Upstream, how: str) -> None:
    async def dying(seen: Seen, out: Out) -> None:
        await out.begin_stream()
        await out.chunk(delta("Hello my friend"))
        await asyncio.to_thread(_first_row_or_client, house)
        if how == "reset":
            out.reset()
        raise ConnectionError  # the connection is closed without the last chunk

    upstream.answer = dying
    reply = house.chat(stream=True)
    assert reply.status == 200 and not reply.is_whole
    assert reply.body == delta("Hello my friend")
    row = house.row()
    assert (row.status_code, row.end_reason, row.usage_source) == (200, "upstream_disconnect", "estimated")
    assert row.tokens[6] == 4  # 15 bytes seen, 4 to a token


def _first_row_or_client(house: House) -> None:
    wait_until(lambda: len(house.records()) == 1, "the open record")
    time.sleep(0.05)  # lets the first event travel; nothing depends on it but the body's completeness


def test_a_json_answer_that_breaks_off_is_502_and_says_that_it_may_have_been_billed(
    house: House, upstream: Upstream
) -> None:
    async def dying(seen: Seen, out: Out) -> None:
        await out.head("200 OK", "content-type: application/json", "content-length: 9999")
        await out.raw(b'{"id": "x"')
        raise ConnectionError

    upstream.answer = dying
    reply = house.chat()
    assert (reply.status, reply.headers["x-tt-code"]) == (502, "upstream_unreachable")
    assert "may have been billed" in reply.json["error"]["message"]
    assert (house.row().end_reason, house.row().status_code) == ("upstream_disconnect", 200)


def test_a_connection_closed_before_any_answer_is_502_and_estimated(house: House, upstream: Upstream) -> None:
    async def dying(seen: Seen, out: Out) -> None:
        raise ConnectionError

    upstream.answer = dying
    assert house.chat().status == 502
    row = house.row()
    assert (row.end_reason, row.status_code, row.usage_source) == ("upstream_disconnect", 502, "estimated")
    assert len(upstream.seen) == 1  # not tried again: it may have been billed


def test_a_stream_that_ends_cleanly_before_its_end_is_no_complete_call(house: House, upstream: Upstream) -> None:
    async def short(seen: Seen, out: Out) -> None:
        await out.begin_stream()
        await out.chunk(delta("Hello"))
        await out.end()

    upstream.answer = short
    reply = house.chat(stream=True)
    assert reply.is_whole and reply.body == delta("Hello")
    assert (house.row().end_reason, house.row().usage_source) == ("upstream_disconnect", "estimated")


def test_a_stream_that_falls_silent_is_cut_and_booked(make_house: MakeHouse, upstream: Upstream) -> None:
    async def stalls(seen: Seen, out: Out) -> None:
        await out.begin_stream()
        await out.chunk(delta("Hello"))
        await asyncio.to_thread(seen.left.wait, 10)

    upstream.answer = stalls
    house = make_house(options=GatewayOptions(idle_timeout_s=0.3))
    reply = house.chat(stream=True)
    assert not reply.is_whole
    assert (house.row().end_reason, house.row().usage_source) == ("timeout", "estimated")
    assert upstream.seen[0].left.wait(5)


def test_an_error_event_inside_a_stream_is_an_upstreams_error(house: House, upstream: Upstream) -> None:
    async def failing(seen: Seen, out: Out) -> None:
        await out.begin_stream()
        await out.chunk(b'data: {"error": {"message": "overloaded"}}\n\n')
        await out.end()

    upstream.answer = failing
    assert house.chat(stream=True).status == 200
    row = house.row()
    assert (row.end_reason, row.usage_source, row.cost_nano_usd) == ("upstream_error", "none", 0)


def test_a_client_that_leaves_mid_stream_is_drained_to_the_providers_own_count(
    house: House, upstream: Upstream
) -> None:
    open_it, wait = upstream.gate()

    async def slow(seen: Seen, out: Out) -> None:
        await out.begin_stream()
        await out.chunk(delta("Hello"))
        await wait()
        await out.chunk(delta(" there") + USAGE_EVENT + DONE)
        await out.end()

    upstream.answer = slow
    client = connect(house, stream=True)
    read_until(client, b"Hello")
    reset(client)
    wait_until(lambda: house.app and house.app.floor.drains == 1, "the drain")
    open_it()
    row = house.row()
    assert (row.end_reason, row.status_code, row.usage_source) == ("client_disconnect", 200, "provider")
    assert (row.tokens[0], row.tokens[6]) == (10, 7)
    assert not upstream.seen[0].left.is_set()
    wait_until(lambda: house.app and house.app.floor.drains == 0, "the end of the drain")


@pytest.mark.parametrize("leave", [reset, socket.socket.close])
def test_a_client_that_leaves_before_the_headers_is_drained_too(house: House, upstream: Upstream, leave: Any) -> None:
    open_it, wait = upstream.gate()

    async def slow(seen: Seen, out: Out) -> None:
        await wait()
        await out.whole(BODY)

    upstream.answer = slow
    client = connect(house)
    wait_until(lambda: upstream.seen, "the call")
    leave(client)
    wait_until(lambda: house.app and house.app.floor.drains == 1, "the drain")
    open_it()
    row = house.row()
    assert (row.end_reason, row.status_code, row.usage_source) == ("client_disconnect", 200, "provider")


def test_a_drain_is_bounded_and_what_was_cut_says_so(make_house: MakeHouse, upstream: Upstream) -> None:
    async def endless(seen: Seen, out: Out) -> None:
        await out.begin_stream()
        await out.chunk(delta("Hello"))
        await asyncio.to_thread(seen.left.wait, 10)

    upstream.answer = endless
    house = make_house(options=GatewayOptions(drain_timeout_s=0.3))
    client = connect(house, stream=True)
    read_until(client, b"Hello")
    reset(client)
    assert upstream.seen[0].left.wait(5)
    assert (house.row().end_reason, house.row().usage_source) == ("cancelled", "estimated")


@pytest.mark.parametrize(
    ("options", "deployment"),
    [
        (GatewayOptions(on_disconnect="cancel"), {}),
        (GatewayOptions(), {"on_disconnect": "cancel"}),
        (GatewayOptions(), {"rates": None, "is_local": True}),  # a local model costs only its time
        (GatewayOptions(drains=0), {}),
    ],
)
def test_where_nothing_is_gained_by_draining_the_upstream_is_cancelled_at_once(
    make_house: MakeHouse, upstream: Upstream, options: GatewayOptions, deployment: dict[str, Any]
) -> None:
    async def endless(seen: Seen, out: Out) -> None:
        await out.begin_stream()
        await out.chunk(delta("Hello"))
        await asyncio.to_thread(seen.left.wait, 10)

    upstream.answer = endless
    house = make_house(options=options)
    house.configuration.models.exact["gpt"] = (house.deployment("gpt", **deployment),)  # type: ignore[index]
    client = connect(house, stream=True)
    read_until(client, b"Hello")
    reset(client)
    assert upstream.seen[0].left.wait(2)
    assert house.row().end_reason == "cancelled"
    assert house.row().usage_source == "estimated"


def test_anthropics_count_so_far_is_kept_when_a_call_is_cut(make_house: MakeHouse, upstream: Upstream) -> None:
    start = {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 25, "output_tokens": 1}}}

    async def endless(seen: Seen, out: Out) -> None:
        await out.begin_stream("request-id: req-a")
        await out.chunk(b"event: message_start\ndata: " + json.dumps(start).encode() + b"\n\n")
        text = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "12345678" * 5}}
        await out.chunk(b"event: content_block_delta\ndata: " + json.dumps(text).encode() + b"\n\n")
        raise ConnectionError

    upstream.answer = endless
    house = make_house()
    claude = house.deployment("claude", provider="anthropic", api_base=upstream.url)
    house.configuration.models.exact["claude"] = (claude,)  # type: ignore[index]
    body = {"model": "claude", "max_tokens": 9, "messages": [], "stream": True}
    assert not house.call(body, "/v1/messages").is_whole
    assert upstream.seen[0].target == "/v1/messages"
    assert upstream.seen[0].header(b"x-api-key") == b"sk-upstream-secret"
    row = house.row()
    assert (row.end_reason, row.usage_source) == ("upstream_disconnect", "provider_partial")
    assert (row.tokens[0], row.tokens[6], row.upstream_request_id) == (25, 10, "req-a")


def test_a_client_that_takes_nothing_is_taken_for_gone(make_house: MakeHouse, upstream: Upstream) -> None:
    async def flood(seen: Seen, out: Out) -> None:
        await out.begin_stream()
        for _ in range(400):
            await out.chunk(delta("x" * 65536))
        await out.chunk(USAGE_EVENT + DONE)
        await out.end()

    upstream.answer = flood
    house = make_house(options=GatewayOptions(client_stall_s=0.5))
    client = connect(house, stream=True)
    row = house.row()  # the client never reads; the gateway drains to the provider's count
    assert (row.end_reason, row.usage_source) == ("client_disconnect", "provider")
    client.close()


def test_a_slow_client_slows_the_upstream_instead_of_filling_memory(house: House, upstream: Upstream) -> None:
    sent = 0

    async def flood(seen: Seen, out: Out) -> None:
        nonlocal sent
        await out.begin_stream()
        for _ in range(800):
            await out.chunk(delta("x" * 65536))
            sent += 1
        await out.chunk(USAGE_EVENT + DONE)
        await out.end()

    upstream.answer = flood
    client = connect(house, stream=True)
    read_until(client, b"x" * 1000)
    before = -1
    while before != sent:  # until the upstream stands still
        before = sent
        time.sleep(0.3)
    assert sent < 600  # 52 MB would be all of it; the kernel's buffers on both sides hold up to 14 MB of it
    seen = b""
    while not seen.endswith(b"0\r\n\r\n"):
        seen = seen[-16:] + client.recv(1 << 20)
    client.close()
    assert house.row().end_reason == "complete"


def test_calls_that_outlive_the_gateways_patience_are_cut_and_booked(make_house: MakeHouse, upstream: Upstream) -> None:
    async def endless(seen: Seen, out: Out) -> None:
        await out.begin_stream()
        await out.chunk(delta("Hello"))
        await asyncio.to_thread(seen.left.wait, 10)

    upstream.answer = endless
    house = make_house(options=GatewayOptions(shutdown_s=0.3))
    client = connect(house, stream=True)
    read_until(client, b"Hello")
    began = time.monotonic()
    house.stop()
    assert time.monotonic() - began < 4
    client.close()
    assert (house.row().end_reason, house.row().usage_source) == ("cancelled", "estimated")


def test_calls_that_end_within_the_gateways_patience_end_well(make_house: MakeHouse, upstream: Upstream) -> None:
    open_it, wait = upstream.gate()

    async def slow(seen: Seen, out: Out) -> None:
        await wait()
        await out.whole(BODY)

    upstream.answer = slow
    house = make_house()
    client = connect(house)
    wait_until(lambda: upstream.seen, "the call")
    assert house._server is not None and house._loop is not None and house.app is not None
    house._loop.call_soon_threadsafe(house._server.handle_exit, 15, None)
    wait_until(lambda: house.app and house.app.health.stopping, "the beginning of the end")
    open_it()
    assert b" 200 OK" in read_until(client, b'"usage"')
    client.close()
    house.stop()
    assert house.row().end_reason == "complete"


def test_a_full_journal_refuses_new_calls_before_anything_is_sent(house: House, upstream: Upstream) -> None:
    assert house.app is not None
    house.app.admission.journal.close()  # type: ignore[union-attr]
    reply = house.chat()
    assert (reply.status, reply.headers["x-tt-code"], reply.headers["retry-after"]) == (503, "journal_unavailable", "5")
    assert upstream.seen == []


@pytest.mark.parametrize("is_stream", [False, True])
def test_without_a_row_the_client_sees_no_clean_end(house: House, upstream: Upstream, is_stream: bool) -> None:
    open_it, wait = upstream.gate()

    async def answer(seen: Seen, out: Out) -> None:
        await wait()
        if is_stream:
            await out.begin_stream()
            await out.chunk(delta("Hello") + USAGE_EVENT + DONE)
            await out.end()
        else:
            await out.whole(BODY)

    upstream.answer = answer
    client = connect(house, stream=is_stream)
    wait_until(lambda: upstream.seen, "the call")
    assert house.app is not None
    house.app.admission.journal.close()  # type: ignore[union-attr]
    open_it()
    seen = b""
    while more := client.recv(65536):
        seen += more
        if b"journal_unavailable" in seen:
            break
    client.close()
    assert b"[DONE]" not in seen and b"0\r\n\r\n" not in seen and b'"usage"' not in seen
    assert b" 503 " in seen or is_stream  # a stream may have begun: then it breaks off
