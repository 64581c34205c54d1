"""The LiteLLM child as a process: what it answers, to whom, and what it never does."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.proxy.litellm.running import KEY, Answer, Child
from tests.proxy.litellm.upstream import SPEECH, Upstream
from token_tracker.proxy.litellm.environment import child_environment
from token_tracker.proxy.litellm.evidence import EvidenceServer
from token_tracker.proxy.litellm.report import FAILURE_HEADER, Failure, from_header, socket_path

HELLO = [{"role": "user", "content": "hi"}]
WORKER = "00c0ffee"


def call_id(number: int) -> str:
    return f"{number:024x}{WORKER}"


def post(child: Child, path: str, base: str, number: int = 0, **fields: Any) -> Answer:
    body = json.dumps(fields | {"api_base": base, "api_key": "sk-of-the-upstream"}).encode()
    return child.post(path, body, call_id(number))


def failure_of(answer: Answer) -> Failure | None:
    values = [value for name, value in answer.headers if name.decode() == FAILURE_HEADER]
    return from_header(values[0]) if values else None


def test_the_childs_environment_holds_no_key_of_a_provider() -> None:
    environ = {"PATH": "/bin", "OPENAI_API_KEY": "a", "AWS_SECRET_ACCESS_KEY": "b", "DATABASE_URL": "c", "LC_ALL": "C"}
    made = child_environment(environ, url="http://127.0.0.1:1", key="k", evidence_dir=Path("/e"))
    assert not {"a", "b", "c"} & set(made.values())
    assert (made["PATH"], made["LC_ALL"]) == ("/bin", "C")


def test_the_child_says_which_variable_is_missing() -> None:
    command = [sys.executable, "-c", "from token_tracker.proxy.litellm.launcher import main; raise SystemExit(main())"]
    ended = subprocess.run(command, env={"PYTHONPATH": str(Path.cwd())}, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 2
    assert "TT_LITELLM_URL" in ended.stderr


def test_the_child_prints_nothing_when_all_is_well(child: Child) -> None:
    assert child.is_live()
    lines = [line for line in child.log.read_text().splitlines() if "text withheld" not in line]
    assert lines == []


def test_the_child_calls_no_other_host_while_it_starts(child: Child, outside: socket.socket) -> None:
    assert child.is_live()
    with pytest.raises(BlockingIOError):
        outside.accept()


@pytest.mark.parametrize(
    "path", ["/", "/health", "/v1/models", "/openapi.json", "/ui/", "/config/update", "/key/generate"]
)
def test_only_the_translated_routes_exist(child: Child, path: str) -> None:
    assert child.post(path, b"{}", call_id(0)).status == 404
    request = urllib.request.Request(child.url + path, headers={"authorization": f"Bearer {KEY}"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    refused.value.close()
    assert refused.value.code == 404


@pytest.mark.parametrize("key", ["", "sk-wrong", KEY + "0"])
def test_a_request_without_the_master_key_is_refused(
    child: Child, upstream: Upstream, upstream_url: str, key: str
) -> None:
    body = json.dumps({"model": "openai/gpt-4o", "messages": HELLO, "api_base": upstream_url + "/v1", "api_key": "x"})
    assert child.post("/v1/chat/completions", body.encode(), call_id(0), key=key).status == 401
    assert upstream.requests == []


def test_a_websocket_is_closed(child: Child) -> None:
    import aiohttp

    async def connect() -> int:
        async with aiohttp.ClientSession() as session:
            try:
                await session.ws_connect(f"{child.url}/v1/realtime", headers={"authorization": f"Bearer {KEY}"})
            except aiohttp.WSServerHandshakeError as error:
                return error.status
        return 101

    assert asyncio.run(connect()) == 403


def test_the_upstream_gets_the_key_of_the_request_and_nothing_of_ours(
    child: Child, upstream: Upstream, upstream_url: str
) -> None:
    answer = post(child, "/v1/messages", upstream_url + "/v1", model="openai/gpt-4o", messages=HELLO, max_tokens=5)
    assert answer.status == 200
    (sent,) = upstream.requests
    assert sent["path"] == "/v1/chat/completions"
    assert sent["body"]["max_tokens"] == 5
    assert sent["headers"]["Authorization"] == "Bearer sk-of-the-upstream"
    assert not re.search(KEY + "|must-not-be-seen|tt-", json.dumps(sent))


def test_a_call_is_reported_once_to_the_worker_named_in_its_id(
    child: Child, upstream: Upstream, upstream_url: str, evidence_dir: Path
) -> None:
    async def run() -> None:
        server = EvidenceServer(socket_path(evidence_dir, WORKER))
        await server.start()
        loop = asyncio.get_running_loop()
        fields = {"model": "openai/tts-1", "input": "hello", "voice": "alloy"}
        answer = await loop.run_in_executor(
            None, lambda: post(child, "/v1/audio/speech", upstream_url + "/v1", 7, **fields)
        )
        assert (answer.status, answer.body) == (200, SPEECH)
        evidence = await server.wait(call_id(7), 5)
        assert evidence is not None
        assert evidence.usage is None
        assert evidence.cost_usd is not None and evidence.cost_usd > 0
        assert server.received == 1
        await server.close()

    asyncio.run(run())


def test_a_worker_that_is_gone_costs_a_warning_and_no_call(child: Child, upstream: Upstream, upstream_url: str) -> None:
    for number in range(2):
        answer = post(child, "/v1/embeddings", upstream_url + "/v1", number, model="openai/e", input="a")
        assert answer.status == 200


ROUTES = [
    ("/v1/chat/completions", "", {"model": "anthropic/claude-sonnet-4-5", "messages": HELLO}),
    ("/v1/chat/completions", "", {"model": "anthropic/claude-sonnet-4-5", "messages": HELLO, "stream": True}),
    ("/v1/messages", "/v1", {"model": "openai/gpt-4o", "messages": HELLO, "max_tokens": 5}),
    ("/v1/messages", "/v1", {"model": "openai/gpt-4o", "messages": HELLO, "max_tokens": 5, "stream": True}),
    ("/v1/responses", "", {"model": "anthropic/claude-sonnet-4-5", "input": "hi"}),
    ("/v1/embeddings", "/v1", {"model": "openai/e", "input": "hi"}),
    ("/v1/audio/speech", "/v1", {"model": "openai/tts-1", "input": "hi", "voice": "alloy"}),
    ("/v1/images/generations", "/v1", {"model": "openai/dall-e-3", "prompt": "a cat"}),
]


@pytest.mark.parametrize(("path", "base", "fields"), ROUTES, ids=lambda value: str(value)[:24])
def test_an_upstreams_error_is_neither_retried_nor_lost(
    child: Child, upstream: Upstream, upstream_url: str, path: str, base: str, fields: dict[str, Any]
) -> None:
    error = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}
    upstream.failing = (429, {"retry-after": "17", "x-request-id": "req_9"}, json.dumps(error).encode())
    answer = post(child, path, upstream_url + base, **fields)
    assert answer.status == 429
    assert len(upstream.requests) == 1
    failure = failure_of(answer)
    assert failure is not None
    assert (failure.kind, failure.status, failure.message) == ("answered", 429, "slow down")
    assert failure.headers == {"retry-after": "17", "x-request-id": "req_9"}


def test_a_status_is_not_guessed_from_words(child: Child, upstream: Upstream, upstream_url: str) -> None:
    # LiteLLM itself answers 429 to this: it finds "rate limit" in the text.
    upstream.failing = (400, {}, b'{"error": {"message": "no rate limit for you", "type": "rate_limit"}}')
    answer = post(child, "/v1/messages", upstream_url + "/v1", model="openai/gpt-4o", messages=HELLO, max_tokens=5)
    failure = failure_of(answer)
    assert failure is not None
    assert failure.status == 400


def test_an_upstream_that_is_not_there_is_told(child: Child) -> None:
    base = f"http://127.0.0.1:{free_port()}/v1"
    for path, fields in (
        ("/v1/chat/completions", {"model": "openai/m", "messages": HELLO}),
        ("/v1/images/generations", {"model": "openai/m", "prompt": "a"}),
    ):
        assert failure_of(post(child, path, base, **fields)) == Failure(kind="unreachable")
