"""What LiteLLM sends upstream never exceeds what was held, whatever the client said and under whichever name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from tests.functional.provider_books import FakeProvider, body_of
from tests.proxy.house import wait_until
from tests.proxy.lanes.translating import Lane, running_lane
from tests.proxy.permits.rules import budget
from token_tracker.config.values import Deployment, Secret
from token_tracker.proxy.books.publication import RulesRecord
from token_tracker.proxy.books.records import Open

RATES = {"input_cost_per_token": Decimal("0.000001"), "output_cost_per_token": Decimal("0.000002")}
MESSAGES = [{"role": "user", "content": "one two three"}]
NAMES = ("max_tokens", "max_completion_tokens", "max_output_tokens")
DEFAULT = 8192


def models(provider: FakeProvider) -> dict[str, tuple[Deployment, ...]]:
    def at(name: str, kind: str, **more: Any) -> Deployment:
        base = provider.url if kind == "anthropic" else provider.openai_base
        return Deployment(name, kind, "fake-plain", base, Secret("sk-up"), rates=RATES, **more)

    greedy = {"max_tokens": 100_000, "n": 7}
    every = [
        at("claude", "anthropic"),
        at("gpt", "openai", lane="litellm"),
        at("greedy-claude", "anthropic", litellm_params=greedy),
        at("greedy-gpt", "openai", lane="litellm", litellm_params=greedy),
    ]
    return {each.name: (each,) for each in every}


@pytest.fixture(scope="module")
def lane() -> Iterator[Lane]:
    with running_lane(models, rules=RulesRecord((budget(100.0),))) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "model", "body", "most"),
    [
        ("chat/completions", "claude", {}, DEFAULT),
        ("chat/completions", "claude", {"max_tokens": 100}, 100),
        ("chat/completions", "claude", {"max_completion_tokens": 100}, 100),
        ("chat/completions", "claude", {"max_completion_tokens": 100, "max_tokens": 200}, 200),
        ("chat/completions", "claude", {"max_tokens": -1}, DEFAULT),
        ("chat/completions", "claude", {"reasoning_effort": "high", "max_tokens": 2000}, 2000),
        ("chat/completions", "claude", {"reasoning_effort": "high"}, DEFAULT),
        ("chat/completions", "gpt", {"n": 3, "max_tokens": 100}, 100),
        ("chat/completions", "greedy-claude", {"max_tokens": 100}, 100),
        ("chat/completions", "greedy-gpt", {}, DEFAULT),
        ("messages", "gpt", {"max_tokens": 5}, 5),
        ("messages", "greedy-gpt", {"max_tokens": 50}, 50),
        ("responses", "claude", {"max_output_tokens": 50}, 50),
        ("responses", "claude", {}, DEFAULT),
        ("responses", "greedy-claude", {}, DEFAULT),
    ],
)
def test_the_upstream_gets_at_most_the_maximum_that_is_held(
    lane: Lane, path: str, model: str, body: dict[str, Any], most: int
) -> None:
    asked = {"input": "one two three"} if path == "responses" else {"messages": MESSAGES}
    reply = lane.house.call({"model": model, **asked, **body}, f"/v1/{path}")
    assert reply.status == 200, reply.body
    sent = json.loads(body_of(lane.provider.books()[-1]))
    named = [sent[name] for name in NAMES if name in sent]
    assert named and max(named) <= most
    opened = next(r for r in lane.house.records() if isinstance(r, Open) and r.id == reply.id)
    answers = sent.get("n") or 1
    assert answers <= body.get("n", 1)
    assert opened.held_nano_usd >= answers * max(named) * 2000
    row = wait_until(lambda: [r for r in lane.house.rows() if r.opened.id == reply.id], "its row")[0]
    assert row.overrun_nano_usd == 0 and row.unproven_nano_usd == 0
