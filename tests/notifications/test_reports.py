"""A report as a mail: its chart goes with it, and no name in it becomes a header or a tag."""

from __future__ import annotations

import io
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
from PIL import Image

from tests.notifications.letters import NOON
from token_tracker.notifications import chart
from token_tracker.notifications.letter import Letter
from token_tracker.notifications.messages import compose

EVIL = "x\r\nBcc: everybody@example.com\r\n\r\n=?utf-8?q?=0ABcc:_x@y.z?=<script>alert(1)</script>"
TOTALS = {"cost_usd": "12.000000000", "calls": 40, "errors": 2, "total_tokens": 52_000, "unpriced_calls": 4}
FACTS: dict[str, Any] = {
    "report": "Yesterday",
    "cadence": "daily",
    "timezone": "Europe/Berlin",
    "team": None,
    "start": "2026-03-08T23:00:00Z",
    "end": "2026-03-09T23:00:00Z",
    "totals": TOTALS,
    "before": {**TOTALS, "cost_usd": "10.000000000"},
    "spend": {"team": [["red", "12.000000000", "10.000000000"]], "model": [], "agent": [["", "12.000000000", "0"]]},
    "movers": [["team", "red", "12.000000000", "10.000000000"]],
    "budgets": [
        {"budget": "Cap", "member": None, "period": "rolling_24h", "unit": "tokens", "spent": "84", "limit": "100"}
        | {"percent": "84.0"}
    ],
    "unpriced_models": [["llama", 4]],
    "uncertain": {"estimated_calls": 3, "estimated_usd": "3.000000000", "calls_without_usage": 1},
    "chart": [["00", "2.000000000", "10.000000000"], ["01", "10.000000000", "0.000000000"]],
}


def mail(**facts: Any) -> EmailMessage:
    letter = Letter("a1b2c3", "report.daily", "", "ops@example.com", NOON, {**FACTS, **facts})
    message = compose(letter, sender="tt@example.com", dashboard_url="https://tokens.example.com")
    parsed = message_from_bytes(message.as_bytes(), policy=default)
    assert isinstance(parsed, EmailMessage)
    return parsed


def body(message: EmailMessage, kind: str) -> str:
    found = message.get_body((kind,))
    assert found is not None
    return str(found.get_content())


def test_it_tells_spend_change_movers_budgets_and_what_is_uncertain() -> None:
    message = mail()
    assert message["Subject"] == "[Token Tracker] Yesterday: $12.00, Mon 9 Mar 2026"
    assert message["X-TT-Event"] == "report.daily"
    for kind in ("plain", "html"):
        said = body(message, kind)
        for fact in ("+20%", "$10.00", "red", "4 calls (10.0%): llama", "3 calls, $3.00 (25.0% of what was spent)"):
            assert fact in said
        for fact in ("+$2.00", "Cap (rolling 24h)", "84 tokens of 100 tokens", "https://tokens.example.com", "52,000"):
            assert fact in said
    assert "no longer kept" in body(mail(uncertain=None), "plain")


def test_the_chart_goes_with_the_mail_and_is_named_in_it() -> None:
    message = mail()
    (picture,) = [part for part in message.walk() if part.get_content_type() == "image/png"]
    assert f"cid:{picture['Content-ID'].strip('<>')}" in body(message, "html")
    image = Image.open(io.BytesIO(picture.get_content()))
    assert image.size == (2 * chart.WIDTH_PX, 2 * chart.HEIGHT_PX)
    counted = {color: count for count, color in image.convert("RGB").getcolors(100_000) or []}
    now, before = counted[0x25, 0x63, 0xEB], counted[0xCB, 0xD5, 0xE1]
    assert now / before == pytest.approx(12 / 10, rel=0.05)  # the bars stand for the amounts


@pytest.mark.parametrize("bars", [[], [chart.Bar("x", 0, 0)], [chart.Bar(str(n), n, 1e9 / (n + 1)) for n in range(31)]])
def test_a_chart_is_drawn_of_nothing_and_of_much(bars: list[chart.Bar]) -> None:
    assert Image.open(io.BytesIO(chart.draw(bars, ("a", "b")))).format == "PNG"


@pytest.mark.parametrize(
    "facts",
    [
        {"report": EVIL},
        {"team": EVIL},
        {"spend": {"team": [[EVIL, "1", "1"]], "model": [[EVIL, "1", "1"]], "agent": [[EVIL, "1", "1"]]}},
        {"movers": [["model", EVIL, "2", "1"]]},
        {"unpriced_models": [[EVIL, 1]]},
        {"budgets": [{**FACTS["budgets"][0], "budget": EVIL, "member": EVIL}]},
    ],
    ids=lambda facts: next(iter(facts)),
)
def test_no_name_becomes_a_header_or_a_tag(facts: dict[str, Any]) -> None:
    message = mail(**facts)
    assert message["Bcc"] is None
    assert message["To"] == "ops@example.com"
    assert "\n" not in message["Subject"]
    assert "<script" not in body(message, "html")
    assert [part.get_content_type() for part in message.walk() if not part.is_multipart()] == [
        "text/plain",
        "text/html",
        "image/png",
    ]
