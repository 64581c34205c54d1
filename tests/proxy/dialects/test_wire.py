"""The official clients understand what the dialects make: refusals, lists of models, and streams without our chunk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anthropic
import msgspec
import openai
import pytest

from tests.proxy.dialects.streams import CHAT, MESSAGES, RESPONSES, bytewise, run
from token_tracker.domain.errors import (
    Refusal,
    invalid_api_key,
    invalid_request,
    journal_unavailable,
    model_not_allowed,
    model_not_found,
    request_too_large,
    upstream_timeout,
    upstream_unreachable,
)
from token_tracker.proxy.dialects import ROUTES
from token_tracker.proxy.dialects.errors import error_body
from token_tracker.proxy.dialects.models import model_body, models_body

BUDGET = Refusal(402, "budget_exceeded", "The budget is spent.", details={"limit": "5.00"})
RATE = Refusal(429, "rate_limit_exceeded", "Too fast.", retry_after_s=1)


@dataclass
class Canned:
    """One answer for every request of the next client."""

    url: str = ""
    status: int = 200
    content_type: str = "application/json"
    body: bytes = b""

    def says(self, body: bytes, status: int = 200, content_type: str = "application/json") -> None:
        self.body, self.status, self.content_type = body, status, content_type

    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="sk-x", max_retries=0)

    def anthropic(self) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=self.url, api_key="sk-x", max_retries=0)


@pytest.fixture(scope="module")
def canned() -> Iterator[Canned]:
    answer = Canned()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"] or 0))
            self.do_GET()

        def do_GET(self) -> None:
            self.send_response(answer.status)
            self.send_header("content-type", answer.content_type)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    answer.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield answer
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("refusal", "raised", "kind"),
    [
        (invalid_request("No.", "model"), openai.BadRequestError, "invalid_request_error"),
        (invalid_api_key(), openai.AuthenticationError, "authentication_error"),
        (BUDGET, openai.APIStatusError, "insufficient_quota"),
        (model_not_allowed("m"), openai.PermissionDeniedError, "permission_error"),
        (model_not_found("m", None), openai.NotFoundError, "invalid_request_error"),
        (request_too_large(5), openai.APIStatusError, "invalid_request_error"),
        (RATE, openai.RateLimitError, "rate_limit_error"),
        (upstream_unreachable("m"), openai.InternalServerError, "server_error"),
        (journal_unavailable(), openai.InternalServerError, "server_error"),
        (upstream_timeout("m", 5), openai.InternalServerError, "server_error"),
    ],
)
def test_the_openai_client_raises_a_refusal_with_all_its_facts(
    canned: Canned, refusal: Refusal, raised: type[openai.APIStatusError], kind: str
) -> None:
    canned.says(error_body("openai", refusal, "id-1"), refusal.status)
    with canned.openai() as client, pytest.raises(raised) as caught:
        client.chat.completions.create(model="m", messages=[])
    error = caught.value
    assert error.body == {
        "message": refusal.message,
        "type": kind,
        "param": refusal.param,
        "code": refusal.code,
        "details": refusal.details,
    }
    assert (error.status_code, error.code, error.type, error.param) == (
        refusal.status,
        refusal.code,
        kind,
        refusal.param,
    )


@pytest.mark.parametrize(
    ("refusal", "raised", "kind"),
    [
        (invalid_request("No."), anthropic.BadRequestError, "invalid_request_error"),
        (invalid_api_key(), anthropic.AuthenticationError, "authentication_error"),
        (BUDGET, anthropic.APIStatusError, "billing_error"),
        (model_not_allowed("m"), anthropic.PermissionDeniedError, "permission_error"),
        (model_not_found("m", None), anthropic.NotFoundError, "not_found_error"),
        (request_too_large(5), anthropic.APIStatusError, "request_too_large"),
        (RATE, anthropic.RateLimitError, "rate_limit_error"),
        (upstream_unreachable("m"), anthropic.InternalServerError, "api_error"),
        (journal_unavailable(), anthropic.APIStatusError, "api_error"),
        (upstream_timeout("m", 5), anthropic.APIStatusError, "timeout_error"),
    ],
)
def test_the_anthropic_client_raises_a_refusal_with_all_its_facts(
    canned: Canned, refusal: Refusal, raised: type[anthropic.APIStatusError], kind: str
) -> None:
    canned.says(error_body("anthropic", refusal, "id-1"), refusal.status)
    with canned.anthropic() as client, pytest.raises(raised) as caught:
        client.messages.create(model="m", messages=[], max_tokens=1)
    assert caught.value.status_code == refusal.status
    assert caught.value.body == {
        "type": "error",
        "error": {"type": kind, "message": refusal.message, "code": refusal.code, "details": refusal.details},
        "request_id": "id-1",
    }


def test_the_openai_client_lists_models(canned: Canned) -> None:
    canned.says(models_body("openai", [("demo", "demo"), ("gpt-4o", "openai")]))
    with canned.openai() as client:
        assert [(model.id, model.owned_by) for model in client.models.list()] == [
            ("demo", "demo"),
            ("gpt-4o", "openai"),
        ]
        canned.says(model_body("openai", "gpt-4o", "openai"))
        assert client.models.retrieve("gpt-4o").id == "gpt-4o"


def test_the_anthropic_client_lists_models(canned: Canned) -> None:
    canned.says(models_body("anthropic", [("demo", "demo"), ("claude", "anthropic")]))
    with canned.anthropic() as client:
        page = client.models.list()
        assert [model.id for model in page] == ["demo", "claude"]
        assert (page.first_id, page.last_id, page.has_more) == ("demo", "claude", False)
        canned.says(model_body("anthropic", "claude", "anthropic"))
        model = client.models.retrieve("claude")
        assert (model.id, model.display_name, model.type) == ("claude", "claude", "model")


@pytest.mark.parametrize("family", ["openai", "anthropic"])
def test_an_empty_list_of_models_is_a_list(family: str) -> None:
    assert msgspec.json.decode(models_body(family, []))["data"] == []


def passed(path: str, chunks: list[bytes]) -> bytes:
    """What a client gets of a stream that came byte by byte, having asked for nothing."""
    dialect = ROUTES[path].dialect
    observer = dialect.observer(dialect.read(b'{"model":"m","stream":true}'))
    before, after, _ = run(observer, bytewise(b"".join(chunks)))
    return before + after


def test_the_openai_client_reads_a_chat_stream_in_which_every_chunk_has_choices(canned: Canned) -> None:
    canned.says(passed("/v1/chat/completions", CHAT), content_type="text/event-stream")
    with canned.openai() as client:
        chunks = list(client.chat.completions.create(model="m", messages=[], stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks).startswith("Grüße, say")
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_the_openai_client_reads_a_response_stream(canned: Canned) -> None:
    canned.says(passed("/v1/responses", RESPONSES), content_type="text/event-stream")
    with canned.openai() as client:
        events = list(client.responses.create(model="m", input="hi", stream=True))
    assert [event.type for event in events][-1] == "response.completed"


def test_the_anthropic_client_reads_a_message_stream(canned: Canned) -> None:
    canned.says(passed("/v1/messages", MESSAGES), content_type="text/event-stream")
    with canned.anthropic() as client:
        events = list(client.messages.create(model="m", messages=[], max_tokens=1, stream=True))
    assert [event.type for event in events][-1] == "message_stop"
