"""Which rate a token class or another unit is billed at: LiteLLM's field names, their long-context and service tiers,
and what stands in for a rate that a price does not name."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from math import ceil

from token_tracker.domain.extras import Extras, ServiceTier
from token_tracker.domain.usage import TOKEN_CLASSES, Usage

INPUT = "input_cost_per_token"
OUTPUT = "output_cost_per_token"
OUTPUT_IMAGE = "output_cost_per_image_token"
REASONING = "output_cost_per_reasoning_token"
CACHE_WRITE = "cache_creation_input_token_cost"
SEARCH = "search_context_cost_per_query"

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
    "reasoning_tokens": (REASONING, *_OUTPUT_CHAIN),
    "output_audio_tokens": ("output_cost_per_audio_token", *_OUTPUT_CHAIN),
    "output_image_tokens": (OUTPUT_IMAGE, OUTPUT),
}
_STAND_IN = frozenset((INPUT, OUTPUT, "cache_read_input_token_cost", CACHE_WRITE, REASONING))
TOKEN_FIELDS = frozenset(field for chain in CHAINS.values() for field in chain)

# For each other unit the fields to ask (LiteLLM names what is paid for a made image or a heard second as input or as
# output, never as two fees), and the token class that counts the same thing and so is not billed beside it.
_UNITS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "characters": (("input_cost_per_character",), "input_tokens"),
    "images": (("output_cost_per_image", "input_cost_per_image"), "output_image_tokens"),
    "seconds": (("output_cost_per_second", "input_cost_per_second"), "input_audio_tokens"),
    "queries": (("input_cost_per_query",), ""),
}
SEARCH_SIZES = ("low", "medium", "high")
SEARCH_FIELDS = tuple(f"{SEARCH}_{size}" for size in SEARCH_SIZES)
UNIT_FIELDS = frozenset(field for fields, _ in _UNITS.values() for field in fields) | frozenset(SEARCH_FIELDS)
SERVICE_SUFFIX = "(?:_(?P<service>" + "|".join(tier for tier in ServiceTier if tier) + "))?"
_NAME = re.compile(r"(?P<field>\w+?)(?:_above_(?P<amount>\d+)(?P<thousands>k?)_tokens)?" + SERVICE_SUFFIX)
PICO_PER_USD = 10**12
_NO_TIER = -1  # every prompt has more tokens than this
_Tiers = dict[str, dict[int, Decimal]]


class RateTable:
    """The rates of one price, ready to be asked.

    A tier (`<field>_above_<N>k_tokens`, or `_above_<N>_tokens`) holds for all tokens of a call whose whole prompt,
    cached or not, has more than N tokens; the highest such tier that names the field wins. A field without that tier
    keeps its lower rate, as LiteLLM computes it.

    A service tier (`…_priority`, `…_flex`) replaces the rates that it names and leaves the others; reasoning follows
    the output. Batches are a price list of their own: what it does not name is not known, and a class whose own
    ordinary rate has no counterpart there (images, audio, 1-hour writes) is not sold at the price of text.
    """

    __slots__ = ("_beginnings", "_dearest", "_digits", "_services", "_units", "_whole", "bills_other_units")

    def __init__(self, rates: Mapping[str, Decimal]) -> None:
        """Raises ValueError for a rate that is negative or not a number."""
        named: dict[ServiceTier, _Tiers] = {ServiceTier.STANDARD: {}}
        self._units: dict[str, Decimal] = {}
        self.bills_other_units = False  # per image, second, character, …: something that token counts do not tell
        for name, rate in rates.items():
            if not rate.is_finite() or rate < 0:
                raise ValueError(f"{name} is {rate}: a rate is a number, 0 or more")
            field, above, service = _split(name)
            if field in TOKEN_FIELDS:
                named.setdefault(service, {}).setdefault(field, {})[above] = rate
            elif name in UNIT_FIELDS:
                self._units[name] = rate
            if rate and "token" not in name and name not in SEARCH_FIELDS:
                self.bills_other_units = True
        standard = named[ServiceTier.STANDARD]
        self._services = {service: _sorted(_list(service, standard, fields)) for service, fields in named.items()}
        tiers = (above for fields in named.values() for each in fields.values() for above in each)
        self._dearest: dict[tuple[tuple[str, ...], int, tuple[ServiceTier, ...]], int | None] = {}
        self._beginnings = sorted({0} | {above + 1 for above in tiers})  # of the tiers, in prompt tokens
        # Decimal places of the rates, at least those of a nano-dollar, and the rates as whole numbers of them.
        self._digits = max([9, *(-int(rate.as_tuple().exponent) for rate in rates.values())])
        self._whole: dict[tuple[int, ServiceTier], tuple[int | None, ...]] = {}

    def __bool__(self) -> bool:
        """Whether any rate that a call can be billed at is named; a search alone is no call."""
        return self.bills_tokens or not self._units.keys() <= set(SEARCH_FIELDS)

    def rate(self, token_class: str, prompt_tokens: int, service: ServiceTier = ServiceTier.STANDARD) -> Decimal | None:
        """USD per token of `token_class` in a call with `prompt_tokens` in all; None if nothing names or implies it."""
        fields = self._services.get(service)
        if fields is None:
            fields = {} if service is ServiceTier.BATCH else self._services[ServiceTier.STANDARD]
        for field in CHAINS[token_class]:
            tiers = fields.get(field)
            if tiers is None:
                continue
            if not tiers:
                return None
            for above, rate in tiers:
                if prompt_tokens > above:
                    return rate
        return None

    def tokens_nano_usd(self, usage: Usage, service: ServiceTier) -> int | None:
        """What the tokens of a call cost, rounded half to even; None if one used class has no rate."""
        begin = self._beginnings[bisect_right(self._beginnings, usage.prompt_tokens) - 1]
        rates = self._whole.get((begin, service))
        if rates is None:
            rates = self._whole[begin, service] = self._as_whole_numbers(begin, service)
        total = 0
        for count, rate in zip(usage, rates, strict=True):
            if count:
                if rate is None:
                    return None
                total += count * rate
        unit: int = 10 ** (self._digits - 9)
        nano_usd, rest = divmod(total, unit)
        return nano_usd + (2 * rest > unit or (2 * rest == unit and nano_usd % 2 == 1))

    def _as_whole_numbers(self, prompt_tokens: int, service: ServiceTier) -> tuple[int | None, ...]:
        found = (self.rate(token_class, prompt_tokens, service) for token_class in TOKEN_CLASSES)
        return tuple(None if rate is None else int(Fraction(rate) * 10**self._digits) for rate in found)

    def units(self, usage: Usage, extras: Extras) -> Iterator[tuple[Decimal | int, Decimal | None, str]]:
        """Each unit that is no token: how many, USD for one, and the token class that is not billed beside it ('' for
        none). The rate is None if the price has none and no token counts the same thing. Searches come beside these."""
        for unit, (names, token_class) in _UNITS.items():
            count = getattr(extras, unit)
            # An image that was counted in tokens too is billed by them: they tell its size and quality.
            if not count or (unit == "images" and usage.completion_tokens):
                continue
            rates = [self._units[name] for name in names if name in self._units]
            if rates:
                yield count, next(filter(None, rates), rates[0]), token_class
            elif unit == "images" or not usage.prompt_tokens:
                yield count, None, ""

    def dearest_pico(
        self, classes: tuple[str, ...], most_prompt_tokens: int, services: tuple[ServiceTier, ...]
    ) -> int | None:
        """The highest pico-dollars per token, rounded up, at which one of `classes` may be billed in a call of at most
        so many prompt tokens, served in one of `services`; None if any of them could not be priced."""
        begin = self._beginnings[bisect_right(self._beginnings, most_prompt_tokens) - 1]
        asked = (classes, begin, services)
        if asked not in self._dearest:  # few different ones: classes, tiers and services are
            rate = self._highest(classes, begin, services)
            self._dearest[asked] = None if rate is None else ceil(rate * PICO_PER_USD)
        return self._dearest[asked]

    def _highest(
        self, classes: tuple[str, ...], most_prompt_tokens: int, services: tuple[ServiceTier, ...]
    ) -> Decimal | None:
        found = Decimal(0)
        for service in services:
            for prompt_tokens in (begin for begin in self._beginnings if begin <= most_prompt_tokens):
                for token_class in classes:
                    rate = self.rate(token_class, prompt_tokens, service)
                    if rate is None:
                        return None
                    found = max(found, rate)
        return found

    def names(self, service: ServiceTier) -> bool:
        """Whether it has any rate for a service tier."""
        return service in self._services

    def dearest_unit(self, unit: str) -> Decimal | None:
        """USD for one of a unit of `Extras`; the highest of the fields that may name it, None if none does."""
        return max((self._units[name] for name in _UNITS[unit][0] if name in self._units), default=None)

    @property
    def second_beginning(self) -> int | None:
        """From how many prompt tokens on another rate may hold; None for never."""
        return self._beginnings[1] if len(self._beginnings) > 1 else None

    @property
    def bills_tokens(self) -> bool:
        return any(self._services.values())

    def search(self, size: str) -> Decimal | None:
        """USD for a search of the web with that much context; None if the price names none."""
        return self._units.get(f"{SEARCH}_{size}")


def _split(name: str) -> tuple[str, int, ServiceTier]:
    match = _NAME.fullmatch(name)
    if match is None:
        return name, _NO_TIER, ServiceTier.STANDARD
    above = _NO_TIER if match["amount"] is None else int(match["amount"]) * (1000 if match["thousands"] else 1)
    return match["field"], above, ServiceTier(match["service"] or "")


def field_of(name: str) -> str:
    """A rate's field without its long-context and service tiers: `input_cost_per_token` for the name
    `input_cost_per_token_above_272k_tokens_priority`."""
    return _split(name)[0]


def _list(service: ServiceTier, standard: _Tiers, fields: _Tiers) -> _Tiers:
    """All rates of a service tier that names `fields`; one without amounts is a field that nothing stands in for."""
    if service is ServiceTier.STANDARD:
        return fields
    if service is ServiceTier.BATCH:
        return {name: {} for name in standard.keys() - _STAND_IN} | fields
    merged = {name: standard.get(name, {}) | fields.get(name, {}) for name in standard.keys() | fields.keys()}
    if OUTPUT in fields and REASONING not in fields:
        merged.pop(REASONING, None)
    return merged


def _sorted(fields: _Tiers) -> dict[str, list[tuple[int, Decimal]]]:
    return {name: sorted(tiers.items(), reverse=True) for name, tiers in fields.items()}
