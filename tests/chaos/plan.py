"""What a run will do, drawn from its seed alone: each client's calls, and which fault comes when.

The same seed gives the same calls and faults in the same order; which call a fault meets is left to the machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

Departure = Literal["stays", "before headers", "before the first chunk", "mid-stream"]
DEPARTURES: tuple[Departure, ...] = ("before headers", "before the first chunk", "mid-stream")
CHAT, COMPLETIONS, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"
# What the provider does, and how often. Calls take 0 to some 300 ms, so that a kill meets some within their answers.
DIRECT_MANNERS = {
    "plain": 5,
    "slow-20ms": 6,
    "cached+slow-5ms": 3,
    "reasoning": 2,
    "no-usage": 1,
    "gzip": 1,
    "brotli": 1,
    "dies-mid-stream": 2,
    "ends-early": 1,
    "error-event": 1,
    "hang-mid-stream": 1,
    "hang-before-headers": 1,
    "400": 1,
    "429": 1,
    "500": 1,
}
TRANSLATED_MANNERS = {"plain": 5, "slow-20ms": 4, "cached": 2, "dies-mid-stream": 1, "429": 1, "500": 1}
FAULTS = (
    "gateway killed",
    "recorder killed",
    "LiteLLM child killed",
    "all killed",
    "database stopped",
    "database locked",
    "database slow",
    "killed while the database is away",
    "recorder killed at its locked tables",
    "journal disk full",
    "journal replayed",
)


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `stays_bytes`: how much of the answer is read before a departure 'mid-stream'."""

    marker: str
    path: str
    model: str
    is_stream: bool
    is_translated: bool
    departure: Departure
    stays_s: float
    stays_bytes: int
    pause_s: float

    def body(self) -> bytes:
        # Not every translation takes the user along: what was said names the call then.
        text = self.marker if self.is_translated else "one two three " * 3
        said: dict[str, Any] = {"model": self.model, "stream": self.is_stream}
        if self.path == MESSAGES:
            said |= {"max_tokens": 100, "metadata": {"user_id": self.marker}}
        else:
            said["user"] = self.marker
        if self.path == RESPONSES:
            said["input"] = text
        elif self.path == COMPLETIONS:
            said["prompt"] = text
        else:
            said["messages"] = [{"role": "user", "content": text}]
        return json.dumps(said).encode()


def calls(seed: int, name: str, client: int, *, is_translated: bool) -> Iterator[Call]:
    """The endless calls of one client; markers begin with `name`."""
    draw = Random(f"{seed}/{client}/{is_translated}")
    lane = "t" if is_translated else "d"
    number = 0
    while True:
        number += 1
        marker = f"{name}-{lane}{client}-{number}"
        yield _translated(draw, marker) if is_translated else _direct(draw, marker)


def faults(seed: int, names: tuple[str, ...] = FAULTS) -> Iterator[tuple[str, Random]]:
    """Endless: every fault once in each round, in an order of its own; with each a source of its own chances."""
    draw = Random(f"{seed}/faults")
    while True:
        for name in draw.sample(names, len(names)):
            yield name, Random(draw.random())


def _direct(draw: Random, marker: str) -> Call:
    path = draw.choice((CHAT, CHAT, CHAT, MESSAGES, MESSAGES, RESPONSES, COMPLETIONS))
    family = "claude" if path == MESSAGES else "fake"
    model = f"{family}-{_weighted(draw, DIRECT_MANNERS)}"
    if path == CHAT and draw.random() < 0.1:
        model = draw.choice(("retried", "dead"))
    return _call(draw, marker, path, model, is_translated=False)


def _translated(draw: Random, marker: str) -> Call:
    path = draw.choice((CHAT, MESSAGES))
    family = "fake" if path == MESSAGES else "claude"
    return _call(draw, marker, path, f"{family}-{_weighted(draw, TRANSLATED_MANNERS)}", is_translated=True)


def _weighted(draw: Random, weights: dict[str, int]) -> str:
    return draw.choices(list(weights), list(weights.values()))[0]


def _call(draw: Random, marker: str, path: str, model: str, *, is_translated: bool) -> Call:
    is_stream = draw.random() < 0.7
    departure: Departure = draw.choice(DEPARTURES) if draw.random() < 0.15 else "stays"
    return Call(
        marker,
        path,
        model,
        is_stream,
        is_translated,
        departure,
        stays_s=draw.uniform(0, 0.1),
        stays_bytes=draw.randrange(1, 2000),
        pause_s=draw.uniform(0, 0.05),
    )
