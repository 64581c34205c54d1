"""The panel of budgets: right amounts, the fullest first, only what the viewer may see."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine

from tests.services.budget_rows import a_budget, add
from tests.services.ledger_rows import NOON
from token_tracker.dashboard.budgets import Bar, load_bars, panel
from token_tracker.dashboard.data import Viewer
from token_tracker.database.models import CounterState, Team, User
from token_tracker.database.session import reading, transaction
from token_tracker.domain.access import EVERYTHING, Role, Scope

UTC_ZONE = ZoneInfo("UTC")
ROOT = Viewer("root", Role.ADMIN, EVERYTHING)


@pytest.fixture
def people(engine: Engine) -> Engine:
    with transaction(engine) as session:
        session.add(Team(id="red", name="Red", created_at=NOON))
        session.flush()
        for name, role, team in (("root", "admin", None), ("mia", "manager", "red"), ("ann", "member", "red")):
            session.add(User(id=name, password_hash="-", role=role, team_id=team, created_at=NOON))
    return engine


def spent(name: str, amount: int, member: str = "") -> CounterState:
    bucket = int(NOON.replace(hour=0).timestamp())
    place = {"budget_id": f"budget_{name}", "measure": "usd", "member": member, "bucket": bucket}
    return CounterState(**place, spent=amount, unproven=amount // 10, version=1, updated_at=NOON)


def bars(engine: Engine, viewer: Viewer) -> list[Bar]:
    with reading(engine) as session:
        found, more = load_bars(session, viewer, zone=UTC_ZONE, at=NOON)
        assert more == 0
        return found


def test_the_fullest_budget_comes_first_with_what_is_spent_and_unproven(people: Engine) -> None:
    limit = {"limit_nano_usd": 2_000_000_000, "counter_built_at": NOON}
    add(people, a_budget("calm", **limit), a_budget("busy", scope_type="team", scope_id="red", **limit))
    add(people, spent("calm", 100_000_000), spent("busy", 1_700_000_000))
    first, second = bars(people, ROOT)
    assert (first.name, first.amount, first.limit, first.spent_percent, first.unproven_percent) == (
        "busy",
        "$1.70",
        "$2.00",
        85.0,
        8.5,
    )
    assert "team red" in first.about and "resets 15 Mar 00:00" in first.note
    assert second.name == "calm"
    drawn = str(panel([first, second], 3))
    assert "budget warn" in drawn and "and 3 more" in drawn


@pytest.mark.parametrize(
    ("nano_usd", "shown"),
    [
        (0, "$0.00"),
        (30_000_000, "$0.03"),
        (17_390_000, "$0.017390000"),
        (999_999_999, "$0.999999999"),
        (3_627_000_000, "$3.62"),
    ],
)
def test_money_is_shown_to_the_cent_only_where_that_says_enough(people: Engine, nano_usd: int, shown: str) -> None:
    add(people, a_budget("small", limit_nano_usd=4_000_000_000, counter_built_at=NOON), spent("small", nano_usd))
    assert bars(people, ROOT)[0].amount == shown


def test_each_member_of_a_budget_for_each_has_a_bar(people: Engine) -> None:
    add(people, a_budget("each", scope_type="user", scope_id="*", limit_nano_usd=1_000_000_000))
    add(people, spent("each", 500_000_000, "ann"), spent("each", 1_500_000_000, "mia"))
    assert [(bar.about.split(" ·")[0], bar.spent_percent) for bar in bars(people, ROOT)] == [
        ("user mia", 150.0),
        ("user ann", 50.0),
    ]


def test_a_rolling_window_has_no_moment_at_which_it_begins_anew(people: Engine) -> None:
    add(people, a_budget("roll", period="rolling_24h", limit_nano_usd=1_000, counter_built_at=NOON))
    assert [bar.note for bar in bars(people, ROOT)] == [""]


def test_people_see_their_own_bars_of_budgets_for_each(people: Engine) -> None:
    add(people, a_budget("each", scope_type="user", scope_id="*", limit_nano_usd=1_000_000_000))
    add(people, spent("each", 500_000_000, "ann"), spent("each", 1_500_000_000, "zed"))
    ann = Viewer("ann", Role.MEMBER, Scope(user="ann"))
    assert [bar.about.split(" ·")[0] for bar in bars(people, ann)] == ["user ann"]


def test_people_see_the_bars_of_budgets_that_are_about_them(people: Engine) -> None:
    add(people, a_budget("all"), a_budget("red", scope_type="team", scope_id="red"))
    add(people, a_budget("ann", scope_type="user", scope_id="ann"))
    assert {bar.name for bar in bars(people, ROOT)} == {"all", "red", "ann"}
    assert {bar.name for bar in bars(people, Viewer("mia", Role.MANAGER, Scope(team="red")))} == {"red", "ann"}
    assert {bar.name for bar in bars(people, Viewer("ann", Role.MEMBER, Scope(user="ann")))} == {"ann"}


def test_without_budgets_there_is_no_panel() -> None:
    assert panel([], 0) == []
