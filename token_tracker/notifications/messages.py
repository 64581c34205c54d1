"""A letter as a mail: subject, headers, text and HTML; nothing that a name holds can become a header or a tag."""

from __future__ import annotations

from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP

from token_tracker.config.mail import is_address
from token_tracker.notifications import report_wording, wording
from token_tracker.notifications.html import html_of
from token_tracker.notifications.letter import Letter
from token_tracker.notifications.wording import Wording, plain


class BadAddressError(ValueError):
    """A recipient that is no single address; nothing was composed."""


def compose(letter: Letter, *, sender: str, dashboard_url: str = "") -> EmailMessage:
    """The mail; the same bytes but for MIME boundaries at each attempt, `Message-ID` included. Raises
    BadAddressError."""
    for address in (letter.recipient, sender):
        if not is_address(address):
            raise BadAddressError(f"'{plain(address)}' is not one address like alerts@example.com")
    words = words_of(letter)
    domain = sender.rpartition("@")[2]
    message = EmailMessage(policy=SMTP)
    message["From"] = Address("Token Tracker", addr_spec=sender)
    message["To"] = Address(addr_spec=letter.recipient)
    message["Subject"] = plain_header(words.subject)
    message["Date"] = letter.created_at
    message["Message-ID"] = f"<{letter.id}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message["X-TT-Event"] = plain_header(letter.event)
    if letter.threshold:
        message["X-TT-Threshold"] = plain_header(letter.threshold)
    message.set_content(f"{words.headline}\n\n{text_of(words, dashboard_url)}")
    picture_id = f"chart.{letter.id}@{domain}"
    message.add_alternative(html_of(words, dashboard_url, picture_id), subtype="html")
    if words.picture is not None:
        _, html = message.iter_parts()
        html.add_related(words.picture.png, "image", "png", cid=f"<{picture_id}>", disposition="inline")
    return message


def words_of(letter: Letter) -> Wording:
    """Of any kind of letter."""
    worded = report_wording.worded if letter.event.startswith("report.") else wording.worded
    return worded(letter)


def plain_header(text: str) -> str:
    """One line: a control character would end the header, and what follows would be the next one. `=?` begins an
    encoded word, which the standard library decodes and writes out, line breaks in it included."""
    return "".join(character for character in text if character.isprintable()).replace("=?", "= ?")[:250]


def text_of(words: Wording, dashboard_url: str) -> str:
    """All but the headline."""
    parts = [words.sentence, ""]
    if words.percent is not None:
        filled = min(20, round(words.percent / 5))
        parts += [f"[{'#' * filled}{'.' * (20 - filled)}] {words.percent:.1f}%", ""]
    parts += [f"{name}: {value}" for name, value in words.lines]
    for table in words.tables:
        parts += ["", f"{table.title}:", *("  " + "  ".join(row) for row in table.rows)]
    if dashboard_url:
        parts += ["", f"Dashboard: {dashboard_url}"]
    return "\n".join(parts) + "\n"
