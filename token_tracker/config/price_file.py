"""The locked LiteLLM package's price file, read as data: the package itself is found but never imported."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from token_tracker.domain.rates import SEARCH, SEARCH_SIZES

FILE_NAME = "model_prices_and_context_window_backup.json"
_EXAMPLE = "sample_spec"  # the file documents itself under this name; it is no model
_LEAST_EXPONENT, _MOST_EXPONENT = -30, 9  # of USD for one unit
_FAST, _US = "fast", "us"
_OTHER_SERVICES = ("_batches", "_flex", "_priority")
_TIER = re.compile(r"_above_(\d+)k_tokens")


class CatalogueEntry(msgspec.Struct, frozen=True, rename={"provider": "litellm_provider"}):
    """A model of the price file. `provider` is LiteLLM's name for it; `mode`: 'chat', 'embedding', …; '' if absent."""

    provider: str = ""
    mode: str = ""
    max_input_tokens: Any = None
    max_output_tokens: Any = None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every name of the price file, as written there ('gpt-4o', 'groq/llama-3.1-8b-instant').

    `digest` is the SHA-256 of the file's bytes, in hex: an importer compares it to see whether anything is new.
    """

    digest: str
    entries: Mapping[str, CatalogueEntry]


def price_file_path() -> Path:
    """Where the price file lies. Raises FileNotFoundError, with the remedy, when LiteLLM is not installed."""
    spec = find_spec("litellm")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / FILE_NAME
        if path.is_file():
            return path
    raise FileNotFoundError(f"The price file {FILE_NAME} of the litellm package is missing. Run 'make install'.")


def load_catalogue(path: Path | None = None) -> Catalogue:
    """Names, providers and modes only: about 20 ms for 4,000 models."""
    content = (path or price_file_path()).read_bytes()
    entries = msgspec.json.decode(content, type=dict[str, CatalogueEntry])
    entries.pop(_EXAMPLE, None)
    return Catalogue(hashlib.sha256(content).hexdigest(), entries)


def load_limits(path: Path | None = None) -> dict[str, tuple[int | None, int | None]]:
    """By model: the most tokens that go in, and the most that come out; None where the file does not know. Models of
    which it knows neither are absent."""
    limits = {
        name: (_limit(entry.max_input_tokens), _limit(entry.max_output_tokens))
        for name, entry in load_catalogue(path).entries.items()
    }
    return {name: both for name, both in limits.items() if both != (None, None)}


def _limit(value: object) -> int | None:
    """Some are written as floats, and 0 stands for what has no output of its own."""
    return int(value) if isinstance(value, int | float) and value >= 1 else None


class PriceFileError(ValueError):
    """What was given is no price file; the message says why."""


def load_rates(path: Path | None = None) -> dict[str, dict[str, str]]:
    """`rates_of` the file at `path`, by default the locked package's."""
    return rates_of((path or price_file_path()).read_bytes())


def rates_of(content: bytes) -> dict[str, dict[str, str]]:
    """All prices by model and LiteLLM's field name: exact decimal text, USD per unit, never through a float.

    A `tiered_pricing` table becomes the `…_above_Nk_tokens` fields that other models have, and what LiteLLM's cost
    calculator knows of single providers is written out (`_with_customs`). Models without any price are absent. Raises
    PriceFileError.
    """
    try:
        models = json.loads(content, parse_float=Decimal, parse_int=Decimal, parse_constant=Decimal)
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise PriceFileError(f"It is not valid JSON: {error}.") from None
    if not isinstance(models, dict) or not all(isinstance(model, dict) for model in models.values()):
        raise PriceFileError("It must be one JSON object with an object for each model, like LiteLLM's price file.")
    found = ((name, _rates(model)) for name, model in models.items() if name != _EXAMPLE)
    return {name: rates for name, rates in found if rates}


def _rates(model: Mapping[str, Any]) -> dict[str, str]:
    rates = {field: _plain(value) for field, value in model.items() if _is_rate(field, value)}
    rates |= _search_rates(model.get(SEARCH))
    provider = str(model.get("litellm_provider", ""))
    rates = _with_customs(provider, rates | _tiers(model.get("tiered_pricing")))
    return rates | _surcharged(rates, model.get("provider_specific_entry")) if provider == "anthropic" else rates


def _surcharged(rates: Mapping[str, str], factors: object) -> dict[str, str]:
    """Anthropic's fast mode and its region are factors on all rates of tokens: written out as service tiers."""
    known = {name: value for name, value in (factors.items() if isinstance(factors, dict) else ()) if _is_factor(value)}
    if _FAST in known and _US in known:
        known[f"{_US}_{_FAST}"] = known[_FAST] * known[_US]
    return {
        f"{field}_{name}": _plain(Decimal(rate) * known[name])
        for name in (_FAST, _US, f"{_US}_{_FAST}")
        if name in known
        for field, rate in rates.items()
        if "token" in field and not field.endswith(_OTHER_SERVICES)
    }


def _is_factor(value: object) -> bool:
    return isinstance(value, Decimal) and value.is_finite() and 0 < value < 1000


def _with_customs(provider: str, rates: dict[str, str]) -> dict[str, str]:
    """xAI's tiers begin at N tokens, not above them; Fireworks bills cached input at half where it names no rate."""
    if provider == "xai":
        return {_TIER.sub(_from_threshold_on, field): rate for field, rate in rates.items()}
    if provider == "fireworks_ai" and "input_cost_per_token" in rates:
        return {"cache_read_input_token_cost": _plain(Decimal(rates["input_cost_per_token"]) / 2)} | rates
    return rates


def _from_threshold_on(tier: re.Match[str]) -> str:
    return f"_above_{int(tier[1]) * 1000 - 1}_tokens"


def _search_rates(sizes: object) -> dict[str, str]:
    """`search_context_cost_per_query` is a table by the size of the search's context: a field for each."""
    table = sizes if isinstance(sizes, dict) else {}
    named = {f"{SEARCH}_{size}": table.get(f"search_context_size_{size}") for size in SEARCH_SIZES}
    return {field: _plain(value) for field, value in named.items() if isinstance(value, Decimal)}


def _is_rate(field: str, value: object) -> bool:
    """A number that a price can be: not one of a million digits, which to write out would take all memory."""
    if "cost" not in field or not isinstance(value, Decimal) or not value.is_finite():
        return False
    return value == 0 or (value > 0 and _LEAST_EXPONENT < value.adjusted() < _MOST_EXPONENT)


def _plain(value: Decimal) -> str:
    """`'0.0000025'`, not `'2.5E-6'`: the form in which people read and compare prices."""
    return format(value.normalize(), "f")


def _tiers(table: object) -> dict[str, str]:
    """LiteLLM's second way to write tiers: a list of rates with the range of prompt tokens, (from, to], they hold for.

    Only tables that begin at 0 tokens are read: elsewhere it is not known what a smaller prompt costs.
    """
    tiers = sorted((t for t in table if len(t.get("range", ())) == 2), key=_start) if isinstance(table, list) else []
    if not tiers or _start(tiers[0]) != 0:
        return {}
    return {
        field + (f"_above_{_plain(_start(tier) / 1000)}k_tokens" if _start(tier) else ""): _plain(value)
        for tier in tiers
        for field, value in tier.items()
        if _is_rate(field, value)
    }


def _start(tier: Mapping[str, Any]) -> Decimal:
    return Decimal(tier["range"][0])
