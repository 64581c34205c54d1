"""A letter as a mail: subject, headers, text and HTML; nothing that a name holds can become a header or a tag."""

from __future__ import annotations

from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from html import escape

from token_tracker.config.mail import is_address
from token_tracker.notifications.letter import Letter
from token_tracker.notifications.wording import Wording, plain, worded

_CELL = "padding:6px 12px 6px 0;border-bottom:1px solid #e2e8f0;font-size:14px"
_BAR_PX = 480


class BadAddressError(ValueError):
    """A recipient that is no single address; nothing was composed."""


def compose(letter: Letter, *, sender: str, dashboard_url: str = "") -> EmailMessage:
    """The mail; the same bytes but for MIME boundaries at each attempt, `Message-ID` included. Raises
    BadAddressError."""
    for address in (letter.recipient, sender):
        if not is_address(address):
            raise BadAddressError(f"'{plain(address)}' is not one address like alerts@example.com")
    words = worded(letter)
    message = EmailMessage(policy=SMTP)
    message["From"] = Address("Token Tracker", addr_spec=sender)
    message["To"] = Address(addr_spec=letter.recipient)
    message["Subject"] = plain_header(words.subject)
    message["Date"] = letter.created_at
    message["Message-ID"] = f"<{letter.id}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message["X-TT-Event"] = plain_header(letter.event)
    if letter.threshold:
        message["X-TT-Threshold"] = plain_header(letter.threshold)
    message.set_content(_text(words, dashboard_url))
    message.add_alternative(html_of(words, dashboard_url), subtype="html")
    return message


def plain_header(text: str) -> str:
    """One line: a control character would end the header, and what follows would be the next one."""
    return "".join(character for character in text if character.isprintable())[:250]


def _text(words: Wording, dashboard_url: str) -> str:
    parts = [words.headline, "", words.sentence, ""]
    if words.percent is not None:
        filled = min(20, round(words.percent / 5))
        parts += [f"[{'#' * filled}{'.' * (20 - filled)}] {words.percent:.1f}%", ""]
    parts += [f"{name}: {value}" for name, value in words.lines]
    for title, rows in words.tables:
        parts += ["", f"{title}:", *(f"  {name}  {amount}" for name, amount in rows)]
    if dashboard_url:
        parts += ["", f"Dashboard: {dashboard_url}"]
    return "\n".join(parts) + "\n"


def html_of(words: Wording, dashboard_url: str) -> str:
    """Tables and inline styles only: what mail programs show alike. It loads nothing."""
    rows = "".join(_row(name, value) for name, value in words.lines)
    tables = "".join(
        f'<h2 style="font-size:14px;margin:24px 0 4px">{escape(title)}</h2>'
        f'<table role="presentation" width="100%" cellspacing="0">{"".join(_row(*row) for row in found)}</table>'
        for title, found in words.tables
    )
    link = (
        f'<p><a href="{escape(dashboard_url)}" style="color:#1d4ed8">Open the dashboard</a></p>'
        if dashboard_url
        else ""
    )
    return (
        '<!doctype html><html><head><meta charset="utf-8"></head>'
        '<body style="margin:0;padding:24px;background:#f1f5f9;color:#0f172a;font-family:Helvetica,Arial,sans-serif">'
        '<table role="presentation" align="center" width="560" cellspacing="0" style="background:#ffffff;'
        f'border-top:4px solid {words.color}"><tr><td style="padding:28px 40px">'
        f'<h1 style="font-size:20px;margin:0 0 12px">{escape(words.headline)}</h1>'
        f'<p style="font-size:15px;line-height:1.5;margin:0 0 16px">{escape(words.sentence)}</p>'
        f"{_bar(words)}"
        f'<table role="presentation" width="100%" cellspacing="0">{rows}</table>{tables}{link}'
        "</td></tr></table></body></html>"
    )


def _row(name: str, value: str) -> str:
    return (
        f'<tr><td style="{_CELL};color:#475569">{escape(name)}</td>'
        f'<td align="right" style="{_CELL};padding-right:0">{escape(value)}</td></tr>'
    )


def _bar(words: Wording) -> str:
    if words.percent is None:
        return ""
    filled = round(_BAR_PX * min(100.0, max(0.0, words.percent)) / 100)
    cells = ((filled, words.color), (_BAR_PX - filled, "#e2e8f0"))
    drawn = "".join(
        f'<td width="{width}" height="14" style="background:{color};font-size:1px;line-height:14px">&nbsp;</td>'
        for width, color in cells
        if width
    )
    return (
        f'<table role="presentation" width="{_BAR_PX}" cellspacing="0" cellpadding="0" style="margin-bottom:16px">'
        f"<tr>{drawn}</tr></table>"
    )
