"""What an answer says beside its tokens that is billed: service tier, searches, seconds, the provider's own bill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any

from token_tracker.domain.extras import NO_EXTRAS, Extras, ServiceTier, service_tier, surcharged
from token_tracker.proxy.dialects.counts import MAX_COUNT, first, members, part
from token_tracker.proxy.dialects.facts import objects

_XAI_TICKS_PER_USD = Decimal(10_000_000_000)
_MAX_COST_USD = 1_000_000  # for one call: more is no bill but a mistake
SEARCH_CALL = b'"web_search_call"'
SEARCH_FIELDS = ("output", "tools", "tool_usage")
_SIZES = ("low", "medium", "high")
_COUNTED = frozenset(
    """
    service_tier speed inference_geo type search_units server_tool_use cost_in_usd_ticks cost
    """.split()  # noqa: SIM905 (one word a name reads better than a row of quoted strings)
)


def extras_of(usage: Any, tier: Any = None) -> Extras:
    """`usage` as it came, `tier` the answer's own `service_tier` (OpenAI's place; Anthropic's is in the usage, with its
    speed and region)."""
    counted: Mapping[str, Any] = usage if type(usage) is dict else {}
    if _COUNTED.isdisjoint(counted):
        return _of_tier(tier_of(tier))
    extras = Extras(
        tier=tier_of(tier or counted.get("service_tier")) or _surcharged(counted),
        seconds=Decimal(part(counted, "seconds")) if counted.get("type") == "duration" else Decimal(0),
        queries=part(counted, "search_units"),
        searches=part(members(counted, "server_tool_use"), "web_search_requests"),
        cost_usd=_cost_usd(counted),
    )
    return NO_EXTRAS if extras == NO_EXTRAS else extras


def _surcharged(usage: Mapping[str, Any]) -> ServiceTier:
    return surcharged(is_fast=usage.get("speed") == "fast", is_us=usage.get("inference_geo") == "us")


@cache
def _of_tier(tier: ServiceTier) -> Extras:
    return NO_EXTRAS if tier is ServiceTier.STANDARD else Extras(tier=tier)


def tier_of(name: Any) -> ServiceTier:
    return service_tier(name) if type(name) is str else ServiceTier.STANDARD


def extras_of_response(response: Mapping[str, Any]) -> Extras:
    """A Responses object, with those of its `SEARCH_FIELDS` that are known. Searches of the web are what it reports of
    them, else the calls it lists (a page opened after a search is not billed), at the size that its tools name."""
    extras = extras_of(response.get("usage"), response.get("service_tier"))
    calls = [item for item in objects(response.get("output")) if item.get("type") == "web_search_call"]
    if not calls:
        return extras
    reported = first(members(members(response, "tool_usage"), "web_search"), "num_requests")
    listed = sum(members(call, "action").get("type", "search") == "search" for call in calls)
    sizes = [tool.get("search_context_size") for tool in objects(response.get("tools"))]
    size = next((size for size in sizes if size in _SIZES), "medium")
    return replace(extras, searches=listed if reported is None else reported, search_size=size)


def _cost_usd(usage: Mapping[str, Any]) -> Decimal | None:
    """xAI's ticks; OpenRouter's `cost` (with the user's own key there, its fee: the upstream's bill comes on top);
    Perplexity's `cost.total_cost`."""
    if (ticks := _amount(usage.get("cost_in_usd_ticks"), MAX_COUNT * _XAI_TICKS_PER_USD)) is not None:
        return ticks / _XAI_TICKS_PER_USD
    cost = usage.get("cost")
    if type(cost) is dict:
        return _amount(cost.get("total_cost"))
    charged = _amount(cost)
    if charged is None or usage.get("is_byok") is not True:
        return charged
    return charged + (_amount(members(usage, "cost_details").get("upstream_inference_cost")) or 0)


def _amount(value: Any, most: Decimal | int = _MAX_COST_USD) -> Decimal | None:
    """A number of JSON by its shortest text; None for what is no amount."""
    return Decimal(repr(value)) if type(value) in (int, float) and 0 <= value <= most else None
