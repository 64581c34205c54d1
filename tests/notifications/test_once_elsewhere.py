"""Webhooks, services and reports over the same kills, against a real receiver that fails once."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.notifications.letters import NOON
from tests.notifications.matrix import Cell
from tests.notifications.servers import Mailbox, Receiver, http_receiver, mail_server
from tests.notifications.test_apprise import service
from tests.notifications.test_once import POINTS, Clock, _until_killed, drain_of, drained, killed
from tests.services.test_budget_alerts import a_budget, spend
from tests.services.test_reports import a_report, booked
from token_tracker.database.models import BudgetAlert
from token_tracker.database.session import reading, transaction
from token_tracker.notifications.channels.apprise import AppriseChannel
from token_tracker.notifications.channels.webhook import SlackChannel, WebhookChannel
from token_tracker.notifications.notifier import Notifier
from token_tracker.notifications.outbox import Drain
from token_tracker.notifications.reporter import Reporter
from token_tracker.services import outbox

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
FAULTS: dict[str, dict[str, Any]] = {
    "none": {},
    "answers 503": {"statuses": [503, 200]},
    "answers 429": {"statuses": [429, 200]},
    "hangs up before it reads": {"cuts_at": {"BEFORE"}},
    "hangs up after it took it": {"cuts_at": {"TAKEN"}},
}
THRESHOLDS = ("50", "80")


def told_by(way: str, receiver: Receiver) -> list[str]:
    """What tells one message from another, of each that arrived."""
    if way == "webhook":
        return [headers["X-TT-Delivery"] for headers, _ in receiver.got]
    field = "text" if way == "slack_webhook" else "title"
    return [json.loads(body)[field].partition("\n")[0] for _, body in receiver.got]


WAYS = [(way, point, fault) for way in ("webhook", "slack_webhook") for point in POINTS for fault in FAULTS]
# Each of its messages is a process of its own: the points and faults that differ for it.
WAYS += [
    ("apprise", point, fault)
    for point in ("nowhere", "before sending", "after the server's 250")
    for fault in ("none", "answers 503")
]


@pytest.mark.parametrize(("way", "point", "fault"), WAYS)
def test_a_receiver_gets_each_message_and_twice_only_where_nobody_can_know(
    engine: Engine, way: str, point: str, fault: str, count: Callable[[Cell], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, clock = Receiver(), Clock()
    for name, value in FAULTS[fault].items():
        setattr(receiver, name, value.copy())
    with http_receiver(receiver) as url:
        with transaction(engine) as session:
            a_budget(session, ()).alerts = [
                BudgetAlert(threshold_percent=int(each), **{way: service(url) if way == "apprise" else url})
                for each in THRESHOLDS
            ]
        channels = {
            "slack": SlackChannel(),
            "webhook": WebhookChannel(b"a secret of the tests"),
            "apprise": AppriseChannel(),
        }
        for usd in ("5", "3"):
            with transaction(engine) as session:
                spend(session, usd, at=clock.at)
            with killed(monkeypatch, point):
                worker = Notifier(engine, Drain(engine, channels, clock))
                _until_killed(lambda: worker.look(clock.at))  # noqa: B023
                _until_killed(lambda: _drain_here(worker._drain, clock))  # noqa: B023
            after = Notifier(engine, Drain(engine, channels, clock))
            after.look(clock.at)
            drained(after._drain, clock)
    told = told_by(way, receiver)
    doubled = len(told) - len(set(told))
    count(Cell(way, point, fault, len(THRESHOLDS), len(told), doubled, len(THRESHOLDS) - len(set(told))))
    assert len(set(told)) == len(THRESHOLDS)
    kills = len(THRESHOLDS) if point == "after the server's 250" else 0
    assert doubled <= kills + (fault == "hangs up after it took it")


@pytest.mark.parametrize("fault", ["none", "greylisted", "TAKEN"])
@pytest.mark.parametrize("point", POINTS)
def test_a_report_comes_once_for_each_period_and_recipient(
    engine: Engine, point: str, fault: str, count: Callable[[Cell], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mailbox, clock = Mailbox(), Clock()
    booked(engine, (NOON - timedelta(days=3), 1, {}))
    a_report(engine, recipients=["a@example.com", "b@example.com"])
    if fault == "greylisted":
        mailbox.says["RCPT"] = ["451 come back", "250 OK"]
    elif fault == "TAKEN":
        mailbox.cuts_at.add(fault)
    with mail_server(mailbox) as port:
        for day in range(2):
            clock.at = max(clock.at, NOON + timedelta(days=day))
            mail = drain_of(engine, port, clock)
            with killed(monkeypatch, point):
                _until_killed(lambda: Reporter(engine).look(clock.at))
                _until_killed(lambda: _drain_here(mail, clock))  # noqa: B023
            for _ in range(2):
                Reporter(engine).look(clock.at)
            drained(drain_of(engine, port, clock), clock)
    ids = mailbox.ids()
    doubled = len(ids) - len(set(ids))
    count(Cell("reports by mail", point, fault, 4, len(ids), doubled, 4 - len(set(ids))))
    assert len(set(ids)) == 4
    assert doubled <= (2 if point == "after the server's 250" else 0) + (fault == "TAKEN")


def _drain_here(drain: Drain, clock: Clock) -> None:
    """In this thread, so that it ends where the worker is killed."""
    with reading(drain._engine) as session:
        lanes = outbox.due_lanes(session, at=clock.at)
    for lane in lanes:
        while drain.deliver_next(lane):
            pass
