"""Two hundred clients against one hard budget: they ask for random sizes and leave at random until it is spent."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.functional.installation import Installation, wait_until
from tests.functional.provider_books import FakeProvider

CLIENTS = 200
MODEL = "storm"
INPUT_NANO_USD, OUTPUT_NANO_USD = 1_000, 2_000
RATES = {"input_cost_per_token": 0.000001, "output_cost_per_token": 0.000002}
LEAST_OUTPUT = 8  # tokens that a client asks for when nothing larger fits
MOST_OUTPUT = 60
BOUND_S = 120


_USAGE = re.compile(rb'"prompt_tokens":\s*(\d+),\s*"completion_tokens":\s*(\d+)')


def cost_of(answer: bytes) -> int:
    """What the answer's own usage costs."""
    read, said = _USAGE.findall(answer)[-1]
    return int(read) * INPUT_NANO_USD + int(said) * OUTPUT_NANO_USD


@dataclass
class Storm:
    """`seen_nano_usd`: what the answers that came whole said they cost."""

    installation: Installation
    seed: int
    leaving: float = 0.1  # share of streams whose client leaves after the first piece
    codes: Counter[str] = field(default_factory=Counter)
    seen_nano_usd: int = 0
    left: int = 0
    broken: int = 0
    _stop_at_s: float = 0.0

    def run(self, at: dict[int, Callable[[], None]] | None = None) -> None:
        """Until every client was told that nothing fits any more. `at`: what to do once so much was seen spent."""
        self._stop_at_s = time.monotonic() + BOUND_S
        asyncio.run(self._all(dict(sorted((at or {}).items()))))

    async def _all(self, at: dict[int, Callable[[], None]]) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=30)
        headers = {"authorization": f"Bearer {self.installation.key}"}
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:
            watch = asyncio.create_task(self._watch(at))
            await asyncio.gather(*(self._client(session, number) for number in range(CLIENTS)))
            watch.cancel()
        assert not at, "not so much was ever spent"

    async def _watch(self, at: dict[int, Callable[[], None]]) -> None:
        while at:
            spent = next(iter(at))
            if self.seen_nano_usd >= spent:
                await asyncio.to_thread(at.pop(spent))
            await asyncio.sleep(0.01)

    async def _client(self, session: aiohttp.ClientSession, number: int) -> None:
        rng = random.Random(self.seed * 1_000 + number)
        is_modest = False
        while True:
            assert time.monotonic() < self._stop_at_s, f"the storm did not end: {dict(self.codes)}"
            most = LEAST_OUTPUT if is_modest else rng.randint(LEAST_OUTPUT, MOST_OUTPUT)
            words = " ".join("word" for _ in range(LEAST_OUTPUT if is_modest else rng.randint(5, MOST_OUTPUT)))
            streams = not is_modest and rng.random() < 0.5
            leaves = streams and rng.random() < self.leaving
            code = await self._call(session, most, words, streams, leaves)
            self.codes[code] += 1
            if code == "budget_exceeded":
                if is_modest:
                    return
                is_modest = True
            elif code != "200":
                await asyncio.sleep(0.02 + 0.1 * rng.random())

    async def _call(self, session: aiohttp.ClientSession, most: int, words: str, streams: bool, leaves: bool) -> str:
        body = {
            "model": MODEL,
            "max_tokens": most,
            "stream": streams,
            "stream_options": {"include_usage": True} if streams else None,
            "messages": [{"role": "user", "content": words}],
        }
        body = {name: value for name, value in body.items() if value is not None}
        url = f"{self.installation.proxy_url}/v1/chat/completions"
        try:
            async with session.post(url, json=body) as answer:
                if answer.status != 200:
                    return str(answer.headers.get("x-tt-code") or answer.status)
                if leaves:
                    await answer.content.readany()
                    self.left += 1
                    answer.close()
                    return "200"
                whole = await answer.read()
                if streams and b"[DONE]" not in whole:
                    self.broken += 1
                    return "broken"
                self.seen_nano_usd += cost_of(whole)
                return "200"
        except (aiohttp.ClientError, OSError, TimeoutError):
            self.broken += 1
            return "broken"


def billed_nano_usd(provider: FakeProvider) -> int:
    return sum(
        entry["billed"].get("input_tokens", 0) * INPUT_NANO_USD
        + entry["billed"].get("output_tokens", 0) * OUTPUT_NANO_USD
        for entry in provider.books(slim=True)
    )


def settled(house: Installation) -> dict[str, Any]:
    """The budget's status once nothing is in flight and all is booked."""
    headers = house.login()
    (budget,) = json.loads(house.call("GET", f"{house.api_url}/api/budgets", headers=headers)[2])["items"]

    def quiet() -> dict[str, Any] | None:
        status = json.loads(house.call("GET", f"{house.api_url}/api/budgets/{budget['id']}/status", headers=headers)[2])
        return status if float(status["held_usd"]) == 0 else None

    status: dict[str, Any] = wait_until(quiet, 60, "held is 0")
    return status


def nano(text: str) -> int:
    return round(float(text) * 1_000_000_000)
