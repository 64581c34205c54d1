"""The official SDK clients against the real gateway process, in front of a provider that keeps its own books."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.functional.installation import ROOT, wait_until
from tests.functional.provider_books import FakeProvider
from tests.ports import free_ports
from tests.proxy.house import KEY, key_record, publish
from token_tracker.domain.usage import TOKEN_CLASSES
from token_tracker.proxy.books import framing
from token_tracker.proxy.books.records import End, Open

RATES = {"input_cost_per_token": 0.000001, "output_cost_per_token": 0.000002}
CHAT_MANNERS = [
    "plain", "cached", "reasoning", "audio", "usage-in-choices", "usage-in-x-groq", "usage-in-every-chunk",
    "usage-unasked", "null-details", "crlf", "comments", "multiline", "no-space", "cut-every-byte",
    "content-length-sse", "gzip", "brotli",
]  # fmt: skip
MESSAGES_MANNERS = [
    "plain",
    "cached",
    "reasoning",
    "crlf",
    "comments",
    "multiline",
    "no-space",
    "cut-every-byte",
    "gzip",
    "brotli",
]


class GatewayProcess:
    """`run gateway` alone: no recorder and no database, a snapshot as it would have been left by one."""

    def __init__(self, directory: Path, provider: FakeProvider) -> None:
        self.data_dir = directory / "data"
        openai_like = {"model": "openai/*", "api_base": provider.openai_base, "api_key": "sk-up", **RATES}
        claude_like = {"model": "anthropic/*", "api_base": provider.url, "api_key": "sk-up", **RATES}
        models = [
            {"model_name": "fake-*", "litellm_params": {**openai_like, "model": "openai/fake-*"}},
            {"model_name": "claude/*", "litellm_params": claude_like},
        ]
        config = directory / "proxy.yaml"
        config.write_text(json.dumps({"model_list": models}))
        publish(self.data_dir / "snapshot", {KEY: key_record(models=("fake-*", "claude/*"))})
        port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{port}"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("TOKEN_TRACKER_") and "_API_KEY" not in k}
        self._environment = {
            **inherited,
            "PYTHONPATH": str(ROOT),
            "TOKEN_TRACKER_CONFIG": str(config),
            "TOKEN_TRACKER_DATA_DIR": str(self.data_dir),
            "TOKEN_TRACKER_PROXY_PORT": str(port),
        }
        self._directory = directory
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> GatewayProcess:
        command = [sys.executable, "-m", "token_tracker.run", "gateway"]
        with (self._directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self._environment, cwd=self._directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            wait_until(self._answers, 20, "start of the gateway")
        except AssertionError:
            raise AssertionError(self.log()) from None
        return self

    def stop(self, sent: int = signal.SIGINT) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(sent)
        return process.wait(10)

    def log(self) -> str:
        return (self._directory / "log").read_text()

    def records(self) -> list[Any]:
        found: list[Any] = []
        for segment in sorted((self.data_dir / "journal").rglob("*")):
            data = segment.read_bytes() if segment.is_file() else b""
            if data.startswith(framing.MAGIC):
                found += [framing.decode(payload) for _, payload in framing.split(data[len(framing.MAGIC) :])[0]]
        return found

    def row(self, end_user: str) -> End:
        """The one row of the call that named this end user."""

        def rows() -> list[End]:
            ends = (record for record in self.records() if isinstance(record, End))
            return [end for end in ends if end.opened.subject.end_user == end_user]

        found: list[End] = wait_until(rows, 10, f"the row of {end_user}")
        assert len(found) == 1
        return found[0]

    def _answers(self) -> bool:
        try:
            openai.OpenAI(base_url=self.url + "/v1", api_key=KEY, max_retries=0, timeout=2).models.list()
        except openai.APIConnectionError:
            assert self.process is not None and self.process.poll() is None, self.log()
            return False
        return True


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture(scope="module")
def gateway(provider: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    running = GatewayProcess(tmp_path_factory.mktemp("gateway"), provider).start()
    yield running
    assert running.stop() == 0, running.log()
    assert "Traceback" not in running.log()


@pytest.fixture
def chat(gateway: GatewayProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def claude(gateway: GatewayProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.url, api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def marker() -> str:
    return f"user-{uuid.uuid4().hex}"


def usage_of(row: End) -> dict[str, int]:
    return {name: count for name, count in zip(TOKEN_CLASSES, row.tokens, strict=True) if count}


def assert_booked_as_billed(gateway: GatewayProcess, provider: FakeProvider, marker: str) -> End:
    """The row says what the provider's own books say."""
    row, entry = gateway.row(marker), provider.entry(marker)
    assert usage_of(row) == entry["billed"]
    assert (row.usage_source, row.cost_source, row.end_reason) == ("provider", "priced", "complete")
    assert row.upstream_id == entry["id"]
    return row


@pytest.mark.parametrize("manner", CHAT_MANNERS)
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_chat_completion_is_booked_as_the_provider_billed_it(
    gateway: GatewayProcess, provider: FakeProvider, chat: openai.OpenAI, marker: str, manner: str, is_stream: bool
) -> None:
    asked: Any = {"model": f"fake-{manner}", "messages": [{"role": "user", "content": "Tell me more"}], "user": marker}
    text = ""
    if is_stream:
        for chunk in chat.chat.completions.create(stream=True, **asked):
            assert chunk.choices or manner == "usage-unasked", "the usage chunk was not asked for"
            text += chunk.choices[0].delta.content or "" if chunk.choices else ""
    else:
        text = chat.chat.completions.create(**asked).choices[0].message.content or ""
    assert text == "Hello from Token Tracker! You said: Tell me more"
    assert_booked_as_billed(gateway, provider, marker)


@pytest.mark.parametrize("manner", MESSAGES_MANNERS)
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_message_is_booked_as_the_provider_billed_it(
    gateway: GatewayProcess,
    provider: FakeProvider,
    claude: anthropic.Anthropic,
    marker: str,
    manner: str,
    is_stream: bool,
) -> None:
    asked: Any = {
        "model": f"claude/fake-{manner}",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Tell me more"}],
        "metadata": {"user_id": marker},
    }
    if is_stream:
        with claude.messages.stream(**asked) as stream:
            text = stream.get_final_text()
    else:
        text = claude.messages.create(**asked).content[0].text
    assert text == "Hello from Token Tracker! You said: Tell me more"
    assert_booked_as_billed(gateway, provider, marker)


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_response_is_booked_as_the_provider_billed_it(
    gateway: GatewayProcess, provider: FakeProvider, chat: openai.OpenAI, marker: str, is_stream: bool
) -> None:
    asked: Any = {"model": "fake-cached+reasoning", "input": "Tell me more", "user": marker}
    if is_stream:
        last = list(chat.responses.create(stream=True, **asked))[-1]
        assert last.type == "response.completed"
    else:
        assert chat.responses.create(**asked).output_text.endswith("Tell me more")
    row = assert_booked_as_billed(gateway, provider, marker)
    assert row.opened.endpoint == "/v1/responses"


def test_embeddings_are_booked_as_the_provider_billed_them(
    gateway: GatewayProcess, provider: FakeProvider, chat: openai.OpenAI, marker: str
) -> None:
    made = chat.embeddings.create(model="fake-embedding", input=["one two", "three"], user=marker)
    assert len(made.data) == 2
    assert_booked_as_billed(gateway, provider, marker)


def test_errors_of_the_gateway_are_the_sdks_own_exceptions(
    gateway: GatewayProcess, claude: anthropic.Anthropic
) -> None:
    asked: Any = {"messages": [{"role": "user", "content": "x"}]}
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key=KEY, max_retries=0) as client:
        with pytest.raises(openai.NotFoundError, match="not configured here"):
            client.chat.completions.create(model="gpt-nowhere", **asked)
        with pytest.raises(openai.BadRequestError) as bad:
            client.chat.completions.create(model=7, **asked)  # type: ignore[call-overload]
        assert bad.value.code == "invalid_request_error"
    with (
        openai.OpenAI(base_url=gateway.url + "/v1", api_key="sk-tt-wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        stranger.chat.completions.create(model="fake-plain", **asked)
    assert refused.value.code == "invalid_api_key" and len(refused.value.request_id or "x" * 32) == 32
    with pytest.raises(anthropic.NotFoundError) as unknown:
        claude.messages.create(model="claude-nowhere", max_tokens=1, **asked)
    assert unknown.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]
    with (
        anthropic.Anthropic(base_url=gateway.url, api_key="sk-tt-wrong", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError),
    ):
        stranger.messages.create(model="claude/fake-plain", max_tokens=1, **asked)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (529, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_an_upstreams_error_is_the_sdks_own_exception_and_costs_nothing(
    gateway: GatewayProcess,
    chat: openai.OpenAI,
    marker: str,
    status: int,
    error: type[openai.APIStatusError],
    is_stream: bool,
) -> None:
    messages: Any = [{"role": "user", "content": "x"}]
    with pytest.raises(error) as raised:
        chat.chat.completions.create(model=f"fake-{status}", messages=messages, user=marker, stream=is_stream)
    assert raised.value.status_code == status
    if status == 429:
        assert raised.value.response.headers["retry-after"] == "7"
    row = gateway.row(marker)
    assert (row.status_code, row.end_reason, row.usage_source, row.cost_nano_usd) == (
        status,
        "upstream_error",
        "none",
        0,
    )


@pytest.mark.parametrize(
    ("manner", "reason"),
    [
        ("dies-mid-stream", "upstream_disconnect"),
        ("ends-early", "upstream_disconnect"),
        ("error-event", "upstream_error"),
    ],
)
@pytest.mark.parametrize("route", ["chat", "messages", "responses"])
def test_a_stream_that_goes_wrong_is_one_row_that_says_how(
    gateway: GatewayProcess,
    chat: openai.OpenAI,
    claude: anthropic.Anthropic,
    marker: str,
    manner: str,
    reason: str,
    route: str,
) -> None:
    messages: Any = [{"role": "user", "content": "Tell me more"}]
    broke = False
    try:
        if route == "chat":
            list(chat.chat.completions.create(model=f"fake-{manner}", messages=messages, user=marker, stream=True))
        elif route == "responses":
            list(chat.responses.create(model=f"fake-{manner}", input="Tell me more", user=marker, stream=True))
        else:
            asked: Any = {"messages": messages, "metadata": {"user_id": marker}, "stream": True, "max_tokens": 50}
            list(claude.messages.create(model=f"claude/fake-{manner}", **asked))
    except Exception:  # each SDK has its own, and passes on those of its HTTP client
        broke = True
    if manner != "error-event":  # each SDK has its own way with those
        assert broke == (manner == "dies-mid-stream")
    row = gateway.row(marker)
    assert (row.end_reason, row.status_code) == (reason, 200)
    assert row.usage_source in ("estimated", "provider_partial")
    assert row.tokens[0] > 0


def test_a_client_that_breaks_off_a_stream_leaves_one_row_with_the_providers_count(
    gateway: GatewayProcess, provider: FakeProvider, chat: openai.OpenAI, marker: str
) -> None:
    messages: Any = [{"role": "user", "content": "one two three four five six"}]
    stream = chat.chat.completions.create(model="fake-slow-50ms", messages=messages, user=marker, stream=True)
    next(iter(stream))
    stream.close()
    row, entry = gateway.row(marker), provider.entry(marker)
    assert (row.end_reason, row.usage_source) == ("client_disconnect", "provider")
    assert usage_of(row) == entry["billed"] and entry["reached_end"]


def test_models_are_listed_to_both_sdks(chat: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    assert list(chat.models.list()) == []  # all are behind wildcards here
    assert list(claude.models.list()) == []
    assert chat.models.retrieve("fake-plain").id == "fake-plain"
    assert claude.models.retrieve("fake-plain").type == "model"


def test_a_killed_gateway_leaves_its_open_calls_in_the_journal(
    tmp_path: Path, provider: FakeProvider, marker: str
) -> None:
    gateway = GatewayProcess(tmp_path, provider).start()
    messages: Any = [{"role": "user", "content": "x"}]
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key=KEY, max_retries=0) as client:
        client.chat.completions.create(model="fake-plain", messages=messages, user=marker)
        with client.chat.completions.create(
            model="fake-hang-mid-stream", messages=messages, user=marker, stream=True
        ) as stream:
            next(iter(stream))
            gateway.stop(signal.SIGKILL)
    opened = [record for record in gateway.records() if isinstance(record, Open)]
    ended = [record for record in gateway.records() if isinstance(record, End)]
    assert len(opened) == 2 and len(ended) == 1
    assert opened[0].id == ended[0].opened.id
    assert opened[1].subject.end_user == marker


def test_ctrl_c_ends_a_gateway_with_a_hanging_call_within_five_seconds(
    tmp_path: Path, provider: FakeProvider, marker: str
) -> None:
    gateway = GatewayProcess(tmp_path, provider).start()
    messages: Any = [{"role": "user", "content": "x"}]
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key=KEY, max_retries=0) as client:
        stream = client.chat.completions.create(
            model="fake-hang-mid-stream", messages=messages, user=marker, stream=True
        )
        next(iter(stream))
        process = gateway.process
        assert process is not None
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0
        stream.close()
    gateway.process = None
    row = gateway.row(marker)
    assert (row.end_reason, row.usage_source) == ("cancelled", "estimated")


def test_a_port_in_use_is_named_with_its_remedy(
    tmp_path: Path, gateway: GatewayProcess, provider: FakeProvider
) -> None:
    second = GatewayProcess(tmp_path, provider)
    second._environment["TOKEN_TRACKER_PROXY_PORT"] = gateway.url.rpartition(":")[2]
    command = [sys.executable, "-m", "token_tracker.run", "gateway"]
    ended = subprocess.run(command, env=second._environment, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert ended.returncode != 0
    assert "TOKEN_TRACKER_PROXY_PORT" in ended.stderr and "Traceback" not in ended.stderr
