"""What a call changes on its way through the direct lane: the contract's list and nothing else."""

from __future__ import annotations

import gzip
import json
import socket
from typing import Any

import pytest

from tests.proxy.conftest import MakeHouse
from tests.proxy.house import KEY, UPSTREAM_KEY, House, key_record
from tests.proxy.upstream import COMPLETION, DONE, USAGE, USAGE_EVENT, Out, Seen, Upstream, delta, stream

BODY = json.dumps(COMPLETION).encode()


def test_the_clients_bytes_go_up_and_the_upstreams_bytes_come_down(make_house: MakeHouse, upstream: Upstream) -> None:
    house = make_house(exact=None)
    body = b'{ "model" : "upstream-name",\n "messages": [], "odd": 1.50, "n":2e0 }'
    house.configuration.models.exact["upstream-name"] = (house.deployment("upstream-name"),)  # type: ignore[index]
    odd = b'{"usage":{"prompt_tokens":1,"completion_tokens":1},"odd":  1.50}\n'

    async def answer(seen: Seen, out: Out) -> None:
        await out.whole(odd, "x-ratelimit-remaining-requests: 9", "x-custom: a", "x-custom: b", "set-cookie: no=1")

    upstream.answer = answer
    reply = house.call(body, "/v1/chat/completions?beta=true&x=%20y", x_custom="1", content_type="application/json")
    seen = upstream.seen[0]
    assert seen.body == body
    assert seen.target == "/v1/chat/completions?beta=true&x=%20y"
    assert (reply.status, reply.body) == (200, odd)
    assert ("x-custom", "a") in reply.raw_headers and ("x-custom", "b") in reply.raw_headers
    assert reply.headers["x-ratelimit-remaining-requests"] == "9"
    assert {"set-cookie", "date", "server"}.isdisjoint(reply.headers)


def test_the_upstream_sees_its_own_key_and_none_of_ours(house: House, upstream: Upstream) -> None:
    house.chat(headers={"x_tt_agent": "cli", "cookie": "a=b", "x_api_key": KEY, "x_openwebui_user_id": "u"})
    headers = upstream.seen[0].headers
    assert (b"authorization", f"Bearer {UPSTREAM_KEY}".encode()) in headers
    sent = b"\n".join(name.lower() + b": " + value for name, value in headers)
    assert KEY.encode() not in sent
    assert all(
        word not in sent for word in (b"x-tt-", b"cookie", b"openwebui", b"x-api-key", b"user-agent", b"aiohttp")
    )


def test_the_model_alone_is_changed_in_a_body(house: House, upstream: Upstream) -> None:
    house.call(b'{"messages": [ ] ,"model":"gpt","x":1.0}')
    sent = upstream.seen[0].body
    assert json.loads(sent) == {"messages": [], "model": "upstream-name", "x": 1.0}
    assert b'"messages":[ ]' in sent.replace(b'": ', b'":') and b"1.0" in sent


def test_every_answer_names_the_call_and_a_json_answer_its_cost(house: House) -> None:
    reply = house.chat()
    row = house.row()
    assert reply.id == row.opened.id == row.opened.call_id
    assert reply.headers["x-tt-cost-usd"] == "0.000024000"  # 10 in at $1, 7 out at $2 a million
    assert (row.cost_nano_usd, row.cost_source, row.usage_source) == (24_000, "priced", "provider")
    assert (row.end_reason, row.status_code, row.upstream_id) == ("complete", 200, "chatcmpl-1")
    assert row.upstream_request_id == "req-up-1"
    opened = row.opened
    assert (opened.endpoint, opened.lane, opened.stream) == ("/v1/chat/completions", "direct", False)
    assert (opened.requested_model, opened.model, opened.provider) == ("gpt", "upstream-name", "openai")
    assert (opened.subject.key_id, opened.subject.user, opened.subject.team) == ("key-1", "ada", "core")
    assert row.latency_ms > 0 and row.ttft_ms is None


def test_an_unpriced_answer_names_no_cost(make_house: MakeHouse, upstream: Upstream) -> None:
    house = make_house(exact=None)
    house.configuration.models.exact["free"] = (house.deployment("free", rates=None),)  # type: ignore[index]
    reply = house.chat("free")
    assert "x-tt-cost-usd" not in reply.headers
    assert (house.row().cost_nano_usd, house.row().cost_source) == (None, "unpriced")


def test_a_long_json_answer_is_streamed_and_still_booked_by_its_own_count(house: House, upstream: Upstream) -> None:
    long = json.dumps({**COMPLETION, "pad": "x" * 3_000_000, "usage": USAGE}).encode()

    async def answer(seen: Seen, out: Out) -> None:
        await out.whole(long)

    upstream.answer = answer
    reply = house.chat()
    assert reply.body == long
    assert reply.headers["content-length"] == str(len(long))
    assert "x-tt-cost-usd" not in reply.headers
    assert (house.row().usage_source, house.row().tokens[0]) == ("provider", 10)


def test_a_compressed_answer_passes_as_it_is_and_is_still_read(house: House, upstream: Upstream) -> None:
    async def answer(seen: Seen, out: Out) -> None:
        await out.whole(gzip.compress(BODY), "content-encoding: gzip")

    upstream.answer = answer
    reply = house.chat(headers={"accept_encoding": "gzip, br, zstd"})
    assert upstream.seen[0].header(b"accept-encoding") == b"gzip, br"
    assert reply.headers["content-encoding"] == "gzip"
    assert gzip.decompress(reply.body) == BODY
    assert int(reply.headers["content-length"]) == len(reply.body)
    assert house.row().usage_source == "provider"


def test_an_upstreams_error_passes_untouched_and_is_one_row_of_cost_0(house: House, upstream: Upstream) -> None:
    error = b'{"error": {"message": "slow down", "type": "tokens"}}'

    async def answer(seen: Seen, out: Out) -> None:
        await out.whole(error, "retry-after: 7", "x-request-id: req-9", status="429 Too Many Requests")

    upstream.answer = answer
    reply = house.chat(stream=True)
    assert (reply.status, reply.body, reply.headers["retry-after"]) == (429, error, "7")
    row = house.row()
    assert (row.status_code, row.end_reason, row.usage_source, row.cost_nano_usd) == (429, "upstream_error", "none", 0)
    assert row.upstream_request_id == "req-9"
    assert len(upstream.seen) == 1


def test_a_stream_comes_as_it_was_sent_without_the_chunk_that_we_asked_for(house: House, upstream: Upstream) -> None:
    upstream.answer = stream
    reply = house.chat(stream=True, headers={"accept_encoding": "gzip"})
    assert json.loads(upstream.seen[0].body)["stream_options"] == {"include_usage": True}
    assert upstream.seen[0].header(b"accept-encoding") == b"identity"
    assert reply.body == delta("Hello") + delta(" there") + DONE
    row = house.row()
    assert (row.usage_source, row.tokens[0], row.tokens[6], row.end_reason) == ("provider", 10, 7, "complete")
    assert row.ttft_ms is not None and row.ttft_ms <= row.latency_ms
    assert row.opened.stream


def test_a_client_that_asked_for_the_usage_chunk_gets_it(house: House, upstream: Upstream) -> None:
    upstream.answer = stream
    reply = house.chat(stream=True, stream_options={"include_usage": True})
    assert reply.body == delta("Hello") + delta(" there") + USAGE_EVENT + DONE
    assert house.row().usage_source == "provider"


def test_the_end_record_stands_before_the_client_sees_the_end(house: House, upstream: Upstream) -> None:
    open_it, wait = upstream.gate()

    async def answer(seen: Seen, out: Out) -> None:
        await out.begin_stream()
        await out.chunk(delta("Hello"))
        await wait()
        await out.chunk(USAGE_EVENT + DONE)
        await out.end()

    upstream.answer = answer
    with socket.create_connection(("127.0.0.1", house.port), timeout=10) as client:
        body = b'{"model":"gpt","messages":[],"stream":true}'
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        client.sendall(head.encode() + body)
        seen = b""
        while b"Hello" not in seen:
            seen += client.recv(65536)
        assert house.rows() == []
        assert len(house.records()) == 1  # the open record
        open_it()
        while b"[DONE]" not in seen:
            seen += client.recv(65536)
        assert len(house.rows()) == 1


def test_a_compressed_stream_is_read_from_a_copy(house: House, upstream: Upstream) -> None:
    events = delta("Hello") + USAGE_EVENT + DONE

    async def answer(seen: Seen, out: Out) -> None:
        await out.begin_stream("content-encoding: gzip")
        packed = gzip.compress(events)
        for start in range(0, len(packed), 20):
            await out.chunk(packed[start : start + 20])
        await out.end()

    upstream.answer = answer
    reply = house.chat(stream=True, stream_options={"include_usage": True})
    assert gzip.decompress(reply.body) == events
    assert (house.row().usage_source, house.row().end_reason) == ("provider", "complete")


@pytest.mark.parametrize(
    ("call", "status", "code"),
    [
        ({"body": b"not json", "key": None}, 401, "invalid_api_key"),
        ({"body": b"x" * 2_000_000, "key": "sk-tt-wrong"}, 401, "invalid_api_key"),
        ({"body": b"x" * 2_000_000}, 413, "request_too_large"),
        ({"body": b"not json"}, 400, "invalid_request_error"),
        ({"body": b"[]"}, 400, "invalid_request_error"),
        ({"body": b'{"messages":[]}'}, 400, "invalid_request_error"),
        ({"body": b'{"model":7}'}, 400, "invalid_request_error"),
        ({"body": b'{"model":"gtp"}'}, 404, "model_not_found"),
        ({"body": b'{"model":"secret"}'}, 403, "model_not_allowed"),
        ({"body": b"\x1f\x8b", "content_encoding": "gzip"}, 400, "invalid_request_error"),
        ({"path": "/v1/nothing"}, 404, "route_not_found"),
        ({"path": "/v1/chat/completions", "method": "GET"}, 405, "method_not_allowed"),
        ({"path": "/v1/messages", "body": b'{"model":"gpt"}'}, 400, "invalid_request_error"),
    ],
)
def test_refusals_come_in_the_contracts_order_and_nothing_is_forwarded(
    make_house: MakeHouse, upstream: Upstream, call: dict[str, Any], status: int, code: str
) -> None:
    house = make_house(keys={KEY: key_record(models=("gpt*",))})
    house.configuration.models.exact["secret"] = (house.deployment("secret"),)  # type: ignore[index]
    reply = house.call(**call)
    assert (reply.status, reply.headers["x-tt-code"], reply.json["error"]["code"]) == (status, code, code)
    assert len(reply.id) == 32
    if code == "model_not_found":
        assert "'gpt'" in reply.json["error"]["message"]
        assert "secret" not in reply.json["error"]["message"]
    if status == 405:
        assert reply.headers["allow"] == "POST"
    assert upstream.seen == [] and house.records() == []


def test_a_body_without_a_length_is_counted_as_it_comes(house: House, upstream: Upstream) -> None:
    with socket.create_connection(("127.0.0.1", house.port), timeout=10) as client:
        head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ntransfer-encoding: chunked\r\n\r\n"
        client.sendall(head.encode())
        for _ in range(20):
            client.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        answer = client.recv(65536)
    assert b" 413 " in answer and b'"type":"request_too_large"' in answer
    assert upstream.seen == []


def test_an_anthropic_route_refuses_in_anthropics_words(house: House) -> None:
    reply = house.call(b"{}", "/v1/messages", key=None)
    assert reply.json["type"] == "error" and reply.json["error"]["type"] == "authentication_error"
    assert reply.json["request_id"] == reply.id


def test_a_doubled_v1_means_v1(house: House) -> None:
    assert house.call({"model": "gpt", "messages": []}, "/v1/v1/chat/completions").status == 200


def test_an_alias_needs_leave_for_itself_or_for_what_it_stands_for(make_house: MakeHouse) -> None:
    house = make_house(keys={KEY: key_record(models=("gpt",))}, aliases={"smart": "gpt"})
    assert house.chat("smart").status == 200
    assert house.row().opened.requested_model == "smart"


def test_a_websocket_is_refused_clearly(house: House) -> None:
    reply = house.call(
        path="/v1/realtime", method="GET", connection="Upgrade", upgrade="websocket",
        sec_websocket_key="eA==", sec_websocket_version="13",
    )  # fmt: skip
    assert (reply.status, reply.headers["x-tt-code"]) == (501, "websocket_unsupported")


def test_models_are_listed_in_the_shape_of_who_asks_and_only_what_the_key_may_use(make_house: MakeHouse) -> None:
    house = make_house(keys={KEY: key_record(models=("gpt*",))}, aliases={"smart": "gpt"})
    house.configuration.models.exact["other"] = (house.deployment("other"),)  # type: ignore[index]
    openai = house.call(path="/v1/models", method="GET")
    assert [each["id"] for each in openai.json["data"]] == ["gpt", "smart"]
    anthropic = house.call(path="/v1/models", method="GET", anthropic_version="2023-06-01")
    assert [each["type"] for each in anthropic.json["data"]] == ["model", "model"]
    assert house.call(path="/v1/models/gpt", method="GET").json["id"] == "gpt"
    assert house.call(path="/v1/models/other", method="GET").status == 404
    assert house.call(path="/v1/models", method="GET", key=None).status == 401


def test_one_connection_carries_many_calls_up_and_down(house: House, upstream: Upstream) -> None:
    body = b'{"model":"gpt","messages":[]}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", house.port), timeout=10) as client:
        for _ in range(3):
            client.sendall(head.encode() + body)
            seen = b""
            while not seen.endswith(BODY):
                seen += client.recv(65536)
    assert len(house.rows()) == 3
    assert len({row.opened.id for row in house.rows()}) == 3
