"""Crossings found from the books: once, the highest at a time, and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from token_tracker.config.alerts import default_rules
from token_tracker.config.values import AlertSettings, Mail
from token_tracker.database.models import AlertDelivery, Budget, BudgetAlert, BudgetTopUp, CounterState
from token_tracker.database.session import reading, transaction
from token_tracker.domain.money import NANO_PER_USD
from token_tracker.domain.windows import window_of
from token_tracker.services import alert_mutes, alert_rules, budget_alerts, budgets
from token_tracker.services.audit import Actor
from token_tracker.services.configured_alerts import follow_alerts
from token_tracker.services.configured_rules import follow_budgets

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
START = datetime(2026, 1, 1, tzinfo=UTC)
OPS = "ops@example.com"


def a_budget(session: Session, thresholds: tuple[str, ...] = ("50", "80", "100"), **changes: object) -> Budget:
    values: dict[str, object] = {
        "id": "b1",
        "name": "Daily cap",
        "scope_type": "global",
        "period": "daily",
        "timezone": "UTC",
        "limit_nano_usd": 10 * NANO_PER_USD,
        "enforcement": "hard",
        "source": "api",
        "starts_at": START,
        "created_at": START,
        "counter_built_at": START,
        **changes,
    }
    budget = Budget(**values)
    budget.alerts = [BudgetAlert(threshold_percent=Decimal(each), email="team@example.com") for each in thresholds]
    session.add(budget)
    session.flush()
    return budget


def spend(session: Session, usd: str, *, at: datetime = NOON, member: str = "", budget_id: str = "b1") -> None:
    budget = session.get_one(Budget, budget_id)
    is_rolling = budget.period.startswith("rolling")
    at_us = int(at.timestamp()) * 1_000_000
    bucket = (
        int(at.timestamp()) // 3600 * 3600
        if is_rolling
        else window_of(budget.period, budget.timezone, at_us, int(START.timestamp()) * 1_000_000).start_s
    )
    place = (budget_id, "usd", member, bucket)
    state = session.get(CounterState, place)
    if state is None:
        state = CounterState(
            budget_id=budget_id,
            measure="usd",
            member=member,
            bucket=bucket,
            spent=0,
            unproven=0,
            version=0,
            updated_at=at,
        )
        session.add(state)
    state.spent += int(Decimal(usd) * NANO_PER_USD)
    state.updated_at = at
    session.flush()


def the_rules(session: Session, notify: str = OPS) -> None:
    """Those that exist without configuration, heard by `notify`."""
    mail = Mail(server="mail.example.com", recipient=notify)
    follow_alerts(session, AlertSettings(tuple(default_rules().values())), mail, START)


def look(engine: Engine, at: datetime = NOON, notify: str = "", since: datetime | None = None) -> int:
    with transaction(engine) as session:
        the_rules(session, notify)
    with transaction(engine) as session:
        found = budget_alerts.find(session, at=at, changed_since=since)
        return budget_alerts.write(session, found, at=at) if found else 0


def told(engine: Engine, *, covered: bool = False) -> list[tuple[str, str]]:
    """(event, threshold) of what was written, in the order of its making."""
    with reading(engine) as session:
        rows = session.scalars(select(AlertDelivery).order_by(AlertDelivery.created_at, AlertDelivery.threshold)).all()
        return [(row.event, row.threshold) for row in rows if (row.state == "covered") is covered]


def test_each_threshold_is_told_once_however_often_the_books_are_read(engine: Engine) -> None:
    with transaction(engine) as session:
        a_budget(session)
    for minute, usd in enumerate(["4.9", "0.1", "2.9", "0.1", "3", "1"]):
        with transaction(engine) as session:
            spend(session, usd, at=NOON + timedelta(minutes=minute))
        for _ in range(3):
            look(engine, NOON + timedelta(minutes=minute))
    assert told(engine) == [("budget.threshold", "50"), ("budget.threshold", "80"), ("budget.threshold", "100")]


def test_several_thresholds_between_two_looks_are_one_message_of_the_highest(engine: Engine) -> None:
    with transaction(engine) as session:
        a_budget(session)
        spend(session, "8.5")
    assert look(engine) == 1
    assert told(engine) == [("budget.threshold", "80")]
    assert told(engine, covered=True) == [("budget.threshold", "50")]
    with reading(engine) as session:
        facts = session.scalars(select(AlertDelivery.facts).where(AlertDelivery.state == "pending")).one()
    assert (facts["spent"], facts["limit"], facts["percent"]) == ("8.500000000", "10.000000000", "85.0")
    assert (facts["window_end"], facts["forecast_ends_at"]) == ("2026-03-11T00:00:00Z", "2026-03-10T14:07:03Z")


def test_the_next_window_tells_again(engine: Engine) -> None:
    with transaction(engine) as session:
        a_budget(session, ("80",))
        spend(session, "9")
    look(engine)
    tomorrow = NOON + timedelta(days=1)
    assert look(engine, tomorrow) == 0
    with transaction(engine) as session:
        spend(session, "9", at=tomorrow)
    assert look(engine, tomorrow) == 1


def test_exceeded_and_recovered_go_to_the_notification_address_and_nowhere_else(engine: Engine) -> None:
    with transaction(engine) as session:
        a_budget(session, ())
        spend(session, "10")
    assert look(engine, notify="") == 0
    assert look(engine, notify=OPS) == 1
    assert look(engine, NOON + timedelta(hours=11), notify=OPS) == 0
    assert look(engine, NOON + timedelta(days=1), notify=OPS) == 1
    assert look(engine, NOON + timedelta(days=1), notify=OPS) == 0
    assert told(engine) == [("budget.exceeded", "100"), ("budget.recovered", "100")]


def test_a_raised_limit_recovers_and_the_new_limit_is_told_anew(engine: Engine) -> None:
    with transaction(engine) as session:
        a_budget(session, ("80",))
        spend(session, "10")
    look(engine, notify=OPS)
    with transaction(engine) as session:
        top_up = BudgetTopUp(
            id="t1", budget_id="b1", amount_nano_usd=10 * NANO_PER_USD, until=None, created_at=NOON, created_by="root"
        )
        session.add(top_up)
    later = NOON + timedelta(minutes=1)
    assert look(engine, later, notify=OPS, since=later - timedelta(minutes=2)) == 1
    with transaction(engine) as session:
        spend(session, "10", at=later)
    assert look(engine, later + timedelta(seconds=1), notify=OPS) == 2
    assert sorted(told(engine)) == [
        ("budget.exceeded", "100"),
        ("budget.exceeded", "100"),
        ("budget.recovered", "100"),
        ("budget.threshold", "80"),
        ("budget.threshold", "80"),
    ]


@pytest.mark.parametrize("source", ["api", "config"])
def test_nothing_fires_for_a_budget_that_is_gone(engine: Engine, source: str) -> None:
    with transaction(engine) as session:
        a_budget(session, (), source=source)
        a_budget(session, (), id="b2", scope_type="key", scope_id="*")
        spend(session, "10")
        spend(session, "10", member="k1", budget_id="b2")
    look(engine, notify=OPS)
    assert firing(engine) == {"b1", "b2|k1"}
    with transaction(engine) as session:
        if source == "api":
            budgets.delete(session, budget_id="b1", actor=Actor("root"), at=NOON)
        else:
            follow_budgets(session, [], NOON)
    assert firing(engine) == {"b2|k1"}
    with transaction(engine) as session:
        budgets.delete(session, budget_id="b2", actor=Actor("root"), at=NOON)
    assert firing(engine) == set()


def firing(engine: Engine) -> set[str]:
    with reading(engine) as session:
        return {episode.subject for _, episode in alert_rules.firing(session)}


def test_each_member_of_a_budget_for_each_is_told_of(engine: Engine) -> None:
    with transaction(engine) as session:
        a_budget(session, ("80",), scope_type="user", scope_id="*")
        spend(session, "9", member="ann")
        spend(session, "1", member="ben")
    assert look(engine) == 1
    with reading(engine) as session:
        row = session.scalars(select(AlertDelivery)).one()
        assert (row.subject, row.facts["scope"]) == ("b1|ann", {"type": "user", "id": "ann"})


def test_a_rolling_budget_is_told_once_while_its_window_moves(engine: Engine) -> None:
    with transaction(engine) as session:
        a_budget(session, ("80",), period="rolling_24h")
        spend(session, "9")
    for hour in range(20):
        look(engine, NOON + timedelta(hours=hour))
    assert told(engine) == [("budget.threshold", "80")]
    look(engine, NOON + timedelta(hours=26))
    with transaction(engine) as session:
        spend(session, "9", at=NOON + timedelta(hours=26))
    assert look(engine, NOON + timedelta(hours=26)) == 1


@pytest.mark.parametrize(("age_s", "is_seen"), [(5, True), (600, False)])
def test_a_quick_look_reads_what_changed_lately(engine: Engine, age_s: int, is_seen: bool) -> None:
    with transaction(engine) as session:
        a_budget(session)
        spend(session, "9", at=NOON - timedelta(seconds=age_s))
    assert look(engine, since=NOON - timedelta(seconds=30)) == int(is_seen)
    assert look(engine) == int(not is_seen)


def test_a_limit_of_nothing_is_spent_by_anything(engine: Engine) -> None:
    with transaction(engine) as session:
        a_budget(session, ("100",), limit_nano_usd=0)
        spend(session, "0")
    assert look(engine) == 0
    with transaction(engine) as session:
        spend(session, "0.000000001")
    assert look(engine) == 1


def test_thresholds_in_money_and_in_percent_are_told_alike_and_the_highest_speaks(engine: Engine) -> None:
    with transaction(engine) as session:
        budget = a_budget(session, ("50", "90"), limit_tokens=100)
        for usd in ("2.5", "6"):
            nano_usd = int(Decimal(usd) * NANO_PER_USD)
            budget.alerts.append(BudgetAlert(threshold_nano_usd=nano_usd, email="team@example.com"))
        spend(session, "3")
    assert look(engine) == 1
    assert told(engine) == [("budget.threshold", "2.5 USD")]
    with transaction(engine) as session:
        spend(session, "4")
    assert look(engine, NOON + timedelta(minutes=1)) == 1
    assert told(engine)[1:] == [("budget.threshold", "6 USD")]
    assert told(engine, covered=True) == [("budget.threshold", "50")]
    with transaction(engine) as session:
        top_up = BudgetTopUp(
            id="t1", budget_id="b1", amount_nano_usd=90 * NANO_PER_USD, until=None, created_at=NOON, created_by="root"
        )
        session.add(top_up)
        spend(session, "1")
    assert look(engine, NOON + timedelta(minutes=2)) == 0  # what is spent does not fall by a raised limit


def test_a_mute_of_everything_covers_a_budgets_own_thresholds_until_it_ends(engine: Engine) -> None:
    with transaction(engine) as session:
        a_budget(session)
        spend(session, "6")
        alert_mutes.mute(session, until=NOON + timedelta(hours=1), reason="", actor=Actor("root"), at=NOON)
    assert look(engine, NOON + timedelta(minutes=59)) == 0
    assert look(engine, NOON + timedelta(minutes=60)) == 1
