"""Law 5, untouched: what a client gets through the gateway is what it gets directly, and what the provider receives is
what the client sent, but for the contract's list. For all routes and manners of the fake provider."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.functional.conftest import OneGateway
from tests.functional.house import marker
from tests.functional.provider_books import Entry, body_of
from tests.functional.wire import FORM_ROUTES, JSON_ROUTES, STREAMED, Answer, request, send
from tests.proxy.house import KEY, UPSTREAM_KEY

LAYOUTS = [
    "plain",
    "gzip",
    "brotli",
    "crlf",
    "comments",
    "multiline",
    "no-space",
    "cut-every-byte",
    "content-length-sse",
]
COUNTS = [
    "cached",
    "reasoning",
    "null-details",
    "no-usage",
    "usage-in-choices",
    "usage-in-x-groq",
    "usage-in-every-chunk",
]
ENDINGS = ["dies-mid-stream", "ends-early", "error-event", "400", "429", "500", "503"]
ASKED = {"stream": True, "stream_options": {"include_usage": True}}

# The contract's lists. `date` is the second in which it was said; a stream that has a length is framed anew.
NOT_DOWN = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "set-cookie",
    "alt-svc",
    "strict-transport-security",
    "date",
}
NOT_UP = {"host", "authorization", "x-api-key", "cookie", "connection", "content-length"}
CLIENT_HEADERS = [
    ("user-agent", "some client/1.0"), ("accept", "*/*"), ("accept-encoding", "gzip, br"), ("X-Twice", "a"),
    ("X-Twice", "b"), ("openai-beta", "assistants=v2"), ("anthropic-version", "2023-06-01"), 
    ("x-umlaut", "gr\u00fc\u00df".encode().decode("latin-1")), ("idempotency-key", "once"),
]  # fmt: skip
OURS = [("x-tt-session", "s"), ("x-openwebui-chat-id", "c"), ("x-forwarded-for", "10.0.0.1"), ("cookie", "a=b")]


def down(answer: Answer) -> list[tuple[str, str]]:
    is_stream = (answer.header("content-type") or "").startswith("text/event-stream")
    dropped = NOT_DOWN | ({"content-length"} if is_stream else set())
    kept = [pair for pair in answer.headers if pair[0] not in dropped and not pair[0].startswith("x-tt-")]
    return sorted(kept, key=lambda pair: pair[0] == "content-length")  # in their order, but for that one


def up(entry: Entry) -> list[tuple[str, str]]:
    """By name; those of one name in the order in which they came."""
    prefixes = ("x-tt-", "x-openwebui-", "x-forwarded-")
    kept = [(n, v) for n, v in entry["headers"] if n not in NOT_UP and not n.startswith(prefixes)]
    return sorted(kept, key=lambda pair: pair[0])


def both(gateway: OneGateway, path: str, model: str, query: str = "", **more: Any) -> tuple[Answer, Answer]:
    """The same request sent to the provider itself and to the gateway; what went up is compared here."""
    name = marker("equal")
    body, content_type = request(path, model, name, **more)
    headers = [*CLIENT_HEADERS, ("content-type", content_type), ("x-fake-serial", name), *OURS]
    target = path + query
    direct = send(gateway.provider.url, target, body, [*headers, ("authorization", "Bearer sk-direct")])
    ours = send(gateway.url, target, body, [*headers, ("authorization", f"Bearer {KEY}")])
    first, second = gateway.provider.wait_for(lambda e: len(e) == 2 and not any(o["is_open"] for o in e), marker=name)
    assert body_of(first) == body == body_of(second)
    assert up(first) == up(second)
    key = ["x-api-key", UPSTREAM_KEY] if "messages" in path else ["authorization", f"Bearer {UPSTREAM_KEY}"]
    assert [pair for pair in second["headers"] if pair[0] in ("authorization", "x-api-key", "cookie")] == [key]
    assert dict(second["headers"])["content-length"] == str(len(body))
    return direct, ours


def check_equal(direct: Answer, ours: Answer) -> None:
    assert ours.status == direct.status
    assert down(ours) == down(direct)
    assert ours.body == direct.body
    assert ours.header("x-tt-request-id") and ours.header("date")


@pytest.mark.parametrize("path", [*JSON_ROUTES, *FORM_ROUTES])
@pytest.mark.parametrize("manner", ["plain", "429", "503", "gzip", "brotli"])
def test_every_route_is_untouched_both_ways(gateway: OneGateway, path: str, manner: str) -> None:
    check_equal(*both(gateway, path, gateway.model(path, manner), "?a=1&b=%2F&a=%C3%BC"))


@pytest.mark.parametrize("path", STREAMED)
@pytest.mark.parametrize("manner", [*LAYOUTS, *COUNTS, *ENDINGS])
def test_every_manner_of_a_stream_is_untouched_both_ways(gateway: OneGateway, path: str, manner: str) -> None:
    direct, ours = both(gateway, path, gateway.model(path, manner), **ASKED)
    check_equal(direct, ours)
    if manner == "dies-mid-stream":
        assert not direct.is_whole and not ours.is_whole
    if manner in ("gzip", "brotli"):
        assert ours.header("content-encoding") == {"gzip": "gzip", "brotli": "br"}[manner]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"])
@pytest.mark.parametrize("manner", ["cached", "null-details", "no-usage"])
def test_every_manner_of_a_whole_answer_is_untouched(gateway: OneGateway, path: str, manner: str) -> None:
    check_equal(*both(gateway, path, gateway.model(path, manner)))


def test_a_streamed_transcript_is_untouched_both_ways(gateway: OneGateway) -> None:
    check_equal(*both(gateway, "/v1/audio/transcriptions", "fake-plain", stream="true"))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("manner", LAYOUTS)
def test_a_stream_that_did_not_ask_for_usage_is_what_comes_to_one_that_asks_without_the_extra_chunk(
    gateway: OneGateway, path: str, manner: str
) -> None:
    name, model = marker("unasked"), gateway.model(path, manner)
    headers = [("content-type", "application/json"), ("x-fake-serial", name), ("accept-encoding", "gzip, br")]
    plain, asked = (request(path, model, name, **more)[0] for more in ({"stream": True}, ASKED))
    key = ("authorization", f"Bearer {KEY}")
    ours = send(gateway.url, path, plain, [*headers, key])
    entry = gateway.provider.entry(name)
    assert json.loads(body_of(entry)) == json.loads(asked)
    assert dict(entry["headers"])["accept-encoding"] == "identity"
    direct = send(gateway.provider.url, path, asked, [*headers[:-1], ("accept-encoding", "identity")])
    line_end = b"\r\n" if manner == "crlf" else b"\n"
    events = direct.body.split(line_end * 2)
    kept = [event for event in events if b'"choices":[]' not in event]
    assert len(kept) == len(events) - 1
    if manner == "comments":  # the comment before the chunk is an event of its own and stays
        assert kept.count(b": FAKE PROCESSING") == events.count(b": FAKE PROCESSING")
    assert ours.body == (line_end * 2).join(kept)
    assert down(ours) == down(direct)
