"""Requests that no provider should see: a clear refusal in the caller's dialect, nothing forwarded, no row."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import anthropic
import openai
import pytest

from tests.functional.house import House, marker

PATHS = ["/v1/chat/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"]


@pytest.fixture(autouse=True)
def untouched(house: House) -> Iterator[None]:
    """After each test: the provider was asked nothing, and the ledger has no row more."""
    before = (len(house.provider.books(slim=True)), house.summary()["totals"]["attempts"])
    yield
    assert (len(house.provider.books(slim=True)), house.summary()["totals"]["attempts"]) == before


def send(house: House, path: str, body: bytes) -> tuple[int, Any, dict[str, Any]]:
    """As the official clients do: on a connection that is kept, so that the answer is read although not all of the
    body was."""
    address = urlsplit(house.proxy_url)
    headers = {"authorization": f"Bearer {house.key}", "content-type": "application/json"}
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "empty"),
        (b"hello", "not valid JSON"),
        (b'{"model": "fake-plain", "messages": [', "not valid JSON"),
        (b'{"model": "fake-plain", "temperature": NaN}', "not valid JSON"),
        (b'["model"]', "JSON object"),
        (b'"model"', "JSON object"),
        (b"\xff\xfe{}", "JSON"),
        (b"{}", "'model' is missing"),
        (b'{"model": null}', "'model' must be a string"),
        (b'{"model": 4}', "'model' must be a string"),
        (b'{"model": ""}', "'model' is empty"),
        (b'{"model": "fake-plain", "stream": "yes"}', "'stream' must be true, false or null"),
        (b"[" * 100_000, "JSON"),
    ],
)
def test_a_body_that_is_no_request_is_refused_with_what_is_wrong(
    house: House, path: str, body: bytes, named: str
) -> None:
    status, headers, answer = send(house, path, body)
    assert (status, headers["x-tt-code"]) == (400, "invalid_request_error")
    error = answer["error"]
    assert error["type"] == "invalid_request_error"
    assert named in error["message"] and "Nothing was forwarded" in error["message"]
    if path == "/v1/messages":
        assert answer["type"] == "error" and answer["request_id"] == headers["x-tt-request-id"]
    else:
        assert error["code"] == "invalid_request_error" and "param" in error


@pytest.mark.parametrize("path", PATHS)
def test_an_unknown_model_is_a_404_that_names_the_nearest(house: House, path: str) -> None:
    status, headers, answer = send(house, path, json.dumps({"model": "gtp-4o", "messages": []}).encode())
    assert (status, headers["x-tt-code"]) == (404, "model_not_found")
    assert "'gtp-4o'" in answer["error"]["message"] and "'gpt-4o'" in answer["error"]["message"]
    expected = "not_found_error" if path == "/v1/messages" else "invalid_request_error"
    assert answer["error"]["type"] == expected


def test_both_clients_raise_their_own_exceptions(house: House) -> None:
    said: Any = [{"role": "user", "content": marker()}]
    with pytest.raises(openai.NotFoundError) as missing:
        house.openai().chat.completions.create(model="nope", messages=said)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError):
        house.openai().chat.completions.create(model=7, messages=said)  # type: ignore[arg-type]
    with pytest.raises(anthropic.NotFoundError):
        house.anthropic().messages.create(model="nope", max_tokens=5, messages=said)
    with pytest.raises(anthropic.BadRequestError):
        house.anthropic().messages.create(model="", max_tokens=5, messages=said)
    too_long: Any = [{"role": "user", "content": "a" * house.max_body_bytes}]
    with pytest.raises(openai.APIStatusError) as large:
        house.openai().chat.completions.create(model="fake-plain", messages=too_long)
    assert large.value.status_code == 413
    with pytest.raises(anthropic.APIStatusError) as theirs:
        house.anthropic().messages.create(model="claude-plain", max_tokens=5, messages=too_long)
    assert theirs.value.status_code == 413


@pytest.mark.parametrize("path", PATHS)
def test_a_body_over_the_limit_is_refused_by_its_announced_length(house: House, path: str) -> None:
    status, headers, answer = send(house, path, b" " * (house.max_body_bytes + 1))
    assert (status, headers["x-tt-code"]) == (413, "request_too_large")
    message = answer["error"]["message"]
    assert str(house.max_body_bytes) in message and "TOKEN_TRACKER_MAX_BODY_SIZE" in message
    assert path != "/v1/messages" or answer["error"]["type"] == "request_too_large"


def test_a_body_over_the_limit_is_refused_while_it_comes_in_pieces_without_a_length(house: House) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"model": "fake-plain", "messages": [{"role": "user", "content": "'
        for _ in range(house.max_body_bytes // 65536 + 1):
            yield b"a" * 65536
        yield b'"}]}'

    request = urllib.request.Request(house.proxy_url + PATHS[0], data=pieces(), method="POST")
    request.add_header("authorization", f"Bearer {house.key}")
    with pytest.raises((urllib.error.HTTPError, urllib.error.URLError, ConnectionError)) as caught:
        urllib.request.urlopen(request, timeout=10)
    if isinstance(caught.value, urllib.error.HTTPError):
        with caught.value as answer:
            assert answer.code == 413


def test_a_body_of_exactly_the_limit_is_read(house: House) -> None:
    body = json.dumps({"model": "nope"}).encode()
    body += b" " * (house.max_body_bytes - len(body))
    assert send(house, PATHS[0], body)[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/v1/nothing", 404, "route_not_found"),
        ("GET", "/v1/../etc/passwd", 404, "route_not_found"),
    ],
)
def test_a_route_that_is_not_there_says_so(house: House, method: str, path: str, status: int, code: str) -> None:
    got, headers, body = house.installation.call(
        method, house.proxy_url + path, None, {"authorization": f"Bearer {house.key}"}
    )
    assert (got, headers["x-tt-code"]) == (status, code)
    assert json.loads(body)["error"]["code"] == code
    assert headers["x-tt-request-id"]


def test_a_websocket_is_refused_with_a_clear_error(house: House) -> None:
    headers = {"authorization": f"Bearer {house.key}", "upgrade": "websocket", "connection": "upgrade"}
    status, answered, body = house.installation.call("GET", house.proxy_url + "/v1/realtime", None, headers)
    assert (status, answered["x-tt-code"]) == (501, "websocket_unsupported")
    assert "HTTP routes" in json.loads(body)["error"]["message"]
