"""Calls under budgets, rates and freezes, through a real gateway to a real upstream."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.proxy.conftest import MakeHouse
from tests.proxy.house import KEY, House, key_record, publish, publish_counters, synced, wait_until
from tests.proxy.permits.rules import IN, OUT, budget, counted, error, opened, rate, sent, under
from tests.proxy.upstream import DONE, Out, Seen, Upstream, complete, delta, stream
from token_tracker.config import paths
from token_tracker.config.values import Routing
from token_tracker.domain.rules import FreezeRule
from token_tracker.proxy.books.publication import RulesRecord
from token_tracker.proxy.books.records import Open
from token_tracker.proxy.gate.store import Base, Books, CounterBucket


def test_a_call_is_held_at_its_worst_case_and_settled_at_its_cost(make_house: MakeHouse, upstream: Upstream) -> None:
    house = under(make_house, budget(1.0))
    body = json.dumps({"model": "gpt", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}).encode()
    reply = house.call(body)
    assert reply.status == 200
    assert opened(house).held_nano_usd == (len(body) + 64) * IN + 100 * OUT
    assert opened(house).held_tokens == len(body) + 64 + 100
    assert (house.row().cost_nano_usd, house.row().unproven_nano_usd, house.row().overrun_nano_usd) == (24_000, 0, 0)
    assert counted(house) == (24_000, 0, 0)


def test_without_rules_nothing_is_held_and_nothing_changed(house: House, upstream: Upstream) -> None:
    reply = house.chat()
    assert opened(house).held_nano_usd == 0 and "max_tokens" not in sent(upstream)
    assert not any(name.startswith("x-ratelimit") or name == "x-tt-max-output-tokens" for name in reply.headers)


def test_a_call_without_a_maximum_is_sent_with_one_and_the_answer_says_so(
    make_house: MakeHouse, upstream: Upstream
) -> None:
    house = under(make_house, budget(100.0))
    reply = house.chat()
    assert sent(upstream)["max_tokens"] == 8192
    assert reply.headers["x-tt-max-output-tokens"] == "8192"


def test_near_the_limit_half_of_what_remains_is_granted(make_house: MakeHouse, upstream: Upstream) -> None:
    house = under(make_house, budget(0.01))
    house.chat()
    granted = sent(upstream)["max_tokens"]
    held = opened(house)
    fixed = held.held_nano_usd - granted * OUT
    assert granted == (10_000_000 - fixed) // 2 // OUT


def test_a_clients_own_maximum_stays_as_it_is(make_house: MakeHouse, upstream: Upstream) -> None:
    house = under(make_house, budget(100.0))
    reply = house.chat(max_tokens=5000)
    assert sent(upstream)["max_tokens"] == 5000 and "x-tt-max-output-tokens" not in reply.headers


def test_a_maximum_of_0_which_some_take_for_none_is_sent_as_1(make_house: MakeHouse, upstream: Upstream) -> None:
    house = under(make_house, budget(100.0))
    house.chat(max_tokens=0)
    assert sent(upstream)["max_tokens"] == 1
    fixed = opened(house).held_nano_usd
    house.chat(max_tokens=2)
    assert [each.held_nano_usd for each in house.records() if isinstance(each, Open)] == [fixed, fixed + OUT]


def test_with_clamp_always_a_clients_maximum_is_lowered_to_what_fits(make_house: MakeHouse, upstream: Upstream) -> None:
    house = under(make_house, budget(0.01, clamp="always"))
    reply = house.chat(max_tokens=50_000)
    granted = sent(upstream)["max_tokens"]
    assert 256 <= granted < 50_000
    assert reply.headers["x-tt-max-output-tokens"] == str(granted)
    assert opened(house).held_nano_usd <= 10_000_000


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/v1/chat/completions", {"messages": []}, "max_tokens"),
        ("/v1/completions", {"prompt": "x"}, "max_tokens"),
        ("/v1/responses", {"input": "x"}, "max_output_tokens"),
    ],
)
def test_every_route_has_its_own_name_for_the_maximum(
    make_house: MakeHouse, upstream: Upstream, path: str, body: dict[str, Any], name: str
) -> None:
    house = under(make_house, budget(100.0))
    assert house.call({"model": "gpt", **body}, path).status == 200
    assert sent(upstream)[name] == 8192


def test_a_reasoning_models_maximum_goes_under_the_name_that_it_takes(
    make_house: MakeHouse, upstream: Upstream
) -> None:
    house = under(make_house, budget(100.0))
    house.configuration.models.exact["gpt"] = (house.deployment("gpt", model="gpt-5-mini"),)  # type: ignore[index]
    house.chat(max_tokens=700)
    assert sent(upstream)["max_completion_tokens"] == 700 and "max_tokens" not in sent(upstream)


def test_the_models_own_maximum_is_never_exceeded_by_what_the_gateway_sets(
    make_house: MakeHouse, upstream: Upstream
) -> None:
    house = under(make_house, budget(100.0))
    house.configuration.models.exact["gpt"] = (house.deployment("gpt", max_output_tokens=1000),)  # type: ignore[index]
    house.chat()
    assert sent(upstream)["max_tokens"] == 1000


def test_too_little_left_is_402_with_the_numbers_and_nothing_is_forwarded(
    make_house: MakeHouse, upstream: Upstream
) -> None:
    house = under(make_house, budget(0.001))
    reply = house.chat(max_tokens=100_000)
    assert (reply.status, reply.headers["x-tt-code"], reply.headers["x-should-retry"]) == (
        402,
        "budget_exceeded",
        "false",
    )
    said = error(reply)
    assert (said["code"], said["type"]) == ("budget_exceeded", "insufficient_quota")
    details = said["details"]
    assert (details["budget"], details["limit"], details["spent"]) == ("budget_1", "0.001000000", "0.000000000")
    assert (details["held"], details["unproven"]) == ("0.000000000", "0.000000000")
    assert details["resets_at"].endswith("T00:00:00Z")
    assert upstream.seen == [] and house.records() == []
    assert house.chat(max_tokens=details["max_output_tokens"]).status == 200


def test_what_waits_for_calls_in_flight_is_429_and_fits_after_them(make_house: MakeHouse, upstream: Upstream) -> None:
    house = under(make_house, budget(0.03))
    open_it, wait = upstream.gate()

    async def answer(seen: Seen, out: Out) -> None:
        await wait()
        await complete(seen, out)

    upstream.answer = answer
    first = threading.Thread(target=house.chat, kwargs={"max_tokens": 10_000})
    first.start()
    wait_until(lambda: upstream.seen, "the first call in flight")
    reply = house.chat(max_tokens=10_000)
    assert (reply.status, reply.headers["x-tt-code"]) == (429, "budget_held")
    assert int(reply.headers["retry-after"]) >= 1
    open_it()
    first.join(10)
    assert house.chat(max_tokens=10_000).status == 200


def test_an_error_answer_gives_its_hold_back(make_house: MakeHouse, upstream: Upstream) -> None:
    house = under(make_house, budget(1.0))

    async def answer(seen: Seen, out: Out) -> None:
        await out.whole(b"{}", status="400 Bad Request")

    upstream.answer = answer
    assert house.chat().status == 400
    assert counted(house) == (0, 0, 0)


def test_what_cannot_be_sent_gives_its_hold_back_and_has_a_row_that_cost_nothing(make_house: MakeHouse) -> None:
    house = under(make_house, budget(1.0))
    gone = house.deployment("gone", api_base="http://127.0.0.1:9/v1")
    house.configuration.models.exact["gone"] = (gone,)  # type: ignore[index]
    assert house.chat("gone").status == 502
    assert counted(house) == (0, 0, 0)


def test_a_break_in_mid_answer_keeps_the_rest_of_its_hold_unproven(make_house: MakeHouse, upstream: Upstream) -> None:
    house = under(make_house, budget(1.0))

    async def answer(seen: Seen, out: Out) -> None:
        await out.begin_stream()
        await out.chunk(delta("Hello"))
        out.reset()

    upstream.answer = answer
    house.chat(stream=True, max_tokens=100)
    row = house.row()
    assert row.cost_nano_usd is not None and row.cost_nano_usd > 0
    assert row.unproven_nano_usd == row.opened.held_nano_usd - row.cost_nano_usd > 0
    assert counted(house) == (row.cost_nano_usd, 0, row.unproven_nano_usd)


def test_what_a_provider_bills_beyond_the_bound_is_an_overrun(make_house: MakeHouse, upstream: Upstream) -> None:
    house = under(make_house, budget(1.0))

    async def answer(seen: Seen, out: Out) -> None:
        usage = {"prompt_tokens": 10, "completion_tokens": 10_000}
        await out.whole(json.dumps({"id": "x", "choices": [], "usage": usage}).encode())

    upstream.answer = answer
    house.chat(max_tokens=10)
    row = house.row()
    assert row.cost_nano_usd is not None
    assert row.overrun_nano_usd == row.cost_nano_usd - row.opened.held_nano_usd > 0


def test_a_stream_is_cut_with_a_proper_end_when_it_costs_more_than_was_held(
    make_house: MakeHouse, upstream: Upstream
) -> None:
    house = under(make_house, budget(1.0))

    _, wait = upstream.gate()
    broken = threading.Event()

    async def answer(seen: Seen, out: Out) -> None:
        await out.begin_stream()
        try:
            for number in range(500):
                await out.chunk(delta(f"word {number} "))
            await wait()
        except OSError:
            broken.set()

    upstream.answer = answer
    reply = house.chat(stream=True, max_tokens=10)
    assert reply.is_whole and reply.body.endswith(DONE)
    last = json.loads(reply.body.split(b"\n\n")[-3].removeprefix(b"data: "))
    assert last["choices"][0]["finish_reason"] == "length"
    row = house.row()
    assert row.end_reason == "budget_cutoff"
    wait_until(lambda: broken.is_set() or upstream.seen[0].left.is_set(), "the upstream is let go")
    assert row.cost_nano_usd is not None and row.cost_nano_usd + row.unproven_nano_usd >= row.opened.held_nano_usd


def test_a_stream_within_its_bound_is_never_cut(make_house: MakeHouse, upstream: Upstream) -> None:
    house = under(make_house, budget(1.0))
    upstream.answer = stream
    assert house.chat(stream=True, max_tokens=100).body.endswith(DONE)
    assert house.row().end_reason == "complete"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"tools": [{"type": "web_search"}]}, "cost_unbounded"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}, "cost_unbounded"),
        ({"model": "unpriced"}, "price_unknown"),
    ],
)
def test_what_cannot_be_bounded_or_priced_is_402_under_a_hard_budget_alone(
    make_house: MakeHouse, upstream: Upstream, fields: dict[str, Any], code: str
) -> None:
    for number, rule in enumerate((budget(1.0), budget(1.0, enforcement="soft"))):
        house = under(make_house, rule) if number == 0 else make_house(rules=RulesRecord((rule,)))
        synced(house)  # one of them names a file
        house.configuration.models.exact["unpriced"] = (house.deployment("unpriced", rates=None),)  # type: ignore[index]
        reply = house.call({"model": "gpt", "messages": [], **fields})
        assert reply.status == (402, 200)[number], reply.body
        assert number == 1 or error(reply)["code"] == reply.headers["x-tt-code"] == code
        house.stop()


def test_allow_unbounded_lets_such_a_call_pass(make_house: MakeHouse) -> None:
    house = under(make_house, budget(1.0, allow_unbounded=True))
    assert house.chat(tools=[{"type": "web_search"}]).status == 200


def test_a_budget_of_tokens_holds_tokens(make_house: MakeHouse, upstream: Upstream) -> None:
    house = under(make_house, budget(None, limit_tokens=1000))
    assert house.chat(max_tokens=100).status == 200
    reply = house.chat(max_tokens=2000)
    assert (reply.status, error(reply)["details"]["limit"], error(reply)["details"]["spent"]) == (402, 1000, 17)


def test_a_dearer_fallback_is_held_beforehand_and_given_back(make_house: MakeHouse, upstream: Upstream) -> None:
    dear = {"input_cost_per_token": Decimal("0.0001"), "output_cost_per_token": Decimal("0.0002")}
    house = under(make_house, budget(100.0), routing=Routing(fallbacks={"gpt": ("dear",)}))
    house.configuration.models.exact["dear"] = (house.deployment("dear", rates=dear),)  # type: ignore[index]
    house.chat(max_tokens=100)
    assert opened(house).held_nano_usd >= 100 * 200_000
    assert counted(house) == (24_000, 0, 0)


def test_a_call_that_falls_back_to_a_dearer_model_costs_what_was_held_for_at_most(
    make_house: MakeHouse, upstream: Upstream
) -> None:
    dear = {"input_cost_per_token": Decimal("0.0001"), "output_cost_per_token": Decimal("0.0002")}
    house = under(make_house, budget(1.0), routing=Routing(fallbacks={"gpt": ("dear",)}))
    house.configuration.models.exact["dear"] = (house.deployment("dear", rates=dear, model="dear"),)  # type: ignore[index]

    async def answer(seen: Seen, out: Out) -> None:
        asked = json.loads(seen.body)
        if asked["model"] != "dear":
            await out.whole(b'{"error": {"message": "overloaded"}}', status="503 Service Unavailable")
            return
        usage = {"prompt_tokens": 20, "completion_tokens": asked["max_tokens"]}
        await out.whole(json.dumps({"id": "x", "choices": [], "usage": usage}).encode())

    upstream.answer = answer
    assert house.chat(max_tokens=10_000).status == 402, "the cheap model alone would have fitted"
    assert upstream.seen == []
    assert house.chat(max_tokens=1_000).headers["x-tt-model"] == "dear"
    failed, row = house.rows()
    assert (failed.cost_nano_usd, row.cost_nano_usd) == (0, 20 * 100_000 + 1_000 * 200_000)
    assert row.overrun_nano_usd == row.unproven_nano_usd == 0
    assert counted(house) == (row.cost_nano_usd, 0, 0)


def test_several_answers_are_held_for(make_house: MakeHouse) -> None:
    house = under(make_house, budget(100.0))
    house.chat(max_tokens=100, n=5)
    assert opened(house).held_nano_usd >= 5 * 100 * OUT


def test_what_the_books_hold_counts_from_the_start(make_house: MakeHouse) -> None:
    day = int(time.time()) // 86_400 * 86_400
    base = Base(spent=999_000_000, unproven=500_000, version=1, leaves_at_s=day + 86_400)
    books = Books({CounterBucket("budget_1|usd|", day): base})
    house = under(make_house, budget(1.0), books=books)
    details = error(house.chat(max_tokens=1000))["details"]
    assert (details["spent"], details["unproven"]) == ("0.999000000", "0.000500000")


def test_a_budget_that_is_not_built_is_503_until_it_is(make_house: MakeHouse) -> None:
    house = under(make_house, budget(1.0))
    other = budget(1.0, id="budget_2", period="monthly")
    house.rules = RulesRecord((*house.rules.budgets, other))
    publish(paths.snapshot_path(house.settings), house.keys, house.prices, 2, house.rules)
    wait_until(lambda: house.chat().status == 503, "the new rule acts")
    reply = house.chat()
    assert reply.headers["x-tt-code"] == "counter_building" and int(reply.headers["retry-after"]) >= 1
    never = house.chat(tools=[{"type": "web_search"}])
    assert never.status == 402 and error(never)["code"] == "cost_unbounded", "certain whatever is counted"
    publish_counters(paths.counters_path(house.settings), house.rules)
    wait_until(lambda: house.chat().status == 200, "its counter is there")


def test_downgrade_sends_the_call_to_the_other_model_and_says_so(make_house: MakeHouse, upstream: Upstream) -> None:
    rule = budget(0.01, action="downgrade", downgrade_model="small")
    house = under(make_house, rule)
    cheap = {"input_cost_per_token": Decimal("0.00000001"), "output_cost_per_token": Decimal("0.00000002")}
    house.configuration.models.exact["small"] = (house.deployment("small", model="tiny", rates=cheap),)  # type: ignore[index]
    first = house.chat(max_tokens=1000)
    assert first.status == 200 and "x-tt-model" not in first.headers
    second = house.chat(max_tokens=100_000)
    assert (second.status, second.headers["x-tt-model"], sent(upstream)["model"]) == (200, "small", "tiny")
    rows = wait_until(lambda: len(house.rows()) == 2 and house.rows(), "two rows")
    assert (rows[1].opened.requested_model, rows[1].opened.model_group) == ("gpt", "small")


def test_a_downgraded_call_that_does_not_fit_either_is_refused(make_house: MakeHouse, upstream: Upstream) -> None:
    house = under(make_house, budget(0.001, action="downgrade", downgrade_model="small"))
    house.configuration.models.exact["small"] = (house.deployment("small"),)  # type: ignore[index]
    assert house.chat(max_tokens=100_000).headers["x-tt-code"] == "budget_exceeded"
    assert upstream.seen == []


def test_a_downgrade_to_a_model_that_the_key_may_not_use_is_none(make_house: MakeHouse) -> None:
    rule = budget(0.001, action="downgrade", downgrade_model="small")
    house = under(make_house, rule, keys={KEY: key_record(models=("gpt",))})
    house.configuration.models.exact["small"] = (house.deployment("small"),)  # type: ignore[index]
    assert house.chat(max_tokens=100_000).headers["x-tt-code"] == "budget_exceeded"


@pytest.mark.parametrize(
    "freeze",
    [
        FreezeRule("f", "global", "", ""),
        FreezeRule("f", "key", "key-1", ""),
        FreezeRule("f", "user", "ada", ""),
        FreezeRule("f", "team", "core", ""),
        FreezeRule("f", "global", "", "gpt"),
        FreezeRule("f", "global", "", "upstream-name"),
        FreezeRule("f", "model", "gpt", ""),
    ],
)
def test_a_freeze_is_403_with_its_reason(make_house: MakeHouse, upstream: Upstream, freeze: FreezeRule) -> None:
    house = under(make_house, freezes=[replace(freeze, reason="an incident")])
    reply = house.chat()
    assert (reply.status, reply.headers["x-tt-code"]) == (403, "frozen")
    assert "an incident" in error(reply)["message"] and upstream.seen == []


def test_a_freeze_of_others_stops_nobody_else(make_house: MakeHouse) -> None:
    freezes = [FreezeRule("a", "user", "bob", ""), FreezeRule("b", "global", "", "other")]
    assert under(make_house, freezes=freezes).chat().status == 200


def test_a_rate_limit_refuses_with_the_time_to_wait_and_says_what_remains(
    make_house: MakeHouse, upstream: Upstream
) -> None:
    async def answer(seen: Seen, out: Out) -> None:
        await out.whole(b"{}", "x-ratelimit-limit-requests: 500", "x-ratelimit-remaining-tokens: 7")

    upstream.answer = answer
    house = under(make_house, rates=[rate(2)])
    first, _, third = house.chat(), house.chat(), house.chat()
    assert (first.headers["x-ratelimit-limit-requests"], first.headers["x-ratelimit-remaining-requests"]) == ("2", "1")
    assert first.headers["x-ratelimit-reset-requests"].endswith("s")
    assert first.headers["x-tt-upstream-ratelimit-limit-requests"] == "500"
    assert first.headers["x-tt-upstream-ratelimit-remaining-tokens"] == "7"
    assert "x-ratelimit-remaining-tokens" not in first.headers
    assert (third.status, third.headers["x-tt-code"]) == (429, "rate_limit_exceeded")
    assert 1 <= int(third.headers["retry-after"]) <= 62
    assert error(third)["type"] == "rate_limit_error" and len(upstream.seen) == 2


def test_without_a_rate_rule_the_upstreams_figures_stay(make_house: MakeHouse, upstream: Upstream) -> None:
    async def answer(seen: Seen, out: Out) -> None:
        await out.whole(b"{}", "x-ratelimit-limit-requests: 500")

    upstream.answer = answer
    assert under(make_house, budget(100.0)).chat().headers["x-ratelimit-limit-requests"] == "500"


def test_a_limit_of_calls_in_flight_is_free_again_when_they_end(make_house: MakeHouse, upstream: Upstream) -> None:
    house = under(make_house, rates=[rate(1, unit="concurrent", period="")])
    for _ in range(3):
        assert house.chat().status == 200


def test_a_rate_of_tokens_counts_an_estimate_and_then_the_truth(make_house: MakeHouse) -> None:
    house = under(make_house, rates=[rate(300, unit="tokens")])
    for _ in range(5):  # 17 tokens each, 100 and some by the estimate
        assert house.chat(max_tokens=100).status == 200
    assert house.chat(max_tokens=290).headers["x-tt-code"] == "rate_limit_exceeded"


def test_in_anthropics_words_a_spent_budget_is_a_billing_error(make_house: MakeHouse) -> None:
    house = under(make_house, budget(0.0001))
    body = {"model": "gpt", "max_tokens": 10_000, "messages": [{"role": "user", "content": "hi"}]}
    reply = house.call(body, "/v1/messages")
    assert (reply.status, reply.json["type"], error(reply)["type"]) == (402, "error", "billing_error")
    assert error(reply)["details"]["budget"] == "budget_1"
