"""The installation that most functional tests share, its models and prices, and its ledger as its API shows it."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import anthropic
import openai

from tests import leaks
from tests.functional.installation import DEMO_MODEL, ROOT, Installation, wait_until
from tests.functional.provider_books import FakeProvider

UPSTREAM_KEY = leaks.secret("upstream key", "sk-the-key-of-the-provider")
BEHAVIOUR = {"max_retries": 0, "timeout": 45}  # of the clients: an error is told at once, and where it hangs
# USD per token of the models 'fake-…' and 'claude-…'. The numbers that tests expect are worked out by hand from these:
# 3 in, 0.3 from a cache, 3.75 and 6 into it, 15 out, 20 reasoning, per million.
RATES = {
    "input_cost_per_token": 0.000003,
    "cache_read_input_token_cost": 0.0000003,
    "cache_creation_input_token_cost": 0.00000375,
    "cache_creation_input_token_cost_above_1hr": 0.000006,
    "output_cost_per_token": 0.000015,
    "output_cost_per_reasoning_token": 0.00002,
}


def model(name: str, upstream: str, api_base: str, **more: Any) -> dict[str, Any]:
    """An entry of `model_list` on the direct lane."""
    params = {"model": upstream, "api_base": api_base, "api_key": UPSTREAM_KEY, **more}
    return {"model_name": name, "lane": "direct", "litellm_params": params}


def models(provider: FakeProvider) -> list[dict[str, Any]]:
    openai_base, anthropic_base = provider.openai_base, provider.url
    public = f"http://provider.example:{provider.port}/v1"  # see hosts/sitecustomize.py
    return [
        DEMO_MODEL,
        model("fake-*", "openai/fake-*", openai_base, **RATES),
        model("claude-*", "anthropic/fake-*", anthropic_base, **RATES),
        model("alias-of-plain", "openai/fake-plain", openai_base, **RATES),
        model("gpt-4o", "openai/gpt-4o", public),
        model("dated", "openai/gpt-4o-mini-2024-07-18", public),
        model("renamed", "openai/my-own-deployment", public) | {"model_info": {"base_model": "gpt-4o"}},
        model("unknown-to-all", "openai/no-price-file-knows-me", public),
        model("mine", "openai/gpt-4o", openai_base),
        model("vllm", "hosted_vllm/gpt-4o", openai_base),
        model("exact", "groq/llama-special", openai_base),
        model("by-regex", "groq/llama-other", openai_base),
        model("by-star", "groq/qwen", openai_base),
        model("own-price", "groq/llama-special-too", openai_base, input_cost_per_token=1, output_cost_per_token=0),
        # Names with several deployments: the first one of each fails. None rests, so that tests do not meet.
        *several("retried", "openai/fake-500", "openai/fake-plain", openai_base),
        *several("retried-429", "openai/fake-429", "openai/fake-plain", openai_base),
        *several("claude_retried", "anthropic/fake-529", "anthropic/fake-plain", anthropic_base),
        *several("all-fail", "openai/fake-500", "openai/fake-503", openai_base),
        model("falls-back", "openai/fake-503", openai_base, **RATES),
        model("one", "openai/fake-429", openai_base, **RATES),
        model("dead", "openai/nobody-listens", "http://127.0.0.1:1/v1", **RATES),
    ]


def several(name: str, first: str, second: str, api_base: str) -> list[dict[str, Any]]:
    return [
        model(name, upstream, api_base, order=order, cooldown_time=0, **RATES)
        for order, upstream in enumerate((first, second), start=1)
    ]


ROUTING = {"fallbacks": [{"falls-back": ["dead", "alias-of-plain"]}]}
PRICING = {
    "groq": {
        "llama-special": {"input": 10, "output": 20, "per": 1_000_000},
        "regex:llama.*": {"input": 100, "output": 200, "per": 1_000_000},
        "*": {"input": 1000, "output": 2000, "per": 1_000_000},
    }
}


@dataclass
class House:
    """An installation, its provider, and what a test asks of both."""

    installation: Installation
    provider: FakeProvider
    _login: Mapping[str, str] = field(default_factory=dict)
    _clients: list[openai.OpenAI | anthropic.Anthropic] = field(default_factory=list)

    @property
    def proxy_url(self) -> str:
        return self.installation.proxy_url

    @property
    def key(self) -> str:
        return self.installation.key

    @property
    def max_body_bytes(self) -> int:
        return int(self.installation.environment["TOKEN_TRACKER_MAX_BODY_SIZE"])

    def openai(self, **options: Any) -> openai.OpenAI:
        """OpenAI's client as its users make it, but that it neither tries again by itself nor waits for minutes."""
        base_url = self.proxy_url + "/v1"
        client = openai.OpenAI(**{"base_url": base_url, "api_key": self.key, **BEHAVIOUR, **options})
        self._clients.append(client)
        return client

    def anthropic(self, **options: Any) -> anthropic.Anthropic:
        """Anthropic's client, likewise."""
        client = anthropic.Anthropic(**{"base_url": self.proxy_url, "api_key": self.key, **BEHAVIOUR, **options})
        self._clients.append(client)
        return client

    def close_clients(self) -> None:
        """Those made since the last time, with their connections."""
        while self._clients:
            self._clients.pop().close()

    def api(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        """What the API answers to the administrator."""
        self._login = self._login or self.installation.login()
        got, _, text = self.installation.call(method, self.installation.api_url + path, body, self._login)
        assert got == status, text
        return json.loads(text) if text else None

    def rows(self, **filters: str) -> list[dict[str, Any]]:
        """The ledger's newest 1000 rows, by the API's own filters."""
        items: list[dict[str, Any]] = self.api("GET", f"/api/token-usage?{urlencode({'limit': 1000, **filters})}")[
            "items"
        ]
        return items

    def row(self, marker: str, timeout_s: float = 10) -> dict[str, Any]:
        """The one row of the call with this marker, once it is booked."""
        [row] = self.wait_for_rows(1, timeout_s, end_user=marker)
        return row

    def wait_for_rows(self, count: int, timeout_s: float = 10, **filters: str) -> list[dict[str, Any]]:
        """The rows, once there are at least `count`; there must not be more."""
        what = f"{count} rows of {filters}"
        wait_until(lambda: len(self.rows(**filters)) >= count, timeout_s, what)
        rows = self.rows(**filters)
        assert len(rows) == count
        return rows

    def summary(self, **query: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.api("GET", f"/api/token-usage/summary?{urlencode(query)}")
        return answer


def make_house(directory: Path, provider: FakeProvider, **env: str) -> House:
    """Not started yet."""
    config = {"model_list": models(provider), "pricing": PRICING, "router_settings": ROUTING}
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "functional" / "hosts")])
    variables = {"PYTHONPATH": path, "TOKEN_TRACKER_MAX_BODY_SIZE": "1000000", **env}
    return House(Installation(directory, config, **variables), provider)


def marker(name: str = "call") -> str:
    """A name for one call, by which the provider's books and the ledger find it again."""
    return f"{name}-{uuid.uuid4().hex[:12]}"
