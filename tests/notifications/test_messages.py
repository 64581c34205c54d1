"""What a mail says, and that no name in it becomes a header, a recipient or a tag."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import default

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.notifications.letters import a_letter
from token_tracker.notifications.messages import BadAddressError, compose

EVIL = "x\r\nBcc: everybody@example.com\r\n\r\n=?utf-8?q?=0ABcc:_x@y.z?=<script>alert(1)</script>"


def test_a_threshold_tells_what_where_how_much_until_when_and_who() -> None:
    message = compose(a_letter(), sender="tt@example.com", dashboard_url="https://tokens.example.com")
    assert message["Subject"] == "[Token Tracker] Budget Daily cap is at 84.0%"
    text = message.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    for fact in ("80%", "$8.40 of $10.00", "team search", "Wed 11 Mar 2026 00:00 Europe/Berlin", "gpt-4o", "ann"):
        assert fact in text
    assert "it ends on Tue 10 Mar 2026 15:28" in text
    assert "https://tokens.example.com" in text
    html = message.get_body(("html",)).get_content()  # type: ignore[union-attr]
    assert 'width="403"' in html  # 84 % of the bar's 480 pixels


@pytest.mark.parametrize("event", ["budget.threshold", "budget.exceeded", "budget.recovered", "test"])
@pytest.mark.parametrize("field", ["budget", "scope", "model", "top_models", "top_users"])
def test_no_name_becomes_a_header_or_a_tag(event: str, field: str) -> None:
    evil = {"scope": {"type": "user", "id": EVIL}, "top_models": [[EVIL, "1"]], "top_users": [[EVIL, "1"]]}
    letter = a_letter(event, **{field: evil.get(field, EVIL)})
    if event == "test":
        letter.facts["asked_by"] = EVIL  # type: ignore[index]
    parsed = message_from_bytes(compose(letter, sender="tt@example.com").as_bytes(), policy=default)
    assert parsed["Bcc"] is None
    assert parsed["To"] == "ops@example.com"
    assert "\n" not in parsed["Subject"]
    html = parsed.get_body(("html",)).get_content()  # type: ignore[union-attr]
    assert "<script" not in html


PIECES = ["=?utf-8?q?", "=?utf-8?b?", "DQpCY2M6IHhAeS56", "=0A", "=0D", "Bcc:", "?=", "a@b.c", "\r\n\r\n", "<script>"]
NASTY = st.lists(st.sampled_from([*PIECES, *'\r\n\t\0\x0b\x1c\x85\u2028\u202e\ud800=?:@<>,;"()\\& ä'])).map("".join)


@given(NASTY, NASTY, NASTY, st.sampled_from(["budget.threshold", "budget.exceeded", "budget.recovered", "test"]))
@example("=?utf-8?q?=0ABcc:_x@y.z?=", "", "", "budget.exceeded")
@example("=?utf-8?b?DQpCY2M6IHhAeS56?=", "", "", "budget.threshold")
@example("=" * 130 + "?utf-8?q?=0A?=", "", "", "budget.threshold")
def test_whatever_names_hold_the_headers_are_ours(name: str, member: str, model: str, event: str) -> None:
    letter = a_letter(event, budget=name, scope={"type": "user", "id": member}, model=model)
    if event == "test":
        letter.facts["asked_by"] = name  # type: ignore[index]
    message = compose(letter, sender="tt@example.com")
    raw = message.as_bytes()
    head = raw.partition(b"\r\n\r\n")[0]
    assert b"\n" not in head.replace(b"\r\n", b"")
    parsed = message_from_bytes(raw, policy=default)
    wanted = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-TT-Event"]
    threshold = ["X-TT-Threshold"] if event == "budget.threshold" else []
    assert list(parsed.keys()) == [*wanted, *threshold, "MIME-Version", "Content-Type"]
    assert (parsed["To"], parsed["From"].addresses[0].addr_spec) == ("ops@example.com", "tt@example.com")
    assert parsed["Subject"].isprintable()
    assert "<script" not in parsed.get_body(("html",)).get_content()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "address",
    [
        "a@b\r\nBcc: c@d",
        "a@b, c@d",
        "a@b;c@d",
        "Ann <a@b>",
        "a b@c",
        "nobody",
        "",
        "a@b\x00",
        "<a@b>",
        "ä@b",
        "=?utf-8?q?=0ABcc=3A_x?=@b.c",
    ],
)
def test_a_recipient_is_one_address_or_nothing_is_composed(address: str) -> None:
    with pytest.raises(BadAddressError):
        compose(a_letter(recipient=address), sender="tt@example.com")


def test_a_repeat_has_the_same_id_and_date() -> None:
    first, second = (compose(a_letter(), sender="tt@example.com") for _ in range(2))
    assert [first[name] for name in ("Message-ID", "Date")] == [second[name] for name in ("Message-ID", "Date")]
