"""From a crossing to a mailbox, with workers killed at every point and everything replayed: none lost, none doubled
but where SMTP itself leaves it open."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select

from tests.notifications.letters import NOON
from tests.notifications.matrix import Cell
from tests.notifications.servers import Mailbox, Receiver, http_receiver, mail_server
from tests.services.test_budget_alerts import a_budget, spend, the_rules
from token_tracker.config.values import Mail
from token_tracker.database.models import AlertDelivery, BudgetAlert
from token_tracker.database.session import reading, transaction
from token_tracker.notifications.channels.smtp import SmtpChannel
from token_tracker.notifications.channels.webhook import SlackChannel
from token_tracker.notifications.notifier import Notifier
from token_tracker.notifications.outbox import Drain
from token_tracker.services import outbox

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Killed(BaseException):
    """A worker that stops where it stands, as `kill -9` does."""


class Clock:
    """The time of all workers, moved by the test."""

    def __init__(self) -> None:
        self.at = NOON

    def __call__(self) -> datetime:
        return self.at


def drain_of(engine: Engine, port: int, clock: Clock) -> Drain:
    mail = Mail("127.0.0.1", port, security="none", sender="tt@example.com")
    return Drain(engine, {"email": SmtpChannel(mail), "slack": SlackChannel()}, clock)


def drained(drain: Drain, clock: Clock) -> None:
    """Until nothing is pending, moving the time to whatever waits."""
    for _ in range(200):
        with reading(drain._engine) as session:
            lanes = outbox.due_lanes(session, at=clock.at)
        for lane in lanes:
            while drain.deliver_next(lane):
                pass
        with reading(drain._engine) as session:
            waiting = session.scalars(select(AlertDelivery).where(AlertDelivery.state == "pending")).all()
        if not waiting:
            return
        clock.at = max(clock.at, min(max(row.due_at, row.claimed_until or row.due_at) for row in waiting))
    raise AssertionError("it never ends")


@contextmanager
def killed(monkeypatch: pytest.MonkeyPatch, point: str) -> Iterator[None]:
    """The next worker that comes to `point` stops there."""
    with monkeypatch.context() as patch:
        if point == "before sending":
            patch.setattr(Drain, "_send", _raise)
        elif point == "after the server's 250":
            patch.setattr(outbox, "finish", _raise)
        elif point == "before the outbox is written":
            patch.setattr("token_tracker.services.budget_alerts.enqueue", _raise)
            patch.setattr(outbox, "enqueue", _raise)
        elif point == "after the outbox is written":
            patch.setattr(outbox, "due_lanes", _raise)
        yield


def _raise(*_: Any, **__: Any) -> Any:
    raise Killed


POINTS = (
    "nowhere",
    "before the outbox is written",
    "after the outbox is written",
    "before sending",
    "after the server's 250",
)
FAULTS = (
    "none",
    "greylisted",
    "cut at EHLO",
    "cut at MAIL",
    "cut at RCPT",
    "cut at DATA",
    "cut at TAKEN",
    "cut at QUIT",
)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("point", POINTS)
def test_none_is_lost_and_none_doubled_but_where_smtp_leaves_it_open(
    engine: Engine, point: str, fault: str, monkeypatch: pytest.MonkeyPatch, count: Callable[[Cell], None]
) -> None:
    mailbox, clock = Mailbox(), Clock()
    with transaction(engine) as session:
        a_budget(session)
        the_rules(session)
    if fault == "greylisted":
        mailbox.says["RCPT"] = ["451 come back", "250 OK"]
    elif fault.startswith("cut"):
        mailbox.cuts_at.add(fault.rpartition(" ")[2])
    with mail_server(mailbox) as port:
        for usd in ("5", "3", "2"):
            with transaction(engine) as session:
                spend(session, usd, at=clock.at)
            workers = [Notifier(engine, drain_of(engine, port, clock)) for _ in range(2)]
            with killed(monkeypatch, point), pytest.MonkeyPatch.context() as patch:
                if point != "after the outbox is written":
                    patch.setattr(Drain, "start_due", lambda _: None)
                _until_killed(lambda: workers[0].step(clock.at))  # noqa: B023
                _until_killed(lambda: workers[0]._drain.deliver_next("email"))  # noqa: B023
            for worker in workers:  # the next worker, and one that believes it is the only one
                worker._looked_at_all = None
                worker.look(clock.at)
            drained(drain_of(engine, port, clock), clock)
    ids = mailbox.ids()
    crossings = {("budget.threshold", "50"), ("budget.threshold", "80"), ("budget.threshold", "100")}
    arrived = {(str(m["X-TT-Event"]), str(m["X-TT-Threshold"])) for m in mailbox.taken}
    lost = len((crossings | {("budget.exceeded", "100")}) - arrived)
    doubled = len(ids) - len(set(ids))
    open_window = (3 if point == "after the server's 250" else 0) + (1 if fault == "cut at TAKEN" else 0)
    count(Cell("mail", point, fault, 4, len(ids), doubled, lost))
    assert lost == 0
    assert len(set(ids)) == 4
    assert doubled <= open_window


def _until_killed(work: Any) -> None:
    try:
        work()
    except Killed:
        return


def test_two_workers_that_look_and_send_at_once_send_each_message_once(engine: Engine) -> None:
    mailbox, clock = Mailbox(), Clock()
    with transaction(engine) as session:
        a_budget(session, tuple(str(percent) for percent in range(10, 100, 10)))
    with mail_server(mailbox) as port:
        for _ in range(9):
            with transaction(engine) as session:
                spend(session, "1", at=NOON)
            workers = [Notifier(engine, drain_of(engine, port, clock)) for _ in range(3)]
            _together([lambda worker=worker: worker.look(NOON) for worker in workers])  # type: ignore[misc]
            _together([lambda worker=worker: _send_all(worker) for worker in workers])  # type: ignore[misc]
        drained(drain_of(engine, port, clock), clock)
    assert [message["X-TT-Threshold"] for message in mailbox.taken] == [str(each) for each in range(10, 100, 10)]


def _send_all(worker: Notifier) -> None:
    while worker._drain.deliver_next("email"):
        pass


def _together(works: list[Any]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_slow_receiver_delays_no_other_lane(engine: Engine) -> None:
    mailbox, slow, clock = Mailbox(), Receiver(), Clock()
    slow.gate.clear()
    with http_receiver(slow) as url, mail_server(mailbox) as port:
        with transaction(engine) as session:
            budget = a_budget(session, ("50",))
            budget.alerts.append(BudgetAlert(threshold_percent=50, slack_webhook=url))
            spend(session, "6")
        drain = drain_of(engine, port, clock)
        Notifier(engine, drain).step(NOON)
        for thread in [thread for lane, thread in drain._running.items() if lane == "email"]:
            thread.join(10)
        assert (len(mailbox.taken), len(slow.got)) == (1, 0)
        slow.gate.set()
        drain.stop(10)
        assert len(slow.got) == 1


def test_a_message_that_never_goes_out_is_dead_after_a_bound_and_can_be_sent_again(engine: Engine) -> None:
    mailbox, clock = Mailbox(), Clock()
    mailbox.says["MAIL"] = ["451 not now"]
    with transaction(engine) as session:
        a_budget(session, ("50",))
        spend(session, "6")
    with mail_server(mailbox) as port:
        drain = drain_of(engine, port, clock)
        Notifier(engine, drain).look(NOON)
        drained(drain, clock)
        with transaction(engine) as session:
            (row,) = outbox.list_deliveries(session, state="dead").items
            assert (row.attempts, row.answer) == (outbox.MAX_ATTEMPTS, "451 not now")
            assert timedelta(hours=2) < clock.at - NOON < timedelta(hours=6)
            outbox.send_again(session, delivery_id=row.id, at=clock.at)
        mailbox.says.clear()
        drained(drain, clock)
    assert len(mailbox.taken) == 1
