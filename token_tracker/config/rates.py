"""Prices in proxy.yaml: LiteLLM's field names on an entry, short names under `pricing:`; exact decimals throughout."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from difflib import get_close_matches

from token_tracker.config.problems import nearest
from token_tracker.config.section import Section
from token_tracker.config.values import PricingEntry
from token_tracker.domain.rates import SEARCH, SEARCH_SIZES, TOKEN_FIELDS, UNIT_FIELDS, field_of

SHORT_NAMES: Mapping[str, str] = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_5m": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "reasoning": "output_cost_per_reasoning_token",
    "input_audio": "input_cost_per_audio_token",
    "output_audio": "output_cost_per_audio_token",
    "input_image": "input_cost_per_image_token",
    "output_image": "output_cost_per_image_token",
}
DEFAULT_PER = Decimal(1_000_000)
# Nothing is sold at less than this for a million tokens: such a number was meant for one token.
_LEAST_PER_MILLION = Decimal("0.0001")
_KNOWN = sorted(TOKEN_FIELDS | UNIT_FIELDS | {SEARCH})
_MISSPELT = 0.92  # similarity from which an unknown field is a slip of the pen, not another of LiteLLM's units


def is_rate(name: str) -> bool:
    """Whether a key of `litellm_params` or `model_info` is a price."""
    return "_cost" in name or name.startswith("cost_per_")


def entry_rates(*sections: Section) -> dict[str, Decimal] | None:
    """The prices named in `litellm_params` and `model_info`, USD per unit; the first section wins. None: none named."""
    rates: dict[str, Decimal] = {}
    for section in sections:
        for name in filter(is_rate, section.names()):
            found = _search_rates(section) if name == SEARCH else {name: section.number(name, least=0)}
            _check_spelling(section, name)
            for field, rate in found.items():
                if rate is not None:
                    rates.setdefault(field, rate)
    return rates or None


def _search_rates(section: Section) -> dict[str, Decimal | None]:
    """LiteLLM writes the price of a search as a table by the size of its context."""
    table = section.section(SEARCH)
    rates = {f"{SEARCH}_{size}": table.number(f"search_context_size_{size}", least=0) for size in SEARCH_SIZES}
    table.finish()
    return rates


def _check_spelling(section: Section, name: str) -> None:
    field = field_of(name)
    if field in _KNOWN or any(field.startswith(known + "_") for known in _KNOWN):
        return  # LiteLLM has many variants of its fields: output_cost_per_second_4k
    if close := get_close_matches(field, _KNOWN, n=1, cutoff=_MISSPELT):
        section.complain(name, f"is no price that LiteLLM knows. Did you mean '{close[0]}'?")


def read_pricing(section: Section, providers: Collection[str]) -> tuple[PricingEntry, ...]:
    """`pricing:`. `providers` are the known names; an unknown one would price nothing, so it is a problem."""
    entries = []
    for provider in section.names():
        models = section.section(provider)
        if provider not in providers:
            section.complain(provider, f"is no provider.{nearest(provider, providers)}")
        for pattern in models.names():
            line = models.section(pattern)
            _check_pattern(models, pattern)
            entries.append(PricingEntry(provider, pattern, _line_rates(line)))
    return tuple(entries)


def _check_pattern(models: Section, pattern: str) -> None:
    if pattern.startswith("regex:"):
        try:
            re.compile(pattern.removeprefix("regex:"))
        except re.error as error:
            models.complain(pattern, f"is no regular expression ({error.msg}).")
    elif "*" in pattern and pattern != "*":
        models.complain(pattern, "must be an exact name, 'regex:…' or '*'.")


def _line_rates(line: Section) -> dict[str, Decimal]:
    """Short names count `per` tokens (a million unless it says otherwise), LiteLLM's own names one unit."""
    per = line.number("per", above=0)
    rates: dict[str, Decimal] = {}
    for name, field in SHORT_NAMES.items():
        rate = line.number(name, least=0)
        if rate is None:
            continue
        if per is None and 0 < rate < _LEAST_PER_MILLION:
            line.complain(name, "is very little for a million tokens: add 'per: 1' if it is for one.")
        if field in rates:
            line.complain(name, "is there under two names.")
        rates[field] = rate / (per or DEFAULT_PER)
    for name in (name for name in line.names() if is_rate(name)):
        if name in rates:
            line.complain(name, "is there under two names.")
        _check_spelling(line, name)
        rate = line.number(name, least=0)
        if rate is not None:
            rates[name] = rate
    if not rates:
        line.problems.append(f"{line.where} names no price: give at least 'input' and 'output'.")
    line.finish()
    return rates
