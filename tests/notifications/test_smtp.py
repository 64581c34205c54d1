"""Mail against a real server that refuses, delays, hangs up and speaks TLS."""

from __future__ import annotations

import ssl
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
