"""Our costs beside those of LiteLLM's own calculator, over a seeded sample of the price file.

LiteLLM runs as a child process and is never imported here. Left out is what depends on the hour (off-peak prices).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from token_tracker.config.price_file import load_catalogue, load_rates, price_file_path
from token_tracker.domain.pricing import cost_nano_usd, make_price
from token_tracker.domain.usage import Usage

PROVIDERS = (
    "openai",
    "anthropic",
    "groq",
    "mistral",
    "deepseek",
    "xai",
    "gemini",
    "fireworks_ai",
    "together_ai",
    "azure",
)
CHILD = Path(__file__).with_name("litellm_costs.py")
Case = tuple[str, str, dict[str, int]]


def sample() -> list[Case]:
    chance = random.Random(20261106)
    entries = load_catalogue().entries
    off_peak = {
        name for name, model in json.loads(price_file_path().read_bytes()).items() if "off_peak_pricing" in model
    }
    cases: list[Case] = []
    for provider in PROVIDERS:
        names = [n for n, e in entries.items() if e.provider == provider and e.mode == "chat" and n not in off_peak]
        # LiteLLM looks a bare name up with its provider first, as our price names do.
        names = [n for n in names if f"{provider}/{n}" not in entries]
        cases += [(name, provider, usage(chance)) for name in chance.sample(sorted(names), min(20, len(names)))]
    return cases


def usage(chance: random.Random) -> dict[str, int]:
    size = chance.choice([10, 1_000, 200_000, 400_000])
    classes = ("fresh", "read", "write_5m", "write_1h", "audio", "output", "reasoning")
    return {name: chance.choice([0, 1, chance.randint(1, size)]) for name in classes}


def ours(model: str, counts: dict[str, int], rates: dict[str, dict[str, str]]) -> int | None:
    fresh, read, write_5m, write_1h, audio, output, reasoning = counts.values()
    return cost_nano_usd(
        Usage(fresh, read, write_5m, write_1h, audio, output_tokens=output, reasoning_tokens=reasoning),
        make_price("file", model, rates[model]),
    )


@pytest.mark.timeout(60)
def test_the_cost_of_a_call_is_what_litellm_computes() -> None:
    cases = sample()
    lines = "".join(json.dumps({"model": m, "provider": p, "usage": counts}) + "\n" for m, p, counts in cases)
    done = subprocess.run(
        [sys.executable, str(CHILD)],
        input=lines,
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"},
    )
    theirs = done.stdout.split()
    assert len(theirs) == len(cases)
    rates = load_rates()
    differing = [
        (model, counts, expected, found)
        for (model, _, counts), expected in zip(cases, theirs, strict=True)
        if not agree(expected, found := ours(model, counts, rates) if model in rates else None)
    ]
    assert differing == []
    assert theirs.count("null") < len(cases) / 10


def agree(litellm_usd: str, nano_usd: int | None) -> bool:
    """LiteLLM adds floats, so its last digits are noise; what it cannot price, or prices at 0, proves nothing."""
    if litellm_usd == "null" or (Decimal(litellm_usd) == 0 and nano_usd is None):
        return True
    return nano_usd is not None and abs(Decimal(litellm_usd) * 10**9 - nano_usd) <= Decimal("0.501")
