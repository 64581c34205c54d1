"""Our costs beside those of LiteLLM's own calculator, for every model of the price file.

LiteLLM runs as one child process and is never imported here. A difference needs a reason in `price_differences.toml`.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from token_tracker.config.price_file import load_catalogue, load_rates, price_file_path
from token_tracker.domain.extras import Extras, ServiceTier, service_tier
from token_tracker.domain.pricing import Price, cost_nano_usd, make_price
from token_tracker.domain.usage import TOKEN_CLASSES, Usage

HERE = Path(__file__).parent
CHILD = HERE / "litellm_costs.py"
RULES = HERE / "price_differences.toml"
DOCUMENT = HERE.parents[1] / "docs" / "prices.md"
SEED = 20261121
CLASSES = (
    "fresh", "read", "write_5m", "write_1h", "audio", "image", "output", "reasoning", "output_audio", "output_image",
)  # fmt: skip
UNIT_OF_MODE = {
    "audio_speech": ("speech", "characters", 5_000),
    "audio_transcription": ("transcription", "seconds", 900),
    "image_edit": ("images", "images", 4),
    "image_generation": ("images", "images", 4),
    "rerank": ("rerank", "queries", 9),
    "search": ("search", "queries", 9),
}
INPUT_ONLY = frozenset(("embedding", "moderation", "rerank"))
# LiteLLM asks these two's login service on the network before it prices a batch.
NO_BATCH = frozenset(("github_copilot", "chatgpt"))


@dataclass(frozen=True)
class Case:
    """One call of a model. `usage` by the classes of the child's `_usage`, `units` by the names of `Extras`."""

    model: str
    provider: str
    kind: str
    tier: str = ""
    usage: Mapping[str, int] = field(default_factory=dict)
    units: Mapping[str, int] = field(default_factory=dict)


def cases() -> Iterator[Case]:
    chance = random.Random(SEED)
    for name, entry in load_catalogue().entries.items():
        provider = next((p for p in ("vertex_ai", "bedrock") if _is_kind_of(entry.provider, p)), entry.provider)
        classes = CLASSES[:1] if entry.mode in INPUT_ONLY else CLASSES
        for tier in ("", "", "priority", "flex"):
            yield Case(name, provider, "tokens", tier, _counts(chance, classes))
        if classes is CLASSES:
            yield Case(name, provider, "tokens", usage={"output": chance.randint(1, 1_000)})
        if provider not in NO_BATCH:
            yield Case(name, provider, "batch", usage=_counts(chance, classes))
        if entry.mode in UNIT_OF_MODE:
            kind, unit, most = UNIT_OF_MODE[entry.mode]
            yield Case(name, provider, kind, units={unit: chance.randint(1, most)})


def _is_kind_of(provider: str, family: str) -> bool:
    """'vertex_ai-language-models' and 'bedrock_converse' are how the file names parts of one provider."""
    return provider.startswith(family) and provider != "bedrock_mantle"


def _counts(chance: random.Random, classes: tuple[str, ...]) -> dict[str, int]:
    size = chance.choice((10, 1_000, 150_000, 400_000))
    return {name: chance.choice((0, 1, chance.randint(1, size))) for name in classes}


def ours(case: Case, price: Price | None) -> int | None:
    usage = Usage(**{name: case.usage.get(short, 0) for name, short in zip(TOKEN_CLASSES, CLASSES, strict=True)})
    tier = ServiceTier.BATCH if case.kind == "batch" else service_tier(case.tier)
    units: dict[str, Any] = dict(case.units)
    return None if price is None else cost_nano_usd(usage, price, Extras(tier=tier, **units))


def theirs(asked: list[Case], home: Path) -> list[tuple[str | None, float | None]]:
    """`home`: where LiteLLM may make the directories that it makes for some providers."""
    environ = {"HOME": str(home), "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "CRITICAL"}
    environ["LEMONADE_API_BASE"] = "http://127.0.0.1:9"  # else it asks whoever listens on port 8000 about its models
    done = subprocess.run(
        [sys.executable, str(CHILD)],
        input="".join(json.dumps(asdict(case)) + "\n" for case in asked),
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
        env=os.environ | environ,
    )
    answers = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
    assert len(answers) == len(asked)
    return answers


def agree(litellm_usd: float, nano_usd: int | None) -> bool:
    """LiteLLM adds floats, so its last digits are noise; its 0 may mean that it knows no price."""
    if nano_usd is None:
        return litellm_usd == 0
    return abs(Decimal(repr(litellm_usd)) * 10**9 - nano_usd) <= Decimal("0.501")


def rules() -> list[dict[str, Any]]:
    return tomllib.loads(RULES.read_text(encoding="utf-8"))["rule"]


class Explaining:
    """Which rule explains a difference; remembers which ever did."""

    def __init__(self, rates: Mapping[str, Mapping[str, str]]) -> None:
        self._rates = rates
        self.rules = rules()
        self.used: Counter[str] = Counter()
        models = json.loads(price_file_path().read_bytes())
        self._off_peak = {name for name, model in models.items() if "off_peak_pricing" in model}

    def explains(self, case: Case, key: str, nano_usd: int | None) -> bool:
        for rule in self.rules:
            if self._fits(rule, case, key, nano_usd):
                self.used[rule["reason"]] += 1
                return True
        return False

    def _fits(self, rule: Mapping[str, Any], case: Case, key: str, nano_usd: int | None) -> bool:
        names = self._rates.get(key, {})
        prompt = sum(case.usage.get(name, 0) for name in CLASSES[:6])
        return (
            all(getattr(case, name) in _listed(rule[name]) for name in ("kind", "tier", "provider") if name in rule)
            and re.fullmatch(rule.get("model", ".*"), case.model) is not None
            and ("uses" not in rule or any(case.usage.get(name) for name in rule["uses"]))
            and ("names" not in rule or any(re.fullmatch(rule["names"], name) for name in names))
            and ("lacks" not in rule or _lacks(rule["lacks"], names))
            and (not rule.get("unpriced") or nano_usd is None)
            and (not rule.get("has_off_peak") or key in self._off_peak or case.model in self._off_peak)
            and (not rule.get("without_prompt") or prompt == 0)
        )


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _lacks(pattern: str, names: Mapping[str, str]) -> bool:
    """Whether one of the alternatives of a pattern `(a|b)rest` is missing."""
    alternatives, rest = pattern.removeprefix("(").split(")")
    return any(alternative + rest not in names for alternative in alternatives.split("|"))


@pytest.mark.timeout(120)
def test_the_cost_of_every_model_is_what_litellm_computes_or_differs_for_a_written_reason(tmp_path: Path) -> None:
    asked = list(cases())
    rates = load_rates()
    prices = {name: make_price("file", name, rates[name]) for name in rates}
    explaining = Explaining(rates)
    compared: set[str] = set()
    unexplained = []
    agreed = 0
    for case, (taken, litellm_usd) in zip(asked, theirs(asked, tmp_path), strict=True):
        if litellm_usd is None:
            continue
        key = taken if taken in rates else case.model  # LiteLLM may look a name up with or without its provider
        nano_usd = ours(case, prices.get(key))
        compared.add(case.model)
        if agree(litellm_usd, nano_usd):
            agreed += 1
        elif not explaining.explains(case, key, nano_usd):
            unexplained.append((case, key, litellm_usd, nano_usd))
    explained = explaining.used.total()
    print(f"{len(compared)} models, {len(asked)} calls: {agreed} agree, {explained} differ for a written reason")
    assert unexplained == [], "\n".join(map(str, unexplained[:20]))
    assert len(compared) > 4_000
    assert len(compared) >= 0.99 * len(load_catalogue().entries)
    assert agreed > 0.8 * len(asked)
    idle = [rule["reason"] for rule in explaining.rules if rule["reason"] not in explaining.used]
    assert [reason for reason in idle if not _by_the_clock(reason)] == []


def _by_the_clock(reason: str) -> bool:
    return any(rule["reason"] == reason and rule.get("by_the_clock") for rule in rules())


def test_every_reason_for_a_difference_is_in_the_documents() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert [rule["reason"] for rule in rules() if rule["reason"] not in text] == []
