"""Which rate a token class is billed at: LiteLLM's field names, their long-context tiers, and what stands in for a
rate that a price does not name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

INPUT = "input_cost_per_token"
OUTPUT = "output_cost_per_token"
OUTPUT_IMAGE = "output_cost_per_image_token"
CACHE_WRITE = "cache_creation_input_token_cost"

# For each token class the fields to ask, the first that the price names being the rate:
# - a cached read or write without a rate of its own is ordinary input: who publishes no cache price gives no discount;
# - a 1-hour write without a rate is a 5-minute write, which is what a single cache-write rate means;
# - audio and image tokens without a rate are ordinary text tokens, reasoning is ordinary output;
# - plain output of a price without any output rate but one for images is images: that model makes nothing else.
_OUTPUT_CHAIN = (OUTPUT, OUTPUT_IMAGE)
CHAINS: Mapping[str, tuple[str, ...]] = {
    "input_tokens": (INPUT,),
    "cache_read_tokens": ("cache_read_input_token_cost", INPUT),
    "cache_write_5m_tokens": (CACHE_WRITE, INPUT),
    "cache_write_1h_tokens": (CACHE_WRITE + "_above_1hr", CACHE_WRITE, INPUT),
    "input_audio_tokens": ("input_cost_per_audio_token", INPUT),
    "input_image_tokens": ("input_cost_per_image_token", INPUT),
    "output_tokens": _OUTPUT_CHAIN,
    "reasoning_tokens": ("output_cost_per_reasoning_token", *_OUTPUT_CHAIN),
    "output_audio_tokens": ("output_cost_per_audio_token", *_OUTPUT_CHAIN),
    "output_image_tokens": (OUTPUT_IMAGE, OUTPUT),
}
TOKEN_FIELDS = frozenset(field for chain in CHAINS.values() for field in chain)
_TIER = re.compile(r"(?P<field>\w+)_above_(?P<amount>\d+)(?P<thousands>k?)_tokens")
_NO_TIER = -1  # every prompt has more tokens than this


class RateTable:
    """The token rates of one price, ready to be asked.

    A tier (`<field>_above_<N>k_tokens`, or `_above_<N>_tokens`) holds for all tokens of a call whose whole prompt,
    cached or not, has more than N tokens; the highest such tier that names the field wins. A field without that tier
    keeps its lower rate, as LiteLLM computes it.
    """

    __slots__ = ("_tiers", "bills_other_units")

    def __init__(self, rates: Mapping[str, Decimal]) -> None:
        """Raises ValueError for a rate that is negative or not a number."""
        self._tiers: dict[str, list[tuple[int, Decimal]]] = {}
        self.bills_other_units = False  # per image, second, character, …: something that token counts do not tell
        for name, rate in rates.items():
            if not rate.is_finite() or rate < 0:
                raise ValueError(f"{name} is {rate}: a rate is a number, 0 or more")
            field, above = _split_tier(name)
            if field in TOKEN_FIELDS:
                self._tiers.setdefault(field, []).append((above, rate))
            elif rate and "token" not in name:
                self.bills_other_units = True
        for tiers in self._tiers.values():
            tiers.sort(reverse=True)

    def __bool__(self) -> bool:
        """Whether any token rate is named at all."""
        return bool(self._tiers)

    def rate(self, token_class: str, prompt_tokens: int) -> Decimal | None:
        """USD per token of `token_class` in a call with `prompt_tokens` in all; None if nothing names or implies it."""
        for field in CHAINS[token_class]:
            for above, rate in self._tiers.get(field, ()):
                if prompt_tokens > above:
                    return rate
        return None


def _split_tier(name: str) -> tuple[str, int]:
    match = _TIER.fullmatch(name)
    if match is None:
        return name, _NO_TIER
    return match["field"], int(match["amount"]) * (1000 if match["thousands"] else 1)
