"""OpenAI's and Anthropic's own clients under rules: their proper exceptions, and they stop or wait as they should."""

from __future__ import annotations

import time

import anthropic
import openai
import pytest

from tests.proxy.conftest import MakeHouse
from tests.proxy.house import KEY, House
from tests.proxy.permits.rules import budget, rate, under
from tests.proxy.upstream import Upstream
from token_tracker.domain.rules import FreezeRule

MESSAGE = [{"role": "user", "content": "hi"}]


def openai_client(house: House, **more: int) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{house.port}/v1", api_key=KEY, **more)


def anthropic_client(house: House, **more: int) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=f"http://127.0.0.1:{house.port}", api_key=KEY, **more)


def test_a_spent_budget_stops_openais_client_at_once(make_house: MakeHouse, upstream: Upstream) -> None:
    house = under(make_house, budget(0.0001))
    with openai_client(house, max_retries=5) as client, pytest.raises(openai.APIStatusError) as raised:
        started_s = time.monotonic()
        client.chat.completions.create(model="gpt", messages=MESSAGE, max_tokens=10_000)  # type: ignore[arg-type]
    assert time.monotonic() - started_s < 2  # five retries take longer
    assert raised.value.status_code == 402 and upstream.seen == []
    error = raised.value
    assert error.code == "budget_exceeded" and error.type == "insufficient_quota"
    assert isinstance(error.body, dict) and error.body["details"]["limit"] == "0.000100000"


def test_a_spent_budget_stops_anthropics_client_at_once(make_house: MakeHouse, upstream: Upstream) -> None:
    house = under(make_house, budget(0.0001))
    with anthropic_client(house, max_retries=5) as client, pytest.raises(anthropic.APIStatusError) as raised:
        started_s = time.monotonic()
        client.messages.create(model="gpt", max_tokens=10_000, messages=MESSAGE)  # type: ignore[arg-type]
    assert time.monotonic() - started_s < 2
    assert raised.value.status_code == 402 and upstream.seen == []
    assert isinstance(raised.value.body, dict) and raised.value.body["error"]["type"] == "billing_error"


def test_a_full_rate_is_each_clients_rate_limit_error(make_house: MakeHouse) -> None:
    house = under(make_house, rates=[rate(1)])
    assert house.chat().status == 200
    with openai_client(house, max_retries=0) as client, pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(model="gpt", messages=MESSAGE)  # type: ignore[arg-type]
    assert raised.value.code == "rate_limit_exceeded" and int(raised.value.response.headers["retry-after"]) >= 1
    with anthropic_client(house, max_retries=0) as other, pytest.raises(anthropic.RateLimitError):
        other.messages.create(model="gpt", max_tokens=1, messages=MESSAGE)  # type: ignore[arg-type]


def test_clients_wait_as_long_as_a_rate_says_and_then_come_through(make_house: MakeHouse) -> None:
    house = under(make_house, rates=[rate(1, period="second")])
    with openai_client(house, max_retries=3) as client:
        for _ in range(2):
            client.chat.completions.create(model="gpt", messages=MESSAGE)  # type: ignore[arg-type]
    assert len(house.rows()) == 2


def test_a_freeze_is_each_clients_permission_error(make_house: MakeHouse) -> None:
    house = under(make_house, freezes=[FreezeRule("f", "global", "", "", "incident")])
    with openai_client(house) as client, pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(model="gpt", messages=MESSAGE)  # type: ignore[arg-type]
    with anthropic_client(house) as other, pytest.raises(anthropic.PermissionDeniedError):
        other.messages.create(model="gpt", max_tokens=1, messages=MESSAGE)  # type: ignore[arg-type]


def test_a_stream_that_is_cut_ends_for_openais_client_by_its_length(make_house: MakeHouse, upstream: Upstream) -> None:
    from tests.proxy.upstream import Out, Seen, delta

    async def answer(seen: Seen, out: Out) -> None:
        await out.begin_stream()
        for number in range(2000):
            await out.chunk(delta(f"word {number} "))

    upstream.answer = answer
    house = under(make_house, budget(1.0))
    with openai_client(house) as client:
        chunks = list(
            client.chat.completions.create(model="gpt", messages=MESSAGE, max_tokens=10, stream=True)  # type: ignore[call-overload]
        )
    assert chunks[-1].choices[0].finish_reason == "length"
    assert house.row().end_reason == "budget_cutoff"
