"""What was sent, sending again, and trying a channel."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from tests.api.conftest import Api
from tests.notifications.servers import Mailbox, Receiver, http_receiver, mail_server
from token_tracker.api.routes import alerts
from token_tracker.config.values import Mail
from token_tracker.database.session import transaction
from token_tracker.notifications.channels.smtp import SmtpChannel
from token_tracker.notifications.channels.webhook import SlackChannel
from token_tracker.notifications.outbox import Drain
from token_tracker.services import outbox

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Postman:
    """Drains the outbox while a request waits."""

    def __init__(self, api: Api, port: int = 1) -> None:
        mail = Mail("127.0.0.1", port, security="none", sender="tt@example.com")
        channels = {"email": SmtpChannel(mail), "slack": SlackChannel()}
        self._drain = Drain(api.engine, channels, lambda: datetime.now(UTC))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            self._drain.start_due()
        self._drain.stop(10)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.mark.parametrize(
    ("said", "state", "answer"),
    [
        ("250 queued as 1", "sent", "250 queued as 1"),
        ("550 no such user", "dead", "550 no such user"),
        ("451 later", "dead", "451 later"),
    ],
)
def test_a_test_message_tells_the_servers_own_answer(api: Api, said: str, state: str, answer: str) -> None:
    mailbox = Mailbox()
    mailbox.says["DATA"] = [said]
    with mail_server(mailbox) as port, Postman(api, port):
        told = api.post("/api/alerts/test", "root", channel="email", recipient="ops@example.com").get_json()
    assert (told["state"], told["answer"], told["attempts"]) == (state, answer, 1)
    assert [message["X-TT-Event"] for message in mailbox.taken] == (["test"] if state == "sent" else [])


def test_a_webhooks_address_is_not_shown_again(api: Api) -> None:
    receiver = Receiver()
    with http_receiver(receiver) as url, Postman(api):
        told = api.post("/api/alerts/test", "root", channel="slack", recipient=f"{url}/T0/secret").get_json()
    assert told["state"] == "sent"
    listed = api.get("/api/alerts/deliveries", "eve", state="sent")
    assert [item["id"] for item in listed.get_json()["items"]] == [told["id"]]
    assert "secret" not in listed.get_data(as_text=True)


def test_without_a_worker_the_answer_says_so(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "ANSWER_WITHIN_S", 0.0)
    told = api.post("/api/alerts/test", "root", channel="email", recipient="ops@example.com").get_json()
    assert (told["state"], "worker" in told["answer"]) == ("pending", True)


@pytest.mark.parametrize(
    ("channel", "recipient"), [("email", "a@b\r\nBcc: c@d"), ("slack", "ftp://a"), ("webhook", "http://[")]
)
def test_a_recipient_that_cannot_be_reached_is_refused(api: Api, channel: str, recipient: str) -> None:
    answer = api.post("/api/alerts/test", "root", channel=channel, recipient=recipient)
    assert (answer.status_code, answer.get_json()["error"]["details"][0]["field"]) == (422, "recipient")


def test_only_what_is_dead_is_sent_again_and_only_by_an_admin(api: Api) -> None:
    now = datetime.now(UTC)
    with transaction(api.engine) as session:
        delivery_id = outbox.enqueue_test(session, channel="email", recipient="a@example.com", by="root", at=now)
    path = f"/api/alerts/deliveries/{delivery_id}/send-again"
    assert api.post(path, "root").status_code == 409
    with transaction(api.engine) as session:
        row = outbox.claim_next(session, lane="email", at=now)
        assert row is not None
        outbox.finish(session, delivery=row, outcome=outbox.Outcome("dead", "550 no"), at=now)
    assert api.post(path, "eve").status_code == 403
    assert api.post(path, "root").get_json()["state"] == "pending"
    assert api.post("/api/alerts/deliveries/none/send-again", "root").status_code == 404
