"""Where a budget stands, as its counters and the nodes' last words say."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.conftest import PostgresqlDatabases, lay_tables, using
from tests.services.budget_rows import a_budget, add, check
from tests.services.ledger_rows import NOON, a_row
from token_tracker.database.models import BudgetTopUp
from token_tracker.database.session import reading, transaction
from token_tracker.domain.problems import Invalid, NotFound
from token_tracker.domain.rules import EACH, counter_key
from token_tracker.services import budget_status, open_holds
from token_tracker.services.booking import book
from token_tracker.services.budget_status import BudgetStatus, Measure, MemberPage
from token_tracker.services.open_holds import Held, Hold, NodeHolds

HOUR = timedelta(hours=1)
DAY_S = int(NOON.replace(hour=0).timestamp())


def status_of(engine: Engine, name: str, **options: Any) -> BudgetStatus:
    with reading(engine) as session:
        return budget_status.status(session, budget_id=f"budget_{name}", **({"at": NOON} | options))


def members_of(engine: Engine, name: str, **options: Any) -> MemberPage:
    with reading(engine) as session:
        return budget_status.members(session, budget_id=f"budget_{name}", **({"at": NOON} | options))


def usd(status: BudgetStatus) -> Measure:
    assert status.usd is not None
    return status.usd


def a_hold(number: int, *, user: str = "ann", since_s: int = 10, **fields: Any) -> Hold:
    given: dict[str, Any] = {
        "call_id": f"{number:032x}",
        "since_us": (int(NOON.timestamp()) - since_s) * 1_000_000,
        "state": "in_flight",
        "held_nano_usd": 100,
        "held_tokens": 5,
        "key": "k",
        "user": user,
        "team": "",
        "agent": "",
        "session": "",
        "end_user": "",
        "tags": (),
        "models": ("fast",),
        "provider": "openai",
    }
    return Hold(**(given | fields))


def told(engine: Engine, node: str, name: str, *holds: Hold, age_s: int = 0, each: bool = False) -> None:
    amounts: dict[str, int] = {}
    for hold in holds:
        counter = counter_key(f"budget_{name}", "usd", hold.user if each else "")
        amounts[counter] = amounts.get(counter, 0) + hold.held_nano_usd
    held = tuple(Held(counter, DAY_S, amount, len(holds)) for counter, amount in amounts.items())
    with transaction(engine) as session:
        content = NodeHolds(len(holds), held, holds)
        open_holds.publish(session, node=node, content=content, at=NOON - timedelta(seconds=age_s))


def test_a_status_says_what_is_spent_held_unproven_and_left(engine: Engine) -> None:
    add(engine, a_budget("day"))
    with transaction(engine) as session:
        book(session, [a_row(1), a_row(2, unproven_nano_usd=20), a_row(3, NOON - 24 * HOUR)], at=NOON)
    assert status_of(engine, "day").is_building
    check(engine, "day")
    told(engine, "node1", "day", a_hold(1), a_hold(2, since_s=90, state="awaiting_usage"))
    told(engine, "node2", "day", a_hold(3, since_s=30), age_s=16)
    found = status_of(engine, "day")
    money = usd(found)
    assert (money.limit, money.spent, money.held, money.unproven, money.remaining) == (1_000, 80, 200, 120, 600)
    assert found.tokens is None
    assert (found.window_start, found.window_end) == (NOON.replace(hour=0), NOON + 12 * HOUR)
    assert [(hold.call_id[-1], hold.age_s, hold.state, hold.nano_usd) for hold in found.holds] == [
        ("2", 90.0, "awaiting_usage", 100),
        ("3", 30.0, "unproven", 100),
        ("1", 10.0, "in_flight", 100),
    ]
    assert not found.is_building


def test_top_ups_raise_the_limit_while_they_last(engine: Engine) -> None:
    made = {"budget_id": "budget_day", "created_by": "ann"}
    add(
        engine,
        a_budget("day"),
        BudgetTopUp(id="1", amount_nano_usd=50, until=NOON + HOUR, created_at=NOON - HOUR, **made),
        BudgetTopUp(id="2", amount_nano_usd=7, until=None, created_at=NOON - HOUR, **made),
    )
    assert usd(status_of(engine, "day")).limit == 1_057
    assert usd(status_of(engine, "day", at=NOON + 2 * HOUR)).limit == 1_007
    assert usd(status_of(engine, "day", at=NOON + 24 * HOUR)).limit == 1_000


def test_the_forecast_says_when_nothing_remains_if_it_goes_on_so(engine: Engine) -> None:
    add(engine, a_budget("day"), a_budget("slow", limit_nano_usd=10_000, scope_type="user", scope_id="ann"))
    with transaction(engine) as session:
        book(session, [a_row(1, cost_nano_usd=600)], at=NOON)
    money = usd(status_of(engine, "day"))
    assert (money.per_hour, money.measured_over_s) == (50, 12 * 3600)
    assert money.ends_at == NOON + 8 * HOUR
    assert usd(status_of(engine, "slow")).ends_at is None, "the window ends before"
    told(engine, "node1", "day", a_hold(1, held_nano_usd=400))
    assert usd(status_of(engine, "day")).ends_at == NOON, "nothing remains now"


def test_a_rolling_window_is_judged_by_its_last_24_hours(engine: Engine) -> None:
    add(engine, a_budget("month", period="rolling_30d"))
    with transaction(engine) as session:
        book(session, [a_row(1, NOON - 200 * HOUR, cost_nano_usd=460), a_row(2, cost_nano_usd=240)], at=NOON)
    check(engine, "month")
    money = usd(status_of(engine, "month"))
    assert (money.spent, money.per_hour, money.measured_over_s) == (700, 10, 24 * 3600)
    assert money.ends_at == NOON + 30 * HOUR


def test_members_come_in_pages_with_what_they_spent_or_hold(engine: Engine) -> None:
    add(engine, a_budget("users", scope_type="user", scope_id=EACH, limit_tokens=1_000))
    with transaction(engine) as session:
        book(session, [a_row(n, user_id=f"u{n}") for n in (1, 2, 4)], at=NOON)
    told(engine, "node1", "users", a_hold(1, user="u2"), a_hold(2, user="u3"), each=True)
    seen, cursor = [], None
    while True:
        page = members_of(engine, "users", limit=2, cursor=cursor)
        seen += [(item.member_id, usd(item).spent, usd(item).held, len(item.holds)) for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [("u1", 40, 0, 0), ("u2", 40, 100, 1), ("u3", 0, 100, 1), ("u4", 40, 0, 0)]
    one = status_of(engine, "users", member="u2")
    assert one.tokens is not None
    assert (usd(one).remaining, one.tokens.spent) == (860, 13)


def test_members_of_a_rolling_budget_are_those_with_a_counter_in_its_window_however_many_hours_they_have(
    engine: Engine,
) -> None:
    users = a_budget("users", scope_type="user", scope_id=EACH, period="rolling_24h", limit_tokens=1_000)
    add(engine, users)
    hours = {"ann": (0, 1, 2), "bob": (30, 40), "cid": (23, 30), "eve": (25,), "fay": (5,)}
    moments = [(user, NOON - hour * HOUR) for user, past in hours.items() for hour in past]
    with transaction(engine) as session:
        rows = [a_row(n, at, user_id=user) for n, (user, at) in enumerate(moments)]
        book(session, [*rows, a_row(99, user_id="")], at=NOON - 40 * HOUR)
    check(engine, "users", NOON - 20 * HOUR)
    check(engine, "users")
    first = members_of(engine, "users", limit=2)
    assert [(each.member_id, usd(each).spent) for each in first.items] == [("ann", 120), ("cid", 40)]
    assert first.next_cursor == "cid"
    second = members_of(engine, "users", limit=2, cursor="cid")
    assert [(each.member_id, usd(each).spent) for each in second.items] == [("fay", 40)]
    assert second.next_cursor is None


def test_what_cannot_be_asked_is_refused(engine: Engine) -> None:
    add(engine, a_budget("day"), a_budget("users", scope_type="user", scope_id=EACH))
    with pytest.raises(NotFound):
        status_of(engine, "none")
    for wrong in (
        lambda: status_of(engine, "users"),
        lambda: status_of(engine, "day", member="ann"),
        lambda: members_of(engine, "day"),
        lambda: members_of(engine, "users", limit=0),
        lambda: members_of(engine, "users", cursor="a\0"),
    ):
        with pytest.raises(Invalid):
            wrong()


def test_a_budget_that_lets_unbounded_calls_through_says_that_it_is_soft(engine: Engine) -> None:
    add(engine, a_budget("day", allow_unbounded=True), a_budget("hard", scope_type="user", scope_id="ann"))
    assert status_of(engine, "day").is_soft
    assert not status_of(engine, "hard").is_soft


def test_no_member_is_skipped_where_the_server_orders_as_dictionaries_do(
    databases: Callable[[str], PostgresqlDatabases],
) -> None:
    names = ["Zoe", "_bot", "ann", "Bob", "élan", "bob", "ANN", "bob 2"]
    url = databases("postgresql").of_words()
    lay_tables(url)
    with using(url) as engine:
        add(engine, a_budget("user", scope_type="user", scope_id=EACH))
        with transaction(engine) as session:
            book(session, [a_row(number, user_id=name) for number, name in enumerate(names)], at=NOON)
        told(engine, "node1", "user", a_hold(1, user="Carl"), each=True)
        seen, cursor = [], None
        while True:
            page = members_of(engine, "user", limit=2, cursor=cursor)
            seen += [each.member_id for each in page.items]
            assert all(usd(each).spent for each in page.items if each.member_id != "Carl")
            if (cursor := page.next_cursor) is None:
                break
        assert seen == sorted([*names, "Carl"])
