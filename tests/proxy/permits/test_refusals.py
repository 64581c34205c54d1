"""Of several rules that refuse, the client reads the one that the contract names first."""

from __future__ import annotations

from itertools import combinations

import pytest

from tests.proxy.conftest import MakeHouse
from tests.proxy.house import House
from tests.proxy.permits.rules import budget, rate, under
from tests.proxy.upstream import Upstream
from token_tracker.domain.rules import FreezeRule
from token_tracker.proxy.gate.store import Reason, Refused
from token_tracker.proxy.permits.refusals import refusal_of

# As the contract lists them.
IN_ORDER = [
    (Refused(Reason.COST_UNBOUNDED, budget(1.0)), 402, "cost_unbounded"),
    (Refused(Reason.BUDGET_EXCEEDED, budget(1.0), measure="usd", limit=10, spent=10), 402, "budget_exceeded"),
    (Refused(Reason.BUDGET_HELD, budget(1.0), measure="usd", limit=10, held=10, retry_after_s=1), 429, "budget_held"),
    (Refused(Reason.RATE_LIMIT_EXCEEDED, rate(1), retry_after_s=7), 429, "rate_limit_exceeded"),
    (Refused(Reason.COUNTER_BUILDING, budget(1.0), retry_after_s=2), 503, "counter_building"),
    (Refused(Reason.STORE_RECOVERING, budget(1.0), retry_after_s=5), 503, "store_recovering"),
]


@pytest.mark.parametrize(("first", "second"), list(combinations(IN_ORDER, 2)))
def test_the_first_of_two_is_told_whichever_rule_refused_first(
    first: tuple[Refused, int, str], second: tuple[Refused, int, str]
) -> None:
    for refused in ((first[0], second[0]), (second[0], first[0])):
        told = refusal_of(refused, "")
        assert (told.status, told.code) == first[1:]


def test_of_several_rates_the_longest_wait_is_told() -> None:
    waits = [Refused(Reason.RATE_LIMIT_EXCEEDED, rate(1), retry_after_s=each) for each in (3, 40, 7)]
    assert refusal_of(tuple(waits), "").retry_after_s == 40


@pytest.mark.parametrize(
    ("tight", "wide"), [((-1, 0), (0, 0)), ((5, 9), (300, 0)), ((7, 0), (7, 90)), ((7, 90), (7, 80))]
)
def test_of_several_budgets_the_tightest_is_told(tight: tuple[int, int], wide: tuple[int, int]) -> None:
    refused = [
        Refused(Reason.BUDGET_EXCEEDED, budget(1.0, id=name), measure="usd", largest_output=most, resets_at_s=resets_s)
        for name, (most, resets_s) in (("wide", wide), ("tight", tight))
    ]
    assert refusal_of(tuple(refused), "").details["budget"] == "tight"


def test_a_budget_is_told_by_its_name_and_its_id() -> None:
    told = refusal_of((Refused(Reason.BUDGET_EXCEEDED, budget(1.0, name="Search"), measure="usd"),), "")
    assert "The budget ('Search', daily, budget_1) has $0.00" in told.message


def test_a_freeze_comes_before_a_price_that_nobody_knows_and_that_before_a_spent_budget(
    make_house: MakeHouse, upstream: Upstream
) -> None:
    def code(house: House) -> str:
        house.configuration.models.exact["unpriced"] = (house.deployment("unpriced", rates=None),)  # type: ignore[index]
        answered = house.chat("unpriced", max_tokens=20_000).headers["x-tt-code"]
        house.stop()
        return answered

    rules = (budget(0.0001),)
    freeze = FreezeRule("f", "global", "", "", "incident")
    assert code(under(make_house, *rules, rates=[rate(0)], freezes=[freeze])) == "frozen"
    assert code(under(make_house, *rules, rates=[rate(0)])) == "price_unknown"
    assert upstream.seen == []
