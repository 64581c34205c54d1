"""Webhooks against a real receiver."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Iterator

import pytest

from tests import leaks
from tests.notifications.letters import a_letter
from tests.notifications.servers import Receiver, http_receiver
from token_tracker.config.logs import write_logs
from token_tracker.notifications.channels.webhook import SlackChannel, WebhookChannel

SECRET = leaks.secret("secret of webhooks", "a secret of the tests").encode()


def test_a_receiver_can_verify_what_was_sent_and_when() -> None:
    receiver = Receiver()
    with http_receiver(receiver) as url:
        outcome = WebhookChannel(SECRET, lambda: 1_770_000_000.5).send(a_letter(recipient=url))
    assert (outcome.kind, outcome.answer) == ("sent", "200 said")
    ((headers, body),) = receiver.got
    signed = headers["X-TT-Timestamp"].encode() + b"." + body
    assert headers["X-TT-Signature"] == "v1=" + hmac.new(SECRET, signed, hashlib.sha256).hexdigest()
    assert headers["X-TT-Timestamp"] == "1770000000"
    document = json.loads(body)
    assert (document["event"], document["threshold"], document["id"]) == ("budget.threshold", "80", "a1b2c3")
    assert document["facts"]["spent"] == "8.400000000"


def test_slack_gets_its_format_with_names_that_mention_nobody() -> None:
    receiver = Receiver()
    with http_receiver(receiver) as url:
        assert SlackChannel().send(a_letter(recipient=url, budget="<!channel> & co")).kind == "sent"
    text = json.loads(receiver.got[0][1])["text"]
    assert "&lt;!channel&gt; &amp; co" in text
    assert "<!channel>" not in text


@pytest.mark.parametrize(
    ("status", "kind"), [(204, "sent"), (302, "retry"), (404, "dead"), (410, "dead"), (429, "retry"), (503, "retry")]
)
def test_what_may_work_later_is_tried_again(status: int, kind: str) -> None:
    receiver = Receiver()
    receiver.statuses = [status]
    with http_receiver(receiver) as url:
        assert SlackChannel().send(a_letter(recipient=url)).kind == kind


@pytest.mark.parametrize(
    ("url", "kind"), [("ftp://a/b", "dead"), ("http://", "dead"), ("http://127.0.0.1:1/", "retry")]
)
def test_an_address_that_cannot_be_used_is_given_up(url: str, kind: str) -> None:
    assert SlackChannel().send(a_letter(recipient=url)).kind == kind


@pytest.fixture
def a_log(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    """The process logs as ours do, into `capsys`' stderr."""
    root, httpx = logging.getLogger(), logging.getLogger("httpx")
    handlers, levels = root.handlers[:], (root.level, httpx.level)
    root.handlers = []
    write_logs()
    yield capsys
    root.handlers = handlers
    root.setLevel(levels[0])
    httpx.setLevel(levels[1])


def test_the_log_never_has_the_address_of_a_webhook(a_log: pytest.CaptureFixture[str]) -> None:
    with http_receiver(Receiver()) as url:
        assert SlackChannel().send(a_letter(recipient=f"{url}services/T0/B0/secret")).kind == "sent"
    logging.getLogger("token_tracker.worker").info("at work")
    said = a_log.readouterr().err
    assert "at work" in said and "secret" not in said
