"""Real worker processes, ended by SIGKILL while the mail server is at a given stage."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import Popen

import pytest
from sqlalchemy import Engine, delete, func, select, update

from tests.functional.installation import wait_until
from tests.functional.test_worker import started
from tests.notifications.matrix import Cell
from tests.notifications.servers import Mailbox, mail_server
from tests.services.test_budget_alerts import a_budget, spend
from token_tracker.database.models import AlertDelivery, Lease
from token_tracker.database.session import reading, transaction

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
OPEN = ("DATA", "TAKEN", "QUIT")  # the server has the whole message, and our database does not know it
STAGES = ("CONNECT", "EHLO", "MAIL", "RCPT", *OPEN)
ENDS_WITHIN_S = 20.0


@dataclass
class Trap:
    """Kills `victim` when somebody reaches `stage`."""

    victim: Popen[str] | None = None
    stage: str = ""
    sprung: threading.Event = field(default_factory=threading.Event)

    def __call__(self, stage: str) -> None:
        if stage == self.stage and self.victim is not None and not self.sprung.is_set():
            os.kill(self.victim.pid, signal.SIGKILL)
            self.victim.wait(5)
            self.sprung.set()


@pytest.mark.timeout(240)
def test_a_worker_killed_at_any_stage_loses_nothing(
    engine: Engine, laid_url: str, tmp_path: Path, count: Callable[[Cell], None]
) -> None:
    mailbox, trap = Mailbox(), Trap()
    mailbox.reached = trap
    now = datetime.now(UTC)
    with mail_server(mailbox) as port:
        with transaction(engine) as session:
            a_budget(session, tuple(str(10 * number) for number in range(1, len(STAGES) + 1)), period="total")
        settings = {
            "SMTP_SERVER": "127.0.0.1",
            "SMTP_PORT": str(port),
            "SMTP_FROM_ADDRESS": "tt@example.com",
            "TOKEN_TRACKER_SMTP_SECURITY": "none",
        }
        for stage in STAGES:
            with transaction(engine) as session:
                spend(session, "1", at=now)
            with started(tmp_path, laid_url, **settings) as worker:
                trap.victim, trap.stage = worker, stage
                assert trap.sprung.wait(ENDS_WITHIN_S), stage
            trap.victim = None
            trap.sprung.clear()
            pass_time(engine)
        with started(tmp_path, laid_url, **settings) as worker:
            wait_until(lambda: is_all_told(engine), ENDS_WITHIN_S, "every message is sent")
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(10) == 0
    ids = mailbox.ids()
    crossings, doubled = len(STAGES), len(ids) - len(set(ids))
    count(Cell("mail", "by SIGKILL at each stage", "none", crossings, len(ids), doubled, crossings - len(set(ids))))
    assert {str(message["X-TT-Threshold"]) for message in mailbox.taken} == {
        str(10 * n) for n in range(1, crossings + 1)
    }
    assert doubled == len(OPEN)


def pass_time(engine: Engine) -> None:
    """As if the dead worker's lease and claims had run out: the next one need not wait for that."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    with transaction(engine) as session:
        session.execute(delete(Lease))
        claimed = AlertDelivery.claimed_until.is_not(None)
        session.execute(update(AlertDelivery).where(claimed).values(claimed_until=past))


def is_all_told(engine: Engine) -> bool:
    with reading(engine) as session:
        pending = select(func.count()).select_from(AlertDelivery).where(AlertDelivery.state == "pending")
        return session.scalar(pending) == 0
