"""A real worker process: from the books to the mail server."""

from __future__ import annotations

import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from tests.functional.test_worker import started
from tests.notifications.servers import Mailbox, mail_server
from tests.services.test_budget_alerts import a_budget, spend
from tests.services.test_reports import a_report, booked
from token_tracker.database.models import AlertDelivery
from token_tracker.database.session import reading, transaction

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
WITHIN_S = 5.0


class Bell(Mailbox):
    """Tells when a mail was taken."""

    def __init__(self) -> None:
        super().__init__()
        self.rung = threading.Event()

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:
        answer = await super().handle_DATA(server, session, envelope)
        self.rung.set()
        return answer


def settings_of(port: int) -> dict[str, str]:
    return {
        "SMTP_SERVER": "127.0.0.1",
        "SMTP_PORT": str(port),
        "SMTP_FROM_ADDRESS": "tt@example.com",
        "TOKEN_TRACKER_SMTP_SECURITY": "none",
        "TOKEN_TRACKER_DASHBOARD_URL": "https://tokens.example.com",
    }


def test_a_report_comes_from_the_worker_once_and_with_its_chart(engine: Engine, laid_url: str, tmp_path: Path) -> None:
    bell, now = Bell(), datetime.now(UTC)
    booked(engine, (now - timedelta(days=40), 1, {}), (now - timedelta(days=2), 2, {}))
    with mail_server(bell) as port:
        for name in ("first", "second"):  # the second worker finds the first report told
            bell.rung.clear()
            a_report(engine, name=name, recipients=[f"{name}@example.com"])
            with started(tmp_path, laid_url, **settings_of(port)) as worker:
                assert bell.rung.wait(10)
                worker.send_signal(signal.SIGTERM)
                assert worker.wait(10) == 0
    assert [message["To"] for message in bell.taken] == ["first@example.com", "second@example.com"]
    for message in bell.taken:
        assert message["X-TT-Event"] == "report.daily"
        assert [part.get_content_type() for part in message.walk() if not part.is_multipart()][-1] == "image/png"
        assert b"https://tokens.example.com" in message.as_bytes()
    with reading(engine) as session:
        assert session.scalars(select(AlertDelivery.state)).all() == ["sent", "sent"]


def test_a_threshold_reaches_the_mail_server_within_five_seconds(engine: Engine, laid_url: str, tmp_path: Path) -> None:
    bell = Bell()
    with transaction(engine) as session:
        a_budget(session, ("50", "80"))
    with mail_server(bell) as port, started(tmp_path, laid_url, **settings_of(port)) as worker:
        assert worker.stderr is not None
        assert any("at work" in line for line in iter(worker.stderr.readline, ""))
        took_s = []
        for usd in ("5", "3"):
            bell.rung.clear()
            booked_s = time.monotonic()
            with transaction(engine) as session:
                spend(session, usd, at=datetime.now(UTC))
            assert bell.rung.wait(WITHIN_S)
            took_s.append(time.monotonic() - booked_s)
        print("from the books to the mail server:", [f"{each:.2f} s" for each in took_s])
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 0
    assert [message["X-TT-Threshold"] for message in bell.taken] == ["50", "80"]
