"""Mail against a real server that refuses, delays, hangs up and speaks TLS."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.notifications.letters import a_letter
from tests.notifications.servers import PASSWORD, Mailbox, certificate, mail_server
from token_tracker.config.values import Mail, Secret
from token_tracker.notifications.channels.smtp import SmtpChannel

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:aiosmtpd")


def channel(port: int, security: str = "none", password: str = "", trusts: Path | None = None) -> SmtpChannel:
    secret = Secret(password) if password else None
    mail = Mail("127.0.0.1", port, "tracker" if password else "", secret, security, "tracker@example.com", "")
    context = ssl.create_default_context(cafile=str(trusts / "cert.pem")) if trusts else None
    return SmtpChannel(mail, "https://tokens.example.com", context)


@pytest.mark.parametrize("security", ["none", "starttls", "tls"])
def test_mail_goes_out_with_a_login_by_each_kind_of_security(security: str, tmp_path: Path) -> None:
    mailbox, files = Mailbox(), certificate(tmp_path)
    with mail_server(mailbox, tls=files, security=security, login=True) as port:
        outcome = channel(port, security, PASSWORD, files).send(a_letter())
        assert outcome.kind == "sent", outcome
        assert outcome.answer == "250 taken as 4711"
        (message,) = mailbox.taken
        assert message["X-TT-Event"] == "budget.threshold"
        assert message["X-TT-Threshold"] == "80"
        wrong = channel(port, security, "wrong", files).send(a_letter())
        assert (wrong.kind, "login was refused: 535" in wrong.answer) == ("retry", True)
    assert len(mailbox.taken) == 1


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_certificate_that_nobody_vouches_for_gets_no_mail(security: str, tmp_path: Path) -> None:
    mailbox = Mailbox()
    with mail_server(mailbox, tls=certificate(tmp_path), security=security) as port:
        outcome = channel(port, security).send(a_letter())
    assert outcome.kind == "retry"
    assert "certificate" in outcome.answer.lower()
    assert mailbox.taken == []


def test_a_server_without_starttls_gets_no_mail_when_it_is_wanted() -> None:
    mailbox = Mailbox()
    with mail_server(mailbox) as port:
        outcome = channel(port, "starttls").send(a_letter())
    assert (outcome.kind, mailbox.taken) == ("retry", [])
    assert "TOKEN_TRACKER_SMTP_SECURITY" in outcome.answer


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(("said", "kind"), [("451 greylisted, come back", "retry"), ("550 no such user", "dead")])
def test_a_4xx_is_tried_again_and_a_5xx_is_not(stage: str, said: str, kind: str) -> None:
    mailbox = Mailbox()
    mailbox.says[stage] = [said]
    with mail_server(mailbox) as port:
        outcome = channel(port).send(a_letter())
    assert (outcome.kind, outcome.answer) == (kind, said)
    assert mailbox.taken == []


@pytest.mark.parametrize("stage", ["EHLO", "MAIL", "RCPT", "DATA"])
def test_a_connection_that_is_cut_before_the_mail_is_taken_is_tried_again(stage: str) -> None:
    mailbox = Mailbox()
    mailbox.cuts_at.add(stage)
    with mail_server(mailbox) as port:
        assert channel(port).send(a_letter()).kind == "retry"
        assert mailbox.taken == []
        assert channel(port).send(a_letter()).kind == "sent"
    assert len(mailbox.taken) == 1


STAGES = ("CONNECT", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "TAKEN")


@pytest.mark.parametrize(
    ("stage", "security"), [("TLS", "starttls"), *((stage, kind) for kind in ("starttls", "tls") for stage in STAGES)]
)
def test_a_connection_is_cut_at_any_stage_under_tls_with_a_login(stage: str, security: str, tls_files: Path) -> None:
    mailbox = Mailbox()
    mailbox.cuts_at.add(stage)
    with mail_server(mailbox, tls=tls_files, security=security, login=True) as port:
        assert channel(port, security, PASSWORD, tls_files).send(a_letter()).kind == "retry"
        assert (stage in mailbox.cuts_at, len(mailbox.taken)) == (False, int(stage == "TAKEN"))
        assert channel(port, security, PASSWORD, tls_files).send(a_letter()).kind == "sent"
    assert set(mailbox.ids()) == {"<a1b2c3@example.com>"}


@pytest.mark.parametrize("said", ["421 too busy", "554 no mail service here"])
def test_a_server_that_turns_everybody_away_is_tried_again(said: str) -> None:
    mailbox = Mailbox()
    mailbox.says["CONNECT"] = [said, ""]
    with mail_server(mailbox) as port:
        outcome = channel(port).send(a_letter())
        assert (outcome.kind, outcome.answer) == ("retry", said)
        assert channel(port).send(a_letter()).kind == "sent"


def test_a_login_that_is_refused_for_now_is_tried_again(tls_files: Path) -> None:
    mailbox = Mailbox()
    mailbox.says["AUTH"] = ["454 4.7.0 come back later"]
    with mail_server(mailbox, tls=tls_files, security="tls", login=True) as port:
        outcome = channel(port, "tls", PASSWORD, tls_files).send(a_letter())
        assert (outcome.kind, "454" in outcome.answer) == ("retry", True)
        mailbox.says.clear()
        assert channel(port, "tls", PASSWORD, tls_files).send(a_letter()).kind == "sent"
    assert len(mailbox.taken) == 1


def test_a_server_that_drips_is_left_after_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("token_tracker.notifications.channels.smtp.TOTAL_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener, dripping(listener):
        began_s = time.monotonic()
        outcome = channel(listener.getsockname()[1]).send(a_letter())
        assert (outcome.kind, time.monotonic() - began_s < 5) == ("retry", True)


@contextmanager
def dripping(listener: socket.socket) -> Iterator[None]:
    """Greets with one more character each 50 ms, which no time-out of a single step notices."""
    stop = threading.Event()

    def drip() -> None:
        client, _ = listener.accept()
        with client, suppress(OSError):
            while not stop.wait(0.05):
                client.send(b"2")

    thread = threading.Thread(target=drip)
    thread.start()
    yield
    stop.set()
    thread.join()


def test_a_cut_between_taking_and_answering_repeats_the_mail_with_the_same_message_id() -> None:
    mailbox = Mailbox()
    mailbox.cuts_at.add("TAKEN")
    with mail_server(mailbox) as port:
        assert channel(port).send(a_letter()).kind == "retry"
        assert channel(port).send(a_letter()).kind == "sent"
    assert mailbox.ids() == ["<a1b2c3@example.com>"] * 2


def test_a_cut_after_the_answer_is_no_failure() -> None:
    mailbox = Mailbox()
    mailbox.cuts_at.add("QUIT")
    with mail_server(mailbox) as port:
        assert channel(port).send(a_letter()).kind == "sent"
    assert len(mailbox.taken) == 1


def test_without_a_server_the_answer_names_the_remedy() -> None:
    outcome = SmtpChannel(Mail()).send(a_letter())
    assert (outcome.kind, "SMTP_SERVER" in outcome.answer) == ("retry", True)


def test_nobody_listening_is_tried_again() -> None:
    assert channel(1).send(a_letter()).kind == "retry"
