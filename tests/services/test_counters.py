"""Budgets' counters: they say what the ledger holds, whatever was booked before or after a budget was made."""

from __future__ import annotations

import random
import threading
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, delete, select, update

from tests.services.budget_rows import a_budget, add, check, counters
from tests.services.ledger_rows import NOON, a_row
from token_tracker.database.models import (
    Budget,
    CounterState,
    UnprovenRelease,
    UsageHourly,
)
from token_tracker.database.session import make_engine, reading, transaction
from token_tracker.domain.rules import EACH
from token_tracker.domain.usage import TOKEN_CLASSES
from token_tracker.domain.windows import window_of
from token_tracker.services import counter_checks, retention
from token_tracker.services.booking import LedgerRow, book
from token_tracker.services.counters import CountingRules

HOUR = timedelta(hours=1)
LATER = NOON + timedelta(minutes=40)
DAY_S = int(NOON.replace(hour=0).timestamp())
SHAPES: dict[str, dict[str, Any]] = {
    "all": {},
    "both": {"period": "monthly", "limit_tokens": 10_000},
    "tokens": {"period": "hourly", "limit_nano_usd": None, "limit_tokens": 10},
    "user": {"scope_type": "user", "scope_id": "ann", "period": "weekly"},
    "users": {"scope_type": "user", "scope_id": EACH, "period": "rolling_24h", "limit_tokens": 5},
    "team": {"scope_type": "team", "scope_id": "red", "timezone": "Asia/Kolkata"},
    "keys": {"scope_type": "key", "scope_id": EACH, "timezone": "America/New_York"},
    "agents": {"scope_type": "agent", "scope_id": EACH},
    "provider": {"scope_type": "provider", "scope_id": "openai", "period": "rolling_30d"},
    "asked": {"model": "fast", "period": "monthly"},
    "upstream": {"model": "gpt-4o", "scope_type": "user", "scope_id": EACH},
    "tag": {"scope_type": "tag", "scope_id": "a", "period": "total"},
    "tags": {"scope_type": "tag", "scope_id": EACH, "period": "rolling_24h"},
    "session": {"scope_type": "session", "scope_id": "s1", "timezone": "Europe/Berlin"},
    "end_users": {"scope_type": "end_user", "scope_id": EACH, "model": "fast", "period": "monthly"},
    "total": {"period": "total", "starts_at": NOON - timedelta(minutes=17, microseconds=1)},
}


def some_row(number: int, chance: random.Random) -> LedgerRow:
    """Anything that a row can be, most of it lately."""
    age_s = chance.choice((600, 7_200, 100_000, 3_000_000))
    priced = chance.random() < 0.9
    return a_row(
        number,
        LATER - timedelta(microseconds=chance.randrange(age_s * 1_000_000)),
        user_id=chance.choice(("ann", "bob", "")),
        team_id=chance.choice(("red", "")),
        key_id=chance.choice(("k1", "k2")),
        agent=chance.choice(("", "crawler")),
        session_id=chance.choice(("", "s1", "s2")),
        end_user=chance.choice(("", "eu")),
        tags=chance.choice(((), ("a",), ("a", "b"))),
        requested_model=chance.choice(("fast", "slow")),
        model_group=chance.choice(("fast", "other")),
        model=chance.choice(("gpt-4o", "claude")),
        provider=chance.choice(("openai", "anthropic")),
        cost_nano_usd=chance.randrange(1_000) if priced else None,
        cost_source="priced" if priced else "unpriced",
        output_tokens=chance.randrange(50),
        reasoning_tokens=chance.randrange(5),
        unproven_nano_usd=chance.choice((0, 0, 0, 7)),
        unproven_tokens=chance.choice((0, 0, 0, 3)),
    )


MEMBERS = {
    "user": "user_id",
    "team": "team_id",
    "key": "key_id",
    "agent": "agent",
    "provider": "provider",
    "session": "session_id",
    "end_user": "end_user",
}


def counted(budget: Budget, rows: list[LedgerRow]) -> dict[tuple[str, str, int], tuple[int, int]]:
    """The same as the counters say of the current window, counted the plain way."""
    starts_us = round(budget.starts_at.timestamp() * 1_000_000)
    window = window_of(budget.period, budget.timezone, round(LATER.timestamp() * 1_000_000), starts_us)
    spent: Counter[tuple[str, str, int]] = Counter()
    unproven: Counter[tuple[str, str, int]] = Counter()
    for row in rows:
        at_us = round(row["timestamp"].timestamp() * 1_000_000)
        if at_us not in window or (budget.period == "total" and at_us < starts_us):
            continue
        if budget.model and budget.model not in (row["requested_model"], row["model_group"], row["model"]):
            continue
        bucket = at_us // 3_600_000_000 * 3600 if budget.period.startswith("rolling") else window.start_s
        members = row["tags"] if budget.scope_type == "tag" else [row[MEMBERS.get(budget.scope_type, "id")]]
        for member in members if budget.scope_type != "global" else [""]:
            if budget.scope_type != "global" and (not member or budget.scope_id not in (EACH, member)):
                continue
            name = member if budget.scope_id == EACH else ""
            if budget.limit_nano_usd is not None:
                spent["usd", name, bucket] += row["cost_nano_usd"] or 0
                unproven["usd", name, bucket] += row["unproven_nano_usd"]
            if budget.limit_tokens is not None:
                spent["tokens", name, bucket] += sum(row[each] for each in TOKEN_CLASSES)
                unproven["tokens", name, bucket] += row["unproven_tokens"]
    places = spent.keys() | unproven.keys()
    return {place: (spent[place], unproven[place]) for place in places if spent[place] or unproven[place]}


def booked(engine: Engine, *rows: LedgerRow, rules: CountingRules | None = None) -> None:
    with transaction(engine) as session:
        book(session, rows, at=NOON, rules=rules)


def in_window(budget: Budget, found: dict[tuple[str, str, int], tuple[int, int]]) -> dict[Any, tuple[int, int]]:
    starts_us = round(budget.starts_at.timestamp() * 1_000_000)
    window = window_of(budget.period, budget.timezone, round(LATER.timestamp() * 1_000_000), starts_us)
    return {place: amount for place, amount in found.items() if window.start_s <= place[2] < window.end_s}


@pytest.mark.parametrize("seed", range(3))
def test_counters_say_what_the_ledger_holds_however_rows_and_budgets_came(engine: Engine, seed: int) -> None:
    chance = random.Random(seed)
    rows = [some_row(number, chance) for number in range(400)]
    rules = CountingRules()
    booked(engine, *rows[:150], rules=rules)
    budgets = {name: a_budget(name, **shape) for name, shape in SHAPES.items()}
    add(engine, *budgets.values())
    booked(engine, *rows[150:250], *rows[:30], rules=rules)
    for name in SHAPES:
        check(engine, name, LATER)
    booked(engine, *rows[200:], rules=rules)
    for name, budget in budgets.items():
        expected = counted(budget, rows)
        assert expected, name
        assert in_window(budget, counters(engine, name)) == expected, name
        assert check(engine, name, LATER) == {}, name


def test_a_window_counts_rows_from_before_the_budget_and_not_those_of_other_windows(engine: Engine) -> None:
    booked(engine, a_row(1), a_row(2, NOON - 24 * HOUR, cost_nano_usd=7))
    add(engine, a_budget("day"))
    assert counters(engine, "day") == {}
    assert check(engine, "day") == {("usd", "", DAY_S): (40, 0)}
    with reading(engine) as session:
        assert session.scalars(select(Budget.counter_built_at)).one() == NOON
    booked(engine, a_row(3), a_row(1, cost_nano_usd=1_000))
    assert counters(engine, "day") == {("usd", "", DAY_S): (80, 0)}


def test_versions_grow_with_each_change(engine: Engine) -> None:
    add(engine, a_budget("day"))
    for number in range(3):
        booked(engine, a_row(number))
    with reading(engine) as session:
        assert session.scalars(select(CounterState.version)).one() == 3


def test_drift_is_found_and_healed_and_nothing_else_is_touched(engine: Engine) -> None:
    add(engine, a_budget("day"), a_budget("users", scope_type="user", scope_id=EACH))
    booked(engine, a_row(1), a_row(2, user_id="bob", unproven_nano_usd=9))
    check(engine, "day")
    check(engine, "users")
    with transaction(engine) as session:
        session.execute(update(CounterState).where(CounterState.member == "bob").values(spent=1, unproven=5))
        session.execute(delete(CounterState).where(CounterState.member == "ann"))
    assert check(engine, "users") == {("usd", "bob", DAY_S): (39, 4), ("usd", "ann", DAY_S): (40, 0)}
    assert check(engine, "users") == {}
    assert check(engine, "day") == {}
    assert counters(engine, "users") == {("usd", "bob", DAY_S): (40, 9), ("usd", "ann", DAY_S): (40, 0)}


def test_wrong_hourly_sums_do_not_make_a_right_counter_wrong(engine: Engine) -> None:
    add(engine, a_budget("day"))
    booked(engine, a_row(1))
    check(engine, "day")
    with transaction(engine) as session:
        session.execute(delete(UsageHourly))
    assert check(engine, "day") == {}
    assert counters(engine, "day") == {("usd", "", DAY_S): (40, 0)}


def test_of_two_who_correct_the_same_one_gives_way(engine: Engine) -> None:
    booked(engine, a_row(1))
    add(engine, a_budget("day"))
    drifts = [counter_checks.drift_of(engine, "budget_day", NOON) for _ in range(2)]
    results = [counter_checks.correct(engine, drift, NOON) for drift in drifts if drift]
    assert [result is None for result in results] == [False, True]
    assert counters(engine, "day") == {("usd", "", DAY_S): (40, 0)}
    again = counter_checks.drift_of(engine, "budget_day", NOON)
    assert again is not None
    assert again.amounts == {}


def test_what_was_released_is_no_drift(engine: Engine) -> None:
    add(engine, a_budget("day"))
    booked(engine, a_row(1, unproven_nano_usd=60))
    check(engine, "day")
    released = {"released_at": NOON, "released_by": "ann", "reason": "refunded"}
    add(engine, UnprovenRelease(budget_id="budget_day", usage_id=a_row(1)["id"], **released))
    assert check(engine, "day") == {("usd", "", DAY_S): (0, -60)}
    assert check(engine, "day") == {}


def test_rows_that_retention_removed_stay_counted(engine: Engine) -> None:
    total = {"period": "total"}
    add(engine, a_budget("all", **total), a_budget("tag", **total, scope_type="tag", scope_id="a"))
    booked(engine, *(a_row(n, NOON - n * 24 * HOUR, tags=("a",), unproven_nano_usd=3) for n in range(10)))
    with transaction(engine) as session:
        retention.move_horizon(session, keep_from=NOON - 5 * 24 * HOUR)
    with transaction(engine) as session:
        assert retention.delete_older(session, limit=100) == 4
    for name in ("all", "tag"):
        assert check(engine, name) == {}, name
        assert [*counters(engine, name).values()] == [(400, 30)], name
    with transaction(engine) as session:
        session.execute(delete(CounterState))
    check(engine, "all")
    check(engine, "tag")
    assert [*counters(engine, "all").values()] == [(400, 18)], "the hourly sums still know what it cost"
    assert [*counters(engine, "tag").values()] == [(240, 18)], "as far back as rows are kept"


def test_counters_of_windows_that_are_long_over_go(engine: Engine) -> None:
    rules = [a_budget("day"), a_budget("hours", period="rolling_24h"), a_budget("total", period="total")]
    add(engine, *rules)
    for days in (0, 1, 5):
        booked(engine, a_row(days, NOON - days * 24 * HOUR))
    with transaction(engine) as session:
        book(session, [a_row(50, NOON - 9 * 24 * HOUR)], at=NOON - 9 * 24 * HOUR)
    loaded = CountingRules()
    with reading(engine) as session:
        loaded.refresh(session)
    assert counter_checks.forget_old(engine, loaded.budgets, NOON) == 2
    assert len(counters(engine, "day")) == 2
    assert len(counters(engine, "hours")) == 2
    assert [*counters(engine, "total").values()] == [(160, 0)]


def test_rows_for_a_window_that_is_long_over_are_not_counted(engine: Engine) -> None:
    add(engine, a_budget("day"), a_budget("total", period="total"))
    booked(engine, a_row(1, NOON - 5 * 24 * HOUR))
    assert counters(engine, "day") == {}
    assert [*counters(engine, "total").values()] == [(40, 0)]


def test_a_budget_is_counted_from_the_commit_that_makes_it(engine: Engine) -> None:
    """A recorder keeps the rules between batches; it must see that they changed."""
    rules = CountingRules()
    booked(engine, a_row(1), rules=rules)
    add(engine, a_budget("day"))
    booked(engine, a_row(2), rules=rules)
    assert counters(engine, "day") == {("usd", "", DAY_S): (40, 0)}
    with transaction(engine) as session:
        session.delete(session.get(Budget, "budget_day"))
    booked(engine, a_row(3), rules=rules)
    assert counters(engine, "day") == {}


def test_amounts_beyond_what_64_bits_hold_do_not_stop_the_books(engine: Engine) -> None:
    most = 2**63 - 1
    add(engine, a_budget("day", limit_tokens=5))
    for number in range(3):
        booked(
            engine, a_row(number, cost_nano_usd=2**62, unproven_nano_usd=2**62, **dict.fromkeys(TOKEN_CLASSES, most))
        )
    assert counters(engine, "day")["usd", "", DAY_S] == (most, most)
    with reading(engine) as session:
        assert session.scalars(select(UsageHourly.__table__.c.cost_nano_usd)).one() == most


def test_several_recorders_build_and_release_at_once_and_nothing_is_lost(laid_url: str, engine: Engine) -> None:
    """Each in a thread with an engine of its own, as processes would be; what the database refuses is tried again."""
    names = ("day", "users", "tags")
    shapes = [{}, {"scope_type": "user", "scope_id": EACH}, {"scope_type": "tag", "scope_id": EACH}]
    failures: list[BaseException] = []

    def again_and_again(work: Any) -> None:
        own = make_engine(laid_url)
        try:
            work(own)
        except BaseException as error:
            failures.append(error)
        finally:
            own.dispose()

    def book_many(first: int) -> Any:
        def work(own: Engine) -> None:
            rules = CountingRules()
            for start in range(first, first + 600, 20):
                rows = [
                    a_row(n, user_id=f"u{n % 5}", tags=(f"t{n % 3}", "all"), unproven_nano_usd=n % 2)
                    for n in range(start, start + 20)
                ]
                booked(own, *rows, rules=rules)

        return work

    def make_and_build(own: Engine) -> None:
        for name, shape in zip(names, shapes, strict=True):
            add(own, a_budget(name, **shape))
            while True:
                counter_checks.wait_for_bookings(own)
                drift = counter_checks.drift_of(own, f"budget_{name}", NOON)
                assert drift is not None
                if counter_checks.correct(own, drift, NOON) is not None:
                    break

    def keep_checking(own: Engine) -> None:
        for _ in range(15):
            for name in names:
                drift = counter_checks.drift_of(own, f"budget_{name}", NOON)
                if drift is not None and drift.rule.is_built:
                    assert drift.amounts == {}, "a state of the database in which counters are wrong"

    works = [book_many(0), book_many(10_000), book_many(20_000), make_and_build, keep_checking]
    threads = [threading.Thread(target=again_and_again, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    for name in names:
        assert check(engine, name) == {}, name
    assert counters(engine, "day") == {("usd", "", DAY_S): (1_800 * 40, 900)}
    assert counters(engine, "users")["usd", "u0", DAY_S] == (360 * 40, 180)
    assert counters(engine, "tags")["usd", "all", DAY_S] == (1_800 * 40, 900)
