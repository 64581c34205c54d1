"""What every store of the gate does: the same tests for memory and Redis."""

from __future__ import annotations

import pytest

from tests.proxy.gate.stand import FACTS, NOON_US, Stand, budget, rate, run
from token_tracker.domain.rules import CallFacts
from token_tracker.domain.windows import NEVER_S, bucket_of
from token_tracker.proxy.gate.cells import BEATS
from token_tracker.proxy.gate.places import Rules
from token_tracker.proxy.gate.store import END, Base, CounterState, Reason

DAY_US = 86_400_000_000
DAY = bucket_of("daily", "UTC", NOON_US)
LEAVES = DAY + 86_400


def test_a_call_without_rules_is_admitted_and_holds_nothing(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules()
            verdict = await stand.ask(10**12, output_min=7, output_max=7)
            assert verdict.is_admitted
            assert (verdict.output_tokens, verdict.held_nano_usd) == (7, 0)

    run(scenario())


def test_a_hard_budget_admits_up_to_its_limit_and_not_one_nano_dollar_more(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000))
            assert (await stand.ask(600)).held_nano_usd == 600
            assert not (await stand.ask(401)).is_admitted
            assert (await stand.ask(400)).is_admitted
            assert await stand.state() == CounterState(held=1000)

    run(scenario())


def test_a_refusal_tells_every_rule_that_refuses_with_its_numbers_and_changes_none(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            team = budget(500, id="team", scope_type="team", scope_id="t", period="monthly")
            await stand.rules(budget(1000), team, budget(10**9, id="big"), rate(2))
            await stand.ask(300)
            await stand.end("c1", 250, unproven=50)
            await stand.ask(200)
            before = [await stand.state(f"{name}|usd|") for name in ("b", "team", "big")]
            verdict = await stand.ask(501, usd_per_output_pico=1000, output_min=1, output_max=1)
            assert [each.rule.id for each in verdict.refused] == ["b", "team", "r-requests"]
            own, of_team, of_rate = verdict.refused
            assert (own.reason, own.limit, own.spent, own.held, own.unproven) == (
                Reason.BUDGET_HELD,
                1000,
                250,
                200,
                50,
            )
            assert (own.resets_at_s, own.measure, own.retry_after_s, own.largest_output) == (LEAVES, "usd", 1, -1)
            assert (of_team.reason, of_team.retry_after_s) == (Reason.BUDGET_EXCEEDED, 0)
            assert (of_rate.reason, of_rate.limit, of_rate.spent) == (Reason.RATE_LIMIT_EXCEEDED, 2, 2)
            assert of_rate.retry_after_s == 61
            assert [await stand.state(f"{name}|usd|") for name in ("b", "team", "big")] == before

    run(scenario())


def test_the_largest_output_that_fits_is_told(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000))
            verdict = await stand.ask(100, usd_per_output_pico=2500, output_min=400, output_max=400)
            assert verdict.refused[0].largest_output == 360
            assert (await stand.ask(100, usd_per_output_pico=2500, output_min=360, output_max=360)).is_admitted

    run(scenario())


@pytest.mark.parametrize(
    ("output_min", "output_max", "is_own", "granted"),
    [(256, 8192, False, 4500), (256, 1000, False, 1000), (5000, 8192, False, 5000), (256, 8192, True, 8192)],
)
def test_the_gate_sets_half_of_what_remains_as_output_maximum(
    kind: str, output_min: int, output_max: int, is_own: bool, granted: int
) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(10_000))
            verdict = await stand.ask(
                1000, usd_per_output_pico=1000, output_min=output_min, output_max=output_max, is_own_maximum=is_own
            )
            assert verdict.output_tokens == granted
            assert verdict.held_nano_usd == 1000 + granted

    run(scenario())


def test_a_budget_of_tokens_and_money_holds_in_both(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000, limit_tokens=50))
            assert (await stand.ask(10, tokens_fixed=40, output_min=5, output_max=5)).held_tokens == 45
            verdict = await stand.ask(10, tokens_fixed=4, output_min=2, output_max=2)
            assert [(each.measure, each.largest_output) for each in verdict.refused] == [("tokens", 1)]
            assert await stand.state("b|tokens|") == CounterState(held=45)
            assert await stand.state() == CounterState(held=10)

    run(scenario())


def test_an_end_replaces_the_hold_and_may_be_told_twice(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000))
            await stand.ask(600)
            for _ in range(2):
                await stand.end("c1", 200, unproven=30)
                assert await stand.state() == CounterState(200, 0, 30)
            await stand.end("c1", 220, at=(0, 5))  # a late settlement
            assert await stand.state() == CounterState(220, 0, 0)
            stand.gate.release("c1")
            assert await stand.state() == CounterState(220, 0, 0)

    run(scenario())


def test_a_released_call_leaves_nothing(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000), rate(1, "concurrent", ""))
            assert (await stand.ask(1000)).is_admitted
            stand.gate.release("c1")
            stand.gate.release("c1")
            assert await stand.state() == CounterState()
            assert (await stand.ask(1000)).is_admitted

    run(scenario())


def test_an_entry_leaves_in_the_step_that_brings_its_row(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000))
            for _ in range(3):
                await stand.ask(300)
            await stand.end("c1", 200, unproven=10, at=(0, 100))
            await stand.end("c2", 50, at=(1, 20))
            name = ("b|usd|", DAY)
            for _ in range(2):
                await stand.books({name: Base(200, 10, 1, LEAVES)}, {"00000001": (0, 100)})
                assert await stand.state() == CounterState(250, 300, 10)
            await stand.books({name: Base(250, 0, 3, LEAVES)}, {"00000001": (1, 20)})
            await stand.books({name: Base(200, 10, 2, LEAVES)}, {"00000001": (0, 100)})  # comes late
            assert await stand.state() == CounterState(250, 300, 0)

    run(scenario())


def test_an_end_that_is_booked_already_counts_no_more(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000))
            await stand.ask(300)
            await stand.books({("b|usd|", DAY): Base(120, 0, 1, LEAVES)}, {"00000001": (0, 100)})
            await stand.end("c1", 120, at=(0, 100))
            assert await stand.state() == CounterState(120, 0, 0)

    run(scenario())


@pytest.mark.parametrize("kind", ["redis"], indirect=True)
def test_a_dead_gateways_holds_stand_until_its_crash_rows_are_booked(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000))
            await stand.ask(600)
            await stand.add_gate()
            await stand.rules(budget(1000))
            verdict = await stand.ask(401)
            assert verdict.refused[0].reason is Reason.BUDGET_HELD
            await stand.books({("b|usd|", DAY): Base(100, 500, 1, LEAVES)}, {"00000001": END})
            assert await stand.state() == CounterState(100, 0, 500)
            await stand.end("c1", 100, at=(0, 9), gate=stand.gates[0])  # was not dead after all
            assert await stand.state() == CounterState(100, 0, 500)

    run(scenario())


def test_what_the_ledger_holds_counts_from_the_start(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000))
            await stand.books({("b|usd|", DAY): Base(700, 100, 7, LEAVES)})
            verdict = await stand.ask(201)
            assert verdict.refused[0].reason is Reason.BUDGET_EXCEEDED
            assert (await stand.ask(200)).is_admitted

    run(scenario())


def test_amounts_beyond_what_a_double_holds_stay_exact_and_never_favour_the_spender(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            limit = 4 * 10**18 + 1
            await stand.rules(budget(limit))
            await stand.books({("b|usd|", DAY): Base(limit - 20_000, 0, 1, LEAVES)})
            assert not (await stand.ask(20_001)).is_admitted
            assert (await stand.ask(1_001)).is_admitted
            await stand.books({("b|usd|", DAY): Base(limit - 30_001, 1, 2, LEAVES)})
            await stand.end("c2", 999)
            assert (await stand.state()).counted == limit - 30_000 + 999

    run(scenario())


def test_each_day_has_a_window_of_its_own_and_a_late_end_goes_to_the_day_of_its_admission(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000))
            await stand.ask(1000)
            assert (await stand.ask(1000, now_us=NOON_US + DAY_US)).is_admitted
            await stand.end("c1", 900, now_us=NOON_US)
            first = await stand.store.counter("b|usd|", DAY, DAY)
            second = await stand.store.counter("b|usd|", DAY + 86_400, DAY + 86_400)
            assert (first.spent, second.held) == (900, 1000)

    run(scenario())


def test_a_rolling_window_lets_a_cost_go_after_24_to_25_hours(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000, period="rolling_24h"))
            await stand.ask(600, now_us=NOON_US + 59 * 60_000_000)
            await stand.end("c1", 600, now_us=NOON_US + 59 * 60_000_000)
            verdict = await stand.ask(500, now_us=NOON_US + DAY_US + 3_599_000_000)
            assert verdict.refused[0].resets_at_s == NOON_US // 1_000_000 + 25 * 3600
            await stand.ask(400, now_us=NOON_US + DAY_US)
            assert (await stand.ask(600, now_us=NOON_US + DAY_US + 3_600_000_000)).is_admitted
            assert not (await stand.ask(1, now_us=NOON_US + DAY_US + 3_600_000_000)).is_admitted

    run(scenario())


def test_a_rolling_window_counts_what_the_books_bring_for_any_of_its_hours(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000, period="rolling_30d"))
            hour = NOON_US // 1_000_000
            assert (await stand.ask(10)).is_admitted
            for age, spent in ((0, 100), (720, 200), (721, 400)):
                bucket = hour - age * 3600
                await stand.books({("b|usd|", bucket): Base(spent, 0, 1, bucket + 721 * 3600)})
            assert not (await stand.ask(691)).is_admitted
            assert (await stand.ask(690)).is_admitted

    run(scenario())


def test_a_total_budget_counts_from_its_start_and_never_ends(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000, period="total", starts_at_us=NOON_US))
            assert (await stand.ask(5000, now_us=NOON_US - 1)).is_admitted
            assert (await stand.ask(1000, now_us=NOON_US)).is_admitted
            verdict = await stand.ask(1, now_us=NOON_US + 900 * DAY_US)
            assert verdict.refused[0].resets_at_s == 0

    run(scenario())


def test_a_soft_budget_refuses_only_once_it_is_spent(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000, enforcement="soft"))
            assert [(await stand.ask(900)).held_nano_usd for _ in range(3)] == [0, 0, 0]
            await stand.end("c1", 999)
            assert (await stand.ask(1)).is_admitted
            await stand.end("c2", 1)
            assert (await stand.ask(1)).refused[0].reason is Reason.BUDGET_EXCEEDED

    run(scenario())


def test_a_budget_that_only_alerts_is_not_the_gates_matter(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(0, enforcement="alert"))
            assert (await stand.ask(900)).is_admitted

    run(scenario())


def test_a_call_without_a_bound_needs_a_budget_that_allows_it(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000))
            assert (await stand.ask(0, usd_fixed_nano=None)).refused[0].reason is Reason.COST_UNBOUNDED
            await stand.rules(budget(1000, allow_unbounded=True))
            assert (await stand.ask(0, usd_fixed_nano=None)).is_admitted
            await stand.end("c2", 1000)
            assert (await stand.ask(0, usd_fixed_nano=None)).refused[0].reason is Reason.BUDGET_EXCEEDED

    run(scenario())


def test_a_single_worst_case_beyond_all_measure_fits_no_budget(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(9 * 10**18))
            assert not (await stand.ask(2**52 + 1)).is_admitted
            assert (await stand.ask(2**52)).is_admitted

    run(scenario())


def test_a_budget_sends_calls_to_its_other_model_from_its_percentage_on_or_where_they_do_not_fit(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            cheap = budget(1000, action="downgrade", downgrade_model="cheap", downgrade_at=80)
            await stand.rules(cheap)
            assert (await stand.ask(1001)).downgrade == cheap
            assert (await stand.ask(800)).is_admitted
            verdict = await stand.ask(1)
            assert (verdict.downgrade, verdict.is_admitted) == (cheap, False)
            assert (await stand.ask(100, may_downgrade=False)).is_admitted
            assert (await stand.ask(101, may_downgrade=False)).refused[0].reason is Reason.BUDGET_HELD
            assert await stand.state() == CounterState(held=900)

    run(scenario())


def test_a_top_up_raises_the_limit_for_its_time(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000, top_ups=((500, NOON_US + 10, NOON_US), (100, 0, NOON_US - DAY_US))))
            assert not (await stand.ask(1001, now_us=NOON_US - 1)).is_admitted
            assert not (await stand.ask(1001, now_us=NOON_US + 10)).is_admitted
            assert not (await stand.ask(1501)).is_admitted
            assert (await stand.ask(1500)).is_admitted

    run(scenario())


def test_each_member_has_a_counter_of_its_own(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000, scope_type="tag", scope_id="*"))
            both = CallFacts(tags=("x", "y"))
            assert (await stand.ask(600, facts=CallFacts(tags=("x",)))).is_admitted
            verdict = await stand.ask(500, facts=both)
            assert [each.member for each in verdict.refused] == ["x"]
            assert (await stand.ask(400, facts=both)).is_admitted
            assert (await stand.state("b|usd|x")).held == 1000
            assert (await stand.state("b|usd|y")).held == 400

    run(scenario())


def test_a_rule_has_no_room_for_more_members_than_it_may_until_windows_end(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind, members_most=2) as stand:
            await stand.rules(budget(1000, scope_type="session", scope_id="*"))
            for name in ("x", "y", "x"):
                assert (await stand.ask(10, facts=CallFacts(session=name))).is_admitted
            assert (await stand.ask(10, facts=CallFacts(session="z"))).refused[0].reason is Reason.TOO_MANY_MEMBERS
            later_us = NOON_US + 2 * DAY_US
            for _ in range(BEATS):
                stand.gate.heartbeat(later_us)
            assert (await stand.ask(10, facts=CallFacts(session="z"), now_us=later_us)).is_admitted

    run(scenario())


def test_a_clock_that_jumps_ahead_and_back_loses_nothing(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000))
            await stand.ask(600)
            await stand.end("c1", 600)
            for days in (1, 40):
                stand.gate.heartbeat(NOON_US + days * DAY_US)
                assert (await stand.ask(900, now_us=NOON_US + days * DAY_US)).is_admitted
            stand.gate.heartbeat(NOON_US)
            assert not (await stand.ask(401)).is_admitted
            assert (await stand.ask(400)).is_admitted

    run(scenario())


def test_a_member_of_whom_nothing_is_counted_makes_room_for_another(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind, members_most=2) as stand:
            await stand.rules(budget(1000, scope_type="session", scope_id="*", period="total"))
            for name in ("x", "y"):
                await stand.ask(10, facts=CallFacts(session=name))
            stand.gate.release("c1")
            await stand.settled()
            assert (await stand.ask(10, facts=CallFacts(session="z"))).is_admitted
            assert (await stand.ask(10, facts=CallFacts(session="x"))).refused[0].reason is Reason.TOO_MANY_MEMBERS
            assert (await stand.state("b|usd|y")).held == (await stand.state("b|usd|z")).held == 10

    run(scenario())


def test_members_of_a_rate_are_forgotten_once_nothing_of_them_is_counted(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind, members_most=2) as stand:
            await stand.rules(rate(5, scope_type="agent", scope_id="*"))
            for name in ("x", "y"):
                assert (await stand.ask(facts=CallFacts(agent=name))).is_admitted
            assert (await stand.ask(facts=CallFacts(agent="z"))).refused[0].reason is Reason.TOO_MANY_MEMBERS
            later_us = NOON_US + 62_000_000
            assert (await stand.ask(facts=CallFacts(agent="z"), now_us=later_us)).is_admitted

    run(scenario())


def test_a_gateway_forgets_calls_once_they_are_booked(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(10_000), rate(100))
            for number in range(1, 6):
                await stand.ask(10)
                await stand.end(f"c{number}", 5, at=(0, number))
            assert stand.gate.unbooked == 5
            await stand.books({("b|usd|", DAY): Base(15, 0, 1, LEAVES)}, {"00000001": (0, 3)})
            stand.gate.heartbeat(NOON_US)
            assert stand.gate.unbooked == 2
            assert await stand.state() == CounterState(25)

    run(scenario())


def test_many_bases_come_in_parts_and_count_all_the_same(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000, scope_type="user", scope_id="*"))
            bases = {(f"b|usd|u{number}", DAY): Base(900, 0, 1, LEAVES) for number in range(1200)}
            await stand.books(bases, is_complete=True)
            for name in ("u0", "u700", "u1199"):
                assert not (await stand.ask(101, facts=CallFacts(user=name))).is_admitted
                assert (await stand.ask(100, facts=CallFacts(user=name))).is_admitted

    run(scenario())


def test_only_the_rules_that_match_the_row_keep_an_amount(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000, model="dear"), budget(1000, id="c", model="cheap"))
            await stand.ask(500, facts=CallFacts(models=frozenset({"dear", "cheap"})))
            assert (await stand.state()).held == (await stand.state("c|usd|")).held == 500
            await stand.end("c1", 30, facts=CallFacts(models=frozenset({"cheap"})))
            assert await stand.state() == CounterState()
            assert await stand.state("c|usd|") == CounterState(30)

    run(scenario())


def test_a_new_budget_counts_calls_in_flight_and_those_not_booked(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000))
            await stand.ask(100)
            await stand.ask(200)
            await stand.end("c1", 60, unproven=5)
            new = budget(300, id="new", period="monthly")
            await stand.rules(budget(1000), new)
            assert await stand.state("new|usd|") == CounterState(60, 200, 5)
            assert [each.rule for each in (await stand.ask(36)).refused] == [new]
            await stand.rules(new)
            assert await stand.state() == CounterState()

    run(scenario())


def test_a_lowered_limit_admits_nothing_until_it_fits_again(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000))
            await stand.ask(800)
            await stand.rules(budget(500))
            assert not (await stand.ask(0, usd_fixed_nano=1)).is_admitted
            await stand.end("c1", 100)
            assert (await stand.ask(400)).is_admitted

    run(scenario())


def test_a_hard_budget_waits_for_its_counter_to_be_built(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000))
            stand.gate.set_rules(Rules([budget(1000), budget(1000, id="new")]))
            (refused,) = (await stand.ask(1)).refused
            assert (refused.reason, refused.rule.id) == (Reason.COUNTER_BUILDING, "new")
            assert refused.retry_after_s > 0
            await stand.books(ready=frozenset({"new"}))
            assert (await stand.ask(1)).is_admitted

    run(scenario())


def test_rules_that_can_count_refuse_also_while_another_budget_waits_for_its_counter(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            full, soft = budget(1000), budget(50, id="soft", enforcement="soft")
            await stand.rules(full, soft, rate(1))
            await stand.ask(1)
            await stand.end("c1", 60)
            stand.gate.set_rules(Rules([full, soft, budget(1000, id="new")], [rate(1)]))
            before = await stand.state(), await stand.state("new|usd|")
            verdict = await stand.ask(941)
            assert {each.rule.id: each.reason for each in verdict.refused} == {
                "new": Reason.COUNTER_BUILDING,
                "b": Reason.BUDGET_EXCEEDED,
                "soft": Reason.BUDGET_EXCEEDED,
                "r-requests": Reason.RATE_LIMIT_EXCEEDED,
            }
            assert (await stand.state(), await stand.state("new|usd|")) == before
            await stand.books(ready=frozenset({"new"}))
            stand.gate.set_rules(Rules([full, budget(1000, id="new")], [rate(2)]))
            assert (await stand.ask(940)).is_admitted, "what was refused took nothing"

    run(scenario())


def test_a_budget_whose_counters_are_built_anew_waits_although_it_was_ready_before(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000))
            assert (await stand.ask(1)).is_admitted
            stand.gate.set_rules(Rules([budget(1000, is_built=False)]))
            (refused,) = (await stand.ask(1)).refused
            assert refused.reason is Reason.COUNTER_BUILDING

    run(scenario())


def test_a_rate_of_requests_never_passes_its_limit_in_any_span_and_tells_when_to_come_back(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(rate(3))
            start_us = NOON_US + 999_999  # the last microsecond of a slice
            verdict = await stand.ask(now_us=start_us)
            assert verdict.requests is not None
            assert (verdict.requests.limit, verdict.requests.remaining, verdict.requests.reset_s) == (3, 2, 61)
            await stand.ask(now_us=start_us + 1)
            await stand.ask(now_us=start_us + 30_000_000)
            refused = (await stand.ask(now_us=start_us + 59_999_999)).refused[0]
            assert refused.retry_after_s == 1
            assert not (await stand.ask(now_us=start_us + 60_000_000)).is_admitted
            assert (await stand.ask(now_us=start_us + 60_000_001)).is_admitted
            refused = (await stand.ask(now_us=start_us + 60_000_001)).refused[0]
            assert refused.retry_after_s == 1

    run(scenario())


def test_a_rate_of_tokens_counts_an_estimate_and_corrects_it_in_the_slice_of_the_admission(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(rate(1000, "tokens"))
            verdict = await stand.ask(rate_tokens=900)
            assert verdict.tokens is not None
            assert verdict.tokens.remaining == 100
            assert not (await stand.ask(rate_tokens=101)).is_admitted
            await stand.end("c1", 0, tokens=300)
            assert (await stand.ask(rate_tokens=700)).is_admitted
            await stand.end("c3", 0, tokens=5000, at=(0, 2))
            assert (await stand.ask(rate_tokens=1, now_us=NOON_US + 60_000_000)).refused[0].spent == 5300
            assert (await stand.ask(rate_tokens=9999, now_us=NOON_US + 61_000_000)).is_admitted  # as much as it may be

    run(scenario())


def test_a_rate_of_zero_refuses_all(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(rate(0), rate(0, "concurrent", ""), rate(0, "tokens", "day"))
            verdict = await stand.ask(rate_tokens=1)
            units = [(each.measure, each.retry_after_s) for each in verdict.refused]
            assert units[:2] == [("requests", 60), ("concurrent", 1)]

    run(scenario())


def test_a_clock_that_was_far_ahead_does_not_stop_a_rate_for_long(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(rate(1))
            assert (await stand.ask(now_us=NOON_US + 365 * DAY_US)).is_admitted
            assert (await stand.ask(now_us=NOON_US)).is_admitted
            assert not (await stand.ask(now_us=NOON_US - 30_000_000)).is_admitted

    run(scenario())


def test_calls_in_flight_are_counted_while_they_live(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(rate(2, "concurrent", "", scope_type="key", scope_id="*"))
            await stand.ask()
            await stand.ask()
            assert (await stand.ask()).refused[0].reason is Reason.RATE_LIMIT_EXCEEDED
            await stand.end("c1", 0)
            assert (await stand.ask()).is_admitted
            stand.gate.heartbeat(NOON_US + 10_000_000)
            await stand.settled()
            assert not (await stand.ask(now_us=NOON_US + 24_000_000)).is_admitted
            assert (await stand.ask(now_us=NOON_US + 25_000_000)).is_admitted  # nobody renewed them again

    run(scenario())


def test_one_rule_that_refuses_takes_nothing_from_the_others(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000), rate(1), rate(5, "concurrent", ""), rate(100, "tokens"))
            await stand.ask(1, rate_tokens=10)
            for _ in range(3):
                assert [each.measure for each in (await stand.ask(1, rate_tokens=10)).refused] == ["requests"]
            verdict = await stand.ask(1, rate_tokens=91)
            assert [(each.measure, each.spent) for each in verdict.refused] == [("requests", 1), ("tokens", 10)]
            assert await stand.state() == CounterState(held=1)

    run(scenario())


def test_the_facts_of_another_call_find_other_rules(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(0, scope_type="user", scope_id="poor"))
            assert (await stand.ask(5, facts=FACTS)).is_admitted
            assert not (await stand.ask(5, facts=CallFacts(user="poor"))).is_admitted
            assert await stand.store.counter("none|usd|", 0, NEVER_S) == CounterState()

    run(scenario())


def test_a_hold_that_no_call_has_is_found_given_back_and_counted(kind: str) -> None:
    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000), rate(5, "concurrent", ""))
            await stand.ask(300)
            await stand.ask(200)
            await stand.ask(100)
            await stand.end("c3", 40)
            await stand.gate.compare()
            await stand.gate.compare()
            assert await stand.state() == CounterState(40, 500, 0), "what is known stays"
            del stand.gate._entries["c1"]  # as if its end had been lost on the way
            await stand.gate.compare()
            await stand.gate.compare()
            await stand.settled()
            assert await stand.state() == CounterState(40, 200, 0)
            assert stand.store.figures.leaks == 1
            assert (await stand.ask(760)).is_admitted

    run(scenario())
