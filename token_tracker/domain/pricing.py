"""What a call costs and why: exact rates, a version that names them for ever, and which price applies."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal, localcontext
from enum import StrEnum
from types import MappingProxyType

from token_tracker.domain.extras import NO_EXTRAS, Extras
from token_tracker.domain.money import to_nano_usd
from token_tracker.domain.rates import RateTable
from token_tracker.domain.usage import TOKEN_CLASSES, Usage

# Wide enough that sums of products are exact; the default of 28 digits would round twice.
_EXACT = Context(prec=400)
_VERSION_LENGTH = 300  # characters: the ledger's column
_DIGEST_LENGTH = 12  # hex digits


class CostSource(StrEnum):
    """On whose word a cost stands. Only `UNPRICED` has no amount."""

    PRICED = "priced"
    PROVIDER = "provider"
    LITELLM = "litellm"
    LOCAL = "local"
    UNPRICED = "unpriced"


@dataclass(frozen=True, slots=True)
class Price:
    """Rates in USD per unit by LiteLLM's field names; never changed, a new price is a new version.

    `source`: 'entry' | 'override' | 'pricing' | 'file'. Fields that `rates` does not know are kept but not billed.
    Raises ValueError for a rate that is negative or not a number.
    """

    version: str
    source: str
    rates: Mapping[str, Decimal] = field(hash=False)
    table: RateTable = field(init=False, repr=False, compare=False)
    is_free: bool = field(init=False, repr=False, compare=False)  # every rate is 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates", MappingProxyType(dict(self.rates)))
        object.__setattr__(self, "table", RateTable(self.rates))
        object.__setattr__(self, "is_free", bool(self.rates) and not any(self.rates.values()))


def make_price(source: str, name: str, rates: Mapping[str, Decimal | str]) -> Price:
    """A price with its version. `name`: the deployment's (entry), 'provider/pattern' (pricing), else the model's."""
    return Price(version_of(source, name, rates), source, {key: Decimal(rate) for key, rate in rates.items()})


def version_of(source: str, name: str, rates: Mapping[str, Decimal | str]) -> str:
    """`'file:gpt-4o@1a2b3c4d5e6f'`: the same rates of the same name have the same version everywhere.

    Content-addressed, whatever the order and notation of the rates; at most 300 characters (a longer name is cut in
    the label, never in the digest).
    """
    canonical = {key: format(Decimal(rate).normalize(_EXACT), "f") for key, rate in rates.items()}
    content = json.dumps([source, name, sorted(canonical.items())], separators=(",", ":"))
    digest = hashlib.sha256(content.encode()).hexdigest()[:_DIGEST_LENGTH]
    return f"{f'{source}:{name}'[: _VERSION_LENGTH - _DIGEST_LENGTH - 1]}@{digest}"


def cost_nano_usd(usage: Usage, price: Price, extras: Extras = NO_EXTRAS) -> int | None:
    """Whole nano-dollars, exact until it is rounded half-even, once per call.

    None, never 0, where the price does not tell: a used token class or unit without any rate that could stand in for
    its own (`rates.CHAINS`), a price without rates, or nothing counted under a price that also bills other units.
    """
    table = price.table
    if not extras.has_units and not extras.searches:
        is_told = bool(table) and (usage.total_tokens or not table.bills_other_units)
        return table.tokens_nano_usd(usage, extras.tier) if is_told else None
    with localcontext(_EXACT):
        units = list(table.units(usage, extras))
        if not table or (table.bills_other_units and not usage.total_tokens and not units):
            return None
        lines: list[tuple[Decimal | int, Decimal | None]] = [(count, rate) for count, rate, _ in units]
        if extras.searches:
            lines.append((extras.searches, table.search(extras.search_size)))
        if table.bills_tokens or not units:  # a price of other units alone has the text of the prompt in it
            lines += _token_lines(usage, extras, table, {token_class for _, _, token_class in units})
        total = Decimal(0)
        for count, rate in lines:
            if rate is None:
                return None
            total += count * rate
        return to_nano_usd(total)


def _token_lines(
    usage: Usage, extras: Extras, table: RateTable, billed_otherwise: set[str]
) -> list[tuple[int, Decimal | None]]:
    """Each used token class: how many, and USD for one."""
    prompt_tokens = usage.prompt_tokens
    counts = ((name, getattr(usage, name)) for name in TOKEN_CLASSES if name not in billed_otherwise)
    return [(count, table.rate(name, prompt_tokens, extras.tier)) for name, count in counts if count]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which price applies to a deployment, or why none does: `PRICED` with a price, else `LOCAL` or `UNPRICED`."""

    cost_source: CostSource
    price: Price | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What the ledger books. `nano_usd` is None exactly where `source` is `UNPRICED`; `version` '' without a price."""

    nano_usd: int | None
    source: CostSource
    version: str = ""


def cost_of(usage: Usage, choice: Choice, extras: Extras = NO_EXTRAS) -> Cost:
    """The cost of `usage` at the chosen price; what that price does not tell is unpriced.

    A provider's own bill (`extras.cost_usd`) goes before the price file and before nothing, for it is what will be
    paid; never before a price that the user gave.
    """
    price = choice.price
    if extras.cost_usd is not None and (price is None or price.source == "file"):
        return Cost(to_nano_usd(extras.cost_usd), CostSource.PROVIDER)
    if choice.cost_source is CostSource.LOCAL:
        return Cost(0, CostSource.LOCAL)
    amount = cost_nano_usd(usage, price, extras) if price else None
    if amount is None or price is None:
        return Cost(None, CostSource.UNPRICED)
    return Cost(amount, choice.cost_source, price.version)


Lookup = Callable[[str], Price | None]


def choose(
    names: Sequence[str],
    *,
    is_local: bool,
    entry: Price | None,
    override: Lookup,
    pricing: Callable[[Sequence[str]], Price | None],
    file: Lookup,
) -> Choice:
    """The contract's order: the entry's own price, an override, `pricing`, the price file; each by whole names.

    `names` are a deployment's price names in order of precedence. A local upstream never takes the file's price:
    nobody bills it, so it is `LOCAL`. What nothing names is `UNPRICED`.
    """
    price = entry or _first(override, names) or pricing(names)
    if price is None and is_local:
        return Choice(CostSource.LOCAL)
    price = price or _first(file, names)
    return Choice(CostSource.PRICED, price) if price else Choice(CostSource.UNPRICED)


def _first(lookup: Lookup, names: Sequence[str]) -> Price | None:
    return next((price for price in map(lookup, names) if price), None)


class PricingTable:
    """`pricing:` of proxy.yaml: by provider, then exact name, then regex, then '*'; the longest pattern within a kind.

    A regex must match a whole name; equally long ones are tried in the order of the alphabet.
    """

    def __init__(self, lines: Iterable[tuple[str, str, Mapping[str, Decimal]]]) -> None:
        """`lines`: (provider, pattern, rates), pattern as in the file. Raises re.error for a broken regex."""
        self._exact: dict[tuple[str, str], Price] = {}
        self._regexes: dict[str, list[tuple[re.Pattern[str], Price]]] = {}
        for provider, pattern, rates in lines:
            price = make_price("pricing", f"{provider}/{pattern}", rates)
            if pattern.startswith("regex:"):
                compiled = re.compile(pattern.removeprefix("regex:"))
                self._regexes.setdefault(provider, []).append((compiled, price))
            else:
                self._exact[provider, pattern] = price
        for regexes in self._regexes.values():
            regexes.sort(key=lambda line: (-len(line[0].pattern), line[0].pattern))

    def find(self, provider: str, names: Sequence[str]) -> Price | None:
        """The price of the line that applies to a deployment of `provider` with these price names."""
        exact = (self._exact.get((provider, name)) for name in names if name != "*")
        regex = (
            price
            for pattern, price in self._regexes.get(provider, ())
            if any(pattern.fullmatch(name) for name in names)
        )
        found = (price for kind in (exact, regex) for price in kind if price)
        return next(found, None) or self._exact.get((provider, "*"))
