"""Services by URL, through the library Apprise, against a real receiver."""

from __future__ import annotations

import json
import time

import pytest
from sqlalchemy import Engine

from tests.notifications.letters import NOON, a_letter
from tests.notifications.servers import Mailbox, Receiver, http_receiver, mail_server
from tests.services.test_budget_alerts import a_budget, spend
from token_tracker.config.values import Mail
from token_tracker.database.models import BudgetAlert
from token_tracker.database.session import reading, transaction
from token_tracker.notifications.channels.apprise import AppriseChannel, without_secrets
from token_tracker.notifications.channels.smtp import SmtpChannel
from token_tracker.notifications.notifier import Notifier
from token_tracker.notifications.outbox import Drain
from token_tracker.services import outbox

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def service(url: str, path: str = "") -> str:
    """Apprise's own JSON service: the receiver's address in its form."""
    return url.replace("http://", "json://user:s3cretword@") + path


def test_a_service_gets_the_message_and_no_name_mentions_anybody() -> None:
    receiver = Receiver()
    with http_receiver(receiver) as url:
        outcome = AppriseChannel("https://tokens.example.com").send(
            a_letter(recipient=service(url), budget="@everyone <!channel>")
        )
    assert (outcome.kind, outcome.answer) == ("sent", "JSON took it")
    document = json.loads(receiver.got[0][1])
    assert document["type"] == "warning"
    for fact in ("$8.40 of $10.00", "team search", "https://tokens.example.com"):
        assert fact in document["message"]
    assert "@everyone" not in document["message"]


@pytest.mark.parametrize(
    ("recipient", "kind"),
    [("json://user:s3cretword@127.0.0.1:1/s3cretpath", "retry"), ("nope://s3cretword", "dead"), ("tgram://", "dead")],
)
def test_what_a_service_says_comes_back_without_its_url(recipient: str, kind: str) -> None:
    outcome = AppriseChannel().send(a_letter(recipient=recipient))
    assert outcome.kind == kind
    assert outcome.answer
    assert "s3cret" not in outcome.answer


def test_no_piece_of_a_url_stays_in_an_answer_as_written_or_decoded() -> None:
    url = "tgram://123456:AAbb%2Fccdd/chat-42?token=T0kenword"
    said = without_secrets("bot123456:AAbb/ccdd chat-42\nT0kenword AAbb%2Fccdd failed: 401", url)
    assert not [piece for piece in ("123456", "AAbb", "ccdd", "chat-42", "T0kenword") if piece in said]
    assert said.endswith("failed: 401")


def test_a_service_that_never_answers_is_ended(engine: Engine) -> None:
    receiver, mailbox = Receiver(), Mailbox()
    receiver.gate.clear()
    with http_receiver(receiver) as url, mail_server(mailbox) as port:
        with transaction(engine) as session:
            budget = a_budget(session, ("50",))
            budget.alerts.append(BudgetAlert(threshold_percent=50, apprise=service(url, "?rto=600")))
            spend(session, "6")
        channels = {
            "email": SmtpChannel(Mail("127.0.0.1", port, security="none", sender="tt@example.com")),
            "apprise": AppriseChannel(total_s=4),
        }
        drain, began_s = Drain(engine, channels, lambda: NOON), time.monotonic()
        Notifier(engine, drain).step(NOON)
        drain._running["email"].join(10)
        assert len(mailbox.taken) == 1  # and it did not wait for the other
        for thread in drain._running.values():
            thread.join(20)
        assert time.monotonic() - began_s < 15
        receiver.gate.set()
    with reading(engine) as session:
        (row,) = outbox.list_deliveries(session, state="pending").items
    assert (row.channel, row.answer) == ("apprise", "no answer within 4 s; the attempt was ended")
    assert "s3cretword" not in row.lane
