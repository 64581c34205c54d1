"""Answers that no provider should give: the client gets a clear one, and the call has its one true row."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from typing import Any

import pytest

from tests.proxy.conftest import MakeHouse
from tests.proxy.house import KEY, House, key_record
from tests.proxy.upstream import COMPLETION, Out, Seen, Upstream
from token_tracker.proxy.lanes.sending import HEAD_LINE_BYTES
from token_tracker.proxy.protocol import HEAD_BYTES

BODY = json.dumps(COMPLETION).encode()


def answer_with(upstream: Upstream, body: bytes, *headers: str, **how: Any) -> None:
    async def answer(seen: Seen, out: Out) -> None:
        await out.whole(body, *headers, **how)

    upstream.answer = answer


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("status", ["099 What", "101 Switching Protocols", "600 What", "999 What"])
def test_a_status_that_is_no_answer_is_502_and_a_row(
    house: House, upstream: Upstream, status: str, is_stream: bool
) -> None:
    answer_with(upstream, b"", status=status)
    reply = house.chat(stream=is_stream)
    assert (reply.status, reply.headers["x-tt-code"]) == (502, "upstream_unreachable")
    row = house.row()
    assert (row.status_code, row.end_reason, row.usage_source) == (502, "upstream_disconnect", "estimated")


@pytest.mark.parametrize("status", ["302 Found", "304 Not Modified"])
def test_a_redirect_is_passed_on_and_costs_nothing(house: House, upstream: Upstream, status: str) -> None:
    answer_with(upstream, b"", "location: /elsewhere", status=status)
    assert house.chat().status == int(status[:3])
    row = house.row()
    assert (row.end_reason, row.usage_source, row.cost_nano_usd) == ("upstream_error", "none", 0)


def test_a_fault_of_the_gateway_leaves_no_call_without_a_row(
    house: House, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("token_tracker.proxy.lanes.answers.decoder_for", broken)
    reply = house.chat()
    assert (reply.status, reply.headers["x-tt-code"]) == (500, "internal_error")
    row = house.row()
    assert (row.status_code, row.end_reason, row.usage_source) == (200, "upstream_disconnect", "estimated")


@pytest.mark.parametrize("kind", ["", "text/plain; charset=utf-8"])
def test_a_whole_answer_that_is_not_named_json_is_read_all_the_same(
    house: House, upstream: Upstream, kind: str
) -> None:
    answer_with(upstream, BODY, kind=kind)
    reply = house.chat()
    assert (reply.status, reply.body, reply.headers["x-tt-cost-usd"]) == (200, BODY, "0.000024000")
    assert house.row().usage_source == "provider"


def test_long_and_many_headers_of_an_answer_do_not_lose_it(house: House, upstream: Upstream) -> None:
    headers = [f"set-cookie: {number}=1" for number in range(300)]  # taken out on the way down
    answer_with(upstream, BODY, "x-long: " + "a" * (HEAD_LINE_BYTES // 2), *headers)
    reply = house.chat()
    assert (reply.status, reply.body, len(reply.headers["x-long"])) == (200, BODY, HEAD_LINE_BYTES // 2)


def test_a_request_whose_head_does_not_end_is_refused_before_it_fills_the_memory(house: House) -> None:
    with socket.create_connection(("127.0.0.1", house.port), timeout=10) as client:
        client.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\nx-endless: " + b"a" * HEAD_BYTES)
        assert client.recv(65536).startswith(b"HTTP/1.1 431 ")


def test_a_body_longer_than_any_head_may_be_is_no_head(house: House) -> None:
    assert house.chat(user="a" * HEAD_BYTES * 3).status == 200
    assert house.chat(user="a" * HEAD_BYTES * 3).status == 200


@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_an_answer_that_cannot_have_a_body_says_no_length_and_leaves_the_connection_in_order(
    make_house: MakeHouse, upstream: Upstream, status: str, kind: str
) -> None:
    async def answer(seen: Seen, out: Out) -> None:
        await out.head(status, "content-length: 10", f"content-type: {kind}", "etag: x")

    upstream.answer = answer
    house = make_house(keys={KEY: key_record(permissions=("passthrough",))})
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", house.port, timeout=5)) as connection:
        for _ in range(2):  # the second on the same connection
            connection.request("GET", "/pass/gpt/files/1", headers={"authorization": f"Bearer {KEY}"})
            response = connection.getresponse()
            assert (response.status, response.headers["content-length"], response.read()) == (
                int(status[:3]),
                None,
                b"",
            )
            assert connection.sock is not None


@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_a_head_tells_the_length_that_its_upstream_tells(make_house: MakeHouse, upstream: Upstream, kind: str) -> None:
    async def answer(seen: Seen, out: Out) -> None:
        await out.head("200 OK", "content-length: 277", f"content-type: {kind}")

    upstream.answer = answer
    house = make_house(keys={KEY: key_record(permissions=("passthrough",))})
    reply = house.call(path="/pass/gpt/files/1", method="HEAD")
    assert (reply.status, reply.headers["content-length"], reply.body) == (200, "277", b"")


@pytest.mark.parametrize("step", ["..", "%2e%2e", "x%2f..%2f..", "..%2Fx", "%2e%2e%2f", "..%5cx", "."])
def test_no_path_that_is_passed_on_leaves_the_deployments_own(
    make_house: MakeHouse, upstream: Upstream, step: str
) -> None:
    house = make_house(keys={KEY: key_record(permissions=("passthrough",))})
    assert house.call(path=f"/pass/gpt/files/{step}/admin", method="GET").status == 400
    assert house.call(path="/pass/gpt/files/..a%2fb..", method="GET").status == 200
    assert [seen.target for seen in upstream.seen] == ["/v1/files/..a%2fb.."]
