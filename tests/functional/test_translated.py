"""The translated lane in a whole installation: processes, books and restart. What the lane does with each kind of call
is in tests/proxy/lanes; here every call must end as exactly one row of the ledger."""

from __future__ import annotations

import os
import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.functional.installation import Installation, wait_until
from tests.functional.provider_books import FakeProvider

RATES = {"input_cost_per_token": 0.000001, "output_cost_per_token": 0.000002}
SAID = "one two three"  # 3 words in; 6 + 3 out
PAID_NANO_USD = 3 * 1000 + 9 * 2000


def configuration(provider: FakeProvider) -> dict[str, Any]:
    def entry(name: str, model: str, base: str, **more: Any) -> dict[str, Any]:
        return {"model_name": name, "litellm_params": {"model": model, "api_base": base, "api_key": "sk-up", **more}}

    return {
        "model_list": [
            entry("claude", "anthropic/fake-plain", provider.url, **RATES),
            entry("gpt", "openai/fake-plain", provider.openai_base, **RATES),
            entry("voice", "openai/tts-1", provider.openai_base) | {"lane": "litellm"},
        ]
    }


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


@pytest.fixture(scope="module")
def house(provider: FakeProvider) -> Iterator[Installation]:
    with (
        tempfile.TemporaryDirectory(prefix="tt-") as directory,
        Installation(Path(directory), configuration(provider)) as installation,
    ):
        installation.initialise()
        installation.start("proxy")
        wait_until(lambda: child_answers(installation), 40, "the LiteLLM child")
        yield installation


def child_answers(house: Installation) -> bool:
    """No reason in /health/ready names the child any more."""
    status, _, body = house.call("GET", f"{house.proxy_url}/health/ready")
    return status == 200 and b"LiteLLM" not in body


def ledger(house: Installation, call_id: str) -> dict[str, Any]:
    """The one row of a call, once the recorder booked it."""

    def rows() -> list[dict[str, Any]]:
        database = sqlite3.connect(f"file:{house.data_dir}/token_tracker.db?mode=ro", uri=True)
        database.row_factory = sqlite3.Row
        try:
            found = database.execute("SELECT * FROM token_usage WHERE call_id = ?", (call_id,)).fetchall()
        finally:
            database.close()
        return [dict(row) for row in found]

    found: list[dict[str, Any]] = wait_until(rows, 10, f"the row of {call_id}")
    assert len(found) == 1
    return found[0]


def openai_client(house: Installation) -> openai.OpenAI:
    return openai.OpenAI(api_key=house.key, base_url=house.proxy_url + "/v1", max_retries=0)


@pytest.mark.parametrize("stream", [False, True])
def test_an_openai_client_on_an_upstream_of_anthropics_format_is_one_row(house: Installation, stream: bool) -> None:
    answer = openai_client(house).chat.completions.with_raw_response.create(
        model="claude", stream=stream, messages=[{"role": "user", "content": SAID}]
    )
    if stream:
        list(answer.parse())  # type: ignore[call-overload]
    row = ledger(house, answer.headers["x-tt-request-id"])
    assert (row["lane"], row["provider"], row["stream"]) == ("litellm", "anthropic", stream)
    assert (row["input_tokens"], row["output_tokens"], row["cost_nano_usd"]) == (3, 9, PAID_NANO_USD)
    assert (row["usage_source"], row["cost_source"], row["end_reason"]) == ("provider", "priced", "complete")


@pytest.mark.parametrize("stream", [False, True])
def test_an_anthropic_client_on_an_upstream_of_openais_format_is_one_row(house: Installation, stream: bool) -> None:
    client = anthropic.Anthropic(api_key=house.key, base_url=house.proxy_url, max_retries=0)
    answer = client.messages.with_raw_response.create(
        model="gpt", max_tokens=100, stream=stream, messages=[{"role": "user", "content": SAID}]
    )
    if stream:
        list(answer.parse())  # type: ignore[call-overload]
    row = ledger(house, answer.headers["x-tt-request-id"])
    assert (row["lane"], row["provider"], row["endpoint"]) == ("litellm", "openai", "/v1/messages")
    assert (row["input_tokens"], row["output_tokens"], row["cost_nano_usd"]) == (3, 9, PAID_NANO_USD)


def test_speech_is_one_row_completed_by_the_callback(house: Installation) -> None:
    answer = openai_client(house).audio.speech.with_raw_response.create(model="voice", voice="alloy", input="hello")
    row = ledger(house, answer.headers["x-tt-request-id"])
    # An estimate would say some input tokens; the callback says there are none. Nobody bills a loopback upstream.
    assert (row["input_tokens"], row["usage_source"], row["cost_source"]) == (0, "provider", "local")


def test_a_killed_child_is_started_again_and_direct_calls_never_notice(house: Installation) -> None:
    client = openai_client(house)
    (pid,) = house.child_pids("litellm")
    os.kill(pid, signal.SIGKILL)

    def refused() -> openai.InternalServerError | None:
        # A call on a connection that is just closing may have been served, so that is 502 and not this.
        with pytest.raises(openai.InternalServerError) as error:
            client.chat.completions.create(model="claude", messages=[{"role": "user", "content": SAID}])
        return error.value if error.value.status_code == 503 else None

    refusal: openai.InternalServerError = wait_until(refused, 2, "a refusal")
    assert refusal.response.headers["x-tt-code"] == "lane_unavailable"
    assert int(refusal.response.headers["retry-after"]) > 0
    direct = client.chat.completions.create(model="gpt", messages=[{"role": "user", "content": SAID}])
    assert direct.usage is not None and direct.usage.completion_tokens == 9
    wait_until(lambda: house.child_pids("litellm") not in ([], [pid]) and child_answers(house), 40, "a new child")
    again = client.chat.completions.create(model="claude", messages=[{"role": "user", "content": SAID}])
    assert again.usage is not None and again.usage.completion_tokens == 9
