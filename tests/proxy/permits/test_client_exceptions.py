"""Every refusal of the gate is each official client's own exception; both stop, or come back when they were told to."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import anthropic
import openai
import pytest

from tests.proxy.conftest import MakeHouse
from tests.proxy.house import House, wait_until
from tests.proxy.permits.rules import budget, rate, under
from tests.proxy.permits.test_clients import MESSAGE, anthropic_client, openai_client
from tests.proxy.upstream import Out, Seen, Upstream, complete
from token_tracker.config.values import Secret
from token_tracker.domain.rules import FreezeRule

RETRIES = 2
NOWHERE = "redis://127.0.0.1:9"
WEB_SEARCH = [{"type": "web_search_20250305", "name": "web_search"}]
Call = dict[str, Any]

# code, status, the clients' exception, what each says of its kind, the call, whether a client tries again
REFUSALS: list[tuple[str, int, str, str, Call, bool]] = [
    ("frozen", 403, "PermissionDeniedError", "permission_error", {}, False),
    ("price_unknown", 402, "APIStatusError", "billing_error", {"model": "unpriced"}, False),
    ("cost_unbounded", 402, "APIStatusError", "billing_error", {"extra_body": {"tools": WEB_SEARCH}}, False),
    ("budget_exceeded", 402, "APIStatusError", "billing_error", {"max_tokens": 20_000}, False),
    ("budget_held", 429, "RateLimitError", "rate_limit_error", {"max_tokens": 10_000}, True),
    ("rate_limit_exceeded", 429, "RateLimitError", "rate_limit_error", {}, True),
    ("counter_building", 503, "InternalServerError", "api_error", {}, True),
    ("store_recovering", 503, "InternalServerError", "api_error", {}, True),
]


class Clock:
    """Stands in for a client's `time`: it notes how long the client would sleep, and goes on."""

    def __init__(self) -> None:
        self.waits_s: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        self.waits_s.append(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for client in ("openai", "anthropic"):
        monkeypatch.setattr(f"{client}._base_client.time", made)
    return made


def house_that_refuses(code: str, make_house: MakeHouse) -> House:
    match code:
        case "frozen":
            return under(make_house, freezes=[FreezeRule("f", "global", "", "", "incident")])
        case "rate_limit_exceeded":
            return under(make_house, rates=[rate(0)])
        case "counter_building":
            return under(make_house, budget(1.0, is_built=False))
        case "store_recovering":
            return under(make_house, budget(1.0), settings={"redis_url": Secret(NOWHERE)})
    house = under(make_house, budget(0.03))
    house.configuration.models.exact["unpriced"] = (house.deployment("unpriced", rates=None),)  # type: ignore[index]
    return house


@contextlib.contextmanager
def in_flight(house: House, upstream: Upstream) -> Iterator[None]:
    """A call that holds most of the budget for as long as this lasts."""
    open_it, wait = upstream.gate()

    async def answer(seen: Seen, out: Out) -> None:
        await wait()
        await complete(seen, out)

    upstream.answer = answer
    first = threading.Thread(target=house.chat, kwargs={"max_tokens": 10_000})
    first.start()
    wait_until(lambda: upstream.seen, "the first call in flight")
    yield
    open_it()
    first.join(10)


def refused(call: Callable[[], object], error: type[Exception], clock: Clock) -> tuple[Any, list[float]]:
    """The client's exception, and how long it waited before each further attempt."""
    clock.waits_s = []
    with pytest.raises(error) as raised:
        call()
    return raised.value, clock.waits_s


@pytest.mark.parametrize(("code", "status", "error", "kind", "call", "comes_back"), REFUSALS)
def test_a_refusal_is_each_clients_own_exception_and_both_stop_or_come_back_as_they_are_told(
    make_house: MakeHouse,
    upstream: Upstream,
    clock: Clock,
    code: str,
    status: int,
    error: str,
    kind: str,
    call: Call,
    comes_back: bool,
) -> None:
    house = house_that_refuses(code, make_house)
    asked: Any = {"model": "gpt", "max_tokens": 10, "messages": MESSAGE} | call
    context = in_flight(house, upstream) if code == "budget_held" else contextlib.nullcontext()
    with (
        context,
        openai_client(house, max_retries=RETRIES) as theirs,
        anthropic_client(house, max_retries=RETRIES) as others,
    ):
        forwarded = len(upstream.seen)
        said, waits_s = refused(lambda: theirs.chat.completions.create(**asked), getattr(openai, error), clock)
        assert (said.status_code, said.code, said.response.headers["x-tt-code"]) == (status, code, code)
        check_waits(said, waits_s, comes_back)
        said, waits_s = refused(lambda: others.messages.create(**asked), getattr(anthropic, error), clock)
        assert (said.status_code, said.body["error"]["type"], said.body["error"]["code"]) == (status, kind, code)
        check_waits(said, waits_s, comes_back)
        assert len(upstream.seen) == forwarded, "nothing was forwarded"


def check_waits(said: Any, waits_s: list[float], comes_back: bool) -> None:
    if not comes_back:
        assert waits_s == []
        return
    assert len(waits_s) == RETRIES
    told_s = int(said.response.headers["retry-after"])
    assert told_s >= 1
    assert all(abs(wait_s - told_s) <= 1 for wait_s in waits_s), "as long as it was told, the time to the minute's end"


def test_the_client_comes_through_once_calls_in_flight_have_ended(
    make_house: MakeHouse, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = under(make_house, budget(0.03))
    waits_s: list[float] = []
    with contextlib.ExitStack() as first, openai_client(house, max_retries=RETRIES) as client:
        first.enter_context(in_flight(house, upstream))

        def sleep(seconds: float) -> None:
            waits_s.append(seconds)
            first.close()

        stand_in = SimpleNamespace(sleep=sleep, time=time.time, monotonic=time.monotonic)
        monkeypatch.setattr("openai._base_client.time", stand_in)
        answer = client.chat.completions.create(model="gpt", messages=MESSAGE, max_tokens=10_000)  # type: ignore[arg-type]
    assert answer.choices and len(waits_s) == 1
