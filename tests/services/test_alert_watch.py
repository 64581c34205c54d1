"""What each rule sees in real books, on both databases; and that it becomes one message that can be read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from tests.services.ledger_rows import NOON, a_row
from tests.services.test_budget_alerts import OPS, a_budget, spend
from token_tracker.config.alerts import default_rules
from token_tracker.config.values import AlertRuleEntry, AlertSettings, Mail
from token_tracker.database.models import AlertDelivery, AlertRule, ApiKey, CounterState, User
from token_tracker.database.session import reading, transaction
from token_tracker.domain import alert_fields
from token_tracker.domain.money import NANO_PER_USD
from token_tracker.notifications.letter import Letter
from token_tracker.notifications.messages import compose
from token_tracker.services import alert_book, alert_digest, alert_mutes, alert_watch, open_holds, refusals
from token_tracker.services.alert_watch import Look
from token_tracker.services.audit import Actor
from token_tracker.services.booking import book
from token_tracker.services.configured_alerts import follow_alerts
from token_tracker.services.open_holds import NodeHolds

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LATE = NOON + timedelta(minutes=30)


def rows(session: Session, count: int, at: datetime, **fields: Any) -> None:
    first = int(at.timestamp()) * 1000 + len(str(fields))
    book(session, [a_row(first * 1000 + number, at, **fields) for number in range(count)], at=at)


def failing(session: Session) -> None:
    rows(session, 15, LATE)
    rows(session, 10, LATE, end_reason="upstream_error", status_code=500, cost_nano_usd=0)


def slow(session: Session) -> None:
    rows(session, 60, NOON - DAY, latency_ms=900.0)
    rows(session, 60, LATE, latency_ms=9_000.0)


def spiking(session: Session) -> None:
    for week in range(1, 5):
        rows(session, 1, LATE - week * 7 * DAY, cost_nano_usd=4 * NANO_PER_USD)
    rows(session, 1, LATE, cost_nano_usd=20 * NANO_PER_USD)


def without_usage(session: Session) -> None:
    rows(session, 20, LATE, stream=True)
    rows(session, 5, LATE, stream=True, usage_source="estimated")


def refused(session: Session) -> None:
    row = {
        "hour": NOON,
        "code": "rate_limit_exceeded",
        "status": 429,
        "key_id": "k",
        "user_id": "ann",
        "team_id": "",
        "model": "fast",
        "endpoint": "/v1/chat/completions",
        "calls": 130,
    }
    refusals.book_refusals(session, [row, {**row, "code": "budget_exceeded", "calls": 9_000}])


def a_key(session: Session, key_id: str, **fields: Any) -> None:
    values = {
        "name": f"<b>{key_id}</b>\r\nBcc: x@example.com",
        "hash": key_id.ljust(32).encode(),
        "prefix": "sk-tt-x",
        "user_id": "ann",
        "models": ["*"],
        "permissions": [],
        "created_at": NOON - 90 * DAY,
        "created_by": "ann",
        "expires_at": LATE + 20 * HOUR,
        **fields,
    }
    session.add(ApiKey(id=key_id, **values))
    session.flush()


def expiring(session: Session) -> None:
    session.add(User(id="ann", password_hash="", role="member", created_at=NOON))
    session.flush()
    a_key(session, "key_a")
    a_key(session, "key_rotated")
    a_key(session, "key_next", predecessor_id="key_rotated", expires_at=None)
    a_key(session, "key_revoked", revoked_at=NOON)
    a_key(session, "key_short", created_at=NOON - DAY, expires_at=LATE + 22 * HOUR)


def unproven(session: Session) -> None:
    a_budget(session)
    spend(session, "1", at=LATE)
    state = session.scalars(select(CounterState)).one()
    state.unproven = 2 * NANO_PER_USD


def burning(session: Session) -> None:
    a_budget(session, period="monthly", limit_nano_usd=100 * NANO_PER_USD)
    for day in range(7):
        rows(session, 1, LATE - day * DAY, cost_nano_usd=5 * NANO_PER_USD)
    spend(session, "25", at=LATE)


def a_node(**content: Any) -> Callable[[Session], None]:
    return lambda session: open_holds.publish(session, node="n1", content=NodeHolds(**content), at=LATE)


def silent_node(session: Session) -> None:
    open_holds.publish(session, node="n1", content=NodeHolds(), at=LATE - timedelta(minutes=5))


CASES: list[tuple[str, Callable[[Session], None], str, str, str]] = [
    ("upstream.errors", failing, "gpt-4o", "40", "[Token Tracker] 40% of calls to gpt-4o fail"),
    ("upstream.slow", slow, "gpt-4o", "16", "[Token Tracker] gpt-4o is about 16.4 times slower than usual"),
    ("spend.unusual", spiking, "all", "5", "[Token Tracker] Spend is 5 times the usual"),
    (
        "usage.unpriced",
        lambda session: rows(session, 3, LATE, cost_nano_usd=None, cost_source="unpriced"),
        "gpt-4o",
        "3",
        "[Token Tracker] Calls of gpt-4o have no price",
    ),
    ("usage.missing", without_usage, "gpt-4o", "20", "[Token Tracker] Streams of gpt-4o come without usage"),
    (
        "budget.overrun",
        lambda session: rows(session, 2, LATE, overrun_nano_usd=5),
        "gpt-4o",
        "2",
        "[Token Tracker] gpt-4o was billed beyond its bound",
    ),
    ("requests.refused", refused, "k", "130", "[Token Tracker] 130 calls of k were refused"),
    (
        "key.expiring",
        expiring,
        "key_a",
        "20",
        "[Token Tracker] Key <b>key_a</b> Bcc: x@example.com expires in 20 hours",
    ),
    ("budget.unproven", unproven, "b1", "20", "[Token Tracker] 20.0% of budget Daily cap are unproven"),
    ("budget.forecast", burning, "b1", "162", "[Token Tracker] Budget Daily cap will not last"),
    ("journal.backlog", a_node(backlog_mib=70), "n1", "70", "[Token Tracker] 70 MiB of the journal are not booked"),
    (
        "store.away",
        a_node(store_away_since_us=int((LATE - timedelta(minutes=2)).timestamp() * 1_000_000)),
        "redis of node n1",
        "120",
        "[Token Tracker] redis of node n1 is away",
    ),
    ("store.away", silent_node, "node n1", "300", "[Token Tracker] node n1 is away"),
]


@pytest.mark.parametrize(("kind", "prepare", "subject", "value", "mail"), CASES, ids=[case[0] for case in CASES])
def test_a_rule_sees_it_says_it_once_and_can_be_read(
    engine: Engine, kind: str, prepare: Callable[[Session], None], subject: str, value: str, mail: str
) -> None:
    with transaction(engine) as session:
        rules = tuple(rule for rule in default_rules().values() if rule.kind == kind)
        follow_alerts(session, AlertSettings(rules), Mail(server="mail", recipient=OPS), NOON)
        prepare(session)
    for minute in range(3):
        look(engine, LATE + timedelta(minutes=minute) if kind == "upstream.errors" else LATE)
    with reading(engine) as session:
        (row,) = session.scalars(select(AlertDelivery)).all()
        assert (row.event, row.subject, row.recipient, row.state) == (kind, subject, OPS, "pending")
        assert Decimal(row.facts["value"]).quantize(Decimal(1)) == Decimal(value)
        letter = Letter(row.id, row.event, row.threshold, row.recipient, row.created_at, row.facts)
        message = compose(letter, sender="tt@example.com")
        assert (message["Subject"], message["X-TT-Event"], message["Bcc"]) == (mail, kind, None)


def look(engine: Engine, at: datetime) -> int:
    new = 0
    with reading(engine) as session:
        enabled = (AlertRule.enabled, AlertRule.kind != "budget.exceeded")
        rules = list(session.scalars(select(AlertRule).where(*enabled)))
        seen = {rule.id: alert_watch.observe(session, rule, Look(at, at - DAY)) for rule in rules}
    for rule in rules:
        with transaction(engine) as session:
            rule = session.merge(rule)
            new += alert_book.advance(session, rule, seen[rule.id], at=at, facts=lambda each: each.facts)
    return new


def test_a_rule_may_be_about_one_subject_and_a_name_of_its_own_choice(engine: Engine) -> None:
    fields = {"name": "x", "kind": "upstream.errors", "options": {"by": "provider"}, "subject": "anthropic"}
    entry = AlertRuleEntry(**alert_fields.completed(fields)[0])
    with transaction(engine) as session:
        follow_alerts(session, AlertSettings((entry,)), Mail(recipient=OPS), NOON)
        failing(session)
    assert look(engine, LATE) == 0
    with transaction(engine) as session:
        rows(session, 30, LATE, provider="anthropic", end_reason="timeout", status_code=504, cost_nano_usd=0)
    assert look(engine, LATE) == 1


def test_calm_books_say_nothing(engine: Engine) -> None:
    with transaction(engine) as session:
        follow_alerts(session, AlertSettings(tuple(default_rules().values())), Mail(recipient=OPS), NOON)
        rules = list(session.scalars(select(AlertRule).where(AlertRule.kind != "budget.exceeded")))
        a_budget(session)
        spend(session, "1")
        rows(session, 50, LATE, stream=True)
        seen = [alert_watch.observe(session, rule, Look(LATE, LATE)) for rule in rules]
        assert not any(alert_book.steps(session, rule, each, at=LATE) for rule, each in zip(rules, seen, strict=True))


def states(engine: Engine) -> list[tuple[str, str]]:
    with reading(engine) as session:
        rows = session.scalars(select(AlertDelivery).order_by(AlertDelivery.created_at, AlertDelivery.event))
        return [(row.event, row.state) for row in rows]


def backlogged(engine: Engine, mib: int, at: datetime) -> None:
    with transaction(engine) as session:
        open_holds.publish(session, node="n1", content=NodeHolds(backlog_mib=mib), at=at)
    look(engine, at)


def test_what_a_cooldown_holds_back_comes_with_the_daily_digest_once(engine: Engine) -> None:
    with transaction(engine) as session:
        rules = tuple(rule for rule in default_rules().values() if rule.kind == "journal.backlog")
        settings = AlertSettings(rules, digest_at="08:00", timezone="Europe/Berlin")
        follow_alerts(session, settings, Mail(recipient=OPS), NOON)
    for minute, mib in enumerate((70, 0, 70, 0)):
        backlogged(engine, mib, NOON + timedelta(minutes=minute))
    alerts = [("journal.backlog", "pending"), ("alert.resolved", "pending")]
    assert states(engine) == [*alerts, ("journal.backlog", "held"), ("alert.resolved", "held")]
    morning = datetime(2026, 3, 15, 7, tzinfo=NOON.tzinfo)  # 08:00 in Berlin
    for at, new in ((morning - timedelta(seconds=1), 0), (morning, 1), (morning + timedelta(hours=1), 0)):
        with transaction(engine) as session:
            assert alert_digest.is_due(session, at=at) is bool(new)
            assert alert_digest.collect(session, at=at) == new
    assert states(engine)[2:] == [
        ("journal.backlog", "digested"),
        ("alert.resolved", "digested"),
        ("alert.digest", "pending"),
    ]
    with reading(engine) as session:
        row = session.scalars(select(AlertDelivery).where(AlertDelivery.event == "alert.digest")).one()
        letter = Letter(row.id, row.event, row.threshold, row.recipient, row.created_at, row.facts)
    message = compose(letter, sender="tt@example.com")
    assert message["Subject"] == "[Token Tracker] 2 alerts held back"
    text = message.get_body(("plain",))
    assert text is not None
    assert "70 MiB of the journal are not booked" in text.get_content()
    assert "Over: Journal backlog" in text.get_content()


def test_a_muted_rule_tells_at_the_end_of_the_mute_what_still_holds(engine: Engine) -> None:
    with transaction(engine) as session:
        rules = tuple(rule for rule in default_rules().values() if rule.kind == "journal.backlog")
        follow_alerts(session, AlertSettings(rules), Mail(recipient=OPS), NOON)
        until = NOON + timedelta(minutes=2)
        alert_mutes.mute(session, rule="Journal backlog", until=until, reason="", actor=Actor("root"), at=NOON)
    for minute, sent in ((0, 0), (1, 0), (2, 1), (3, 1)):
        backlogged(engine, 70, NOON + timedelta(minutes=minute))
        assert len(states(engine)) == sent


def test_two_workers_that_see_the_same_tell_it_once(engine: Engine) -> None:
    with transaction(engine) as session:
        rules = tuple(rule for rule in default_rules().values() if rule.kind == "journal.backlog")
        follow_alerts(session, AlertSettings(rules), Mail(recipient=OPS), NOON)
        open_holds.publish(session, node="n1", content=NodeHolds(backlog_mib=70), at=NOON)
    threads = [threading.Thread(target=look, args=[engine, NOON + timedelta(seconds=each)]) for each in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states(engine) == [("journal.backlog", "pending")]
