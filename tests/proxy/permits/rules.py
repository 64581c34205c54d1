"""Rules for gateways of tests, and what became of calls under them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.proxy.conftest import MakeHouse
from tests.proxy.house import House, Reply
from tests.proxy.upstream import Upstream
from token_tracker.domain.rules import BudgetRule, RateRule
from token_tracker.proxy.books.publication import RulesRecord
from token_tracker.proxy.books.records import Open

USD = 1_000_000_000
IN, OUT = 1000, 2000  # nano-dollars a token at the prices of the tests' deployments


def budget(limit_usd: float | None = 1.0, **more: Any) -> BudgetRule:
    limit = None if limit_usd is None else round(limit_usd * USD)
    fields: dict[str, Any] = {
        "id": "budget_1", "scope_type": "global", "scope_id": "", "model": "", "period": "daily", "timezone": "UTC",
        "starts_at_us": 0, "limit_nano_usd": limit, "is_built": True,
    }  # fmt: skip
    return BudgetRule(**(fields | more))


def rate(limit: int, **more: Any) -> RateRule:
    fields: dict[str, Any] = {
        "id": "limit_1", "scope_type": "global", "scope_id": "", "model": "", "unit": "requests", "period": "minute",
    }  # fmt: skip
    return RateRule(**(fields | more), limit=limit)


def under(make_house: MakeHouse, *budgets: BudgetRule, **more: Any) -> House:
    rules = RulesRecord(budgets, tuple(more.pop("rates", ())), tuple(more.pop("freezes", ())))
    return make_house(rules=rules, **more)


def sent(upstream: Upstream) -> dict[str, Any]:
    return json.loads(upstream.seen[-1].body)  # type: ignore[no-any-return]


def error(reply: Reply) -> dict[str, Any]:
    return reply.json["error"]  # type: ignore[no-any-return]


def opened(house: House) -> Open:
    return next(record for record in house.records() if isinstance(record, Open))


def counted(house: House) -> tuple[int, int, int]:
    """(spent, held, unproven) of the one budget in money, as the gateway's own gate counts."""
    assert house.app is not None and house._loop is not None
    gate = house.app.admission.desk.gate
    counting = gate._store.counter(f"{gate.rules.budgets[0].id}|usd|", 0, 2**50)
    state = asyncio.run_coroutine_threadsafe(counting, house._loop).result(5)
    return state.spent, state.held, state.unproven
