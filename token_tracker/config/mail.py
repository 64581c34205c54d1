"""The settings of outgoing mail."""

from __future__ import annotations

import re
from collections.abc import Callable

from token_tracker.config.values import Mail, Secret

SECURITY = ("starttls", "tls", "none")
_BY_PORT = {465: "tls", 25: "none", 1025: "none"}
_ADDRESS = re.compile(r"[^\s@<>,;:\"()\\]+@[^\s@<>,;:\"()\\]+")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def is_address(text: str) -> bool:
    """A plain ASCII address, without a name and without what could begin another header, recipient or encoded word."""
    is_plain = len(text) <= 320 and text.isascii() and text.isprintable() and "=?" not in text
    return is_plain and bool(_ADDRESS.fullmatch(text))


def read_mail(text: Callable[[str], str], port: Callable[[], int], problems: list[str]) -> Mail:
    """Settings by their names in the environment; what is wrong or would do nothing goes into `problems`."""
    server, number = text("SMTP_SERVER").strip(), port()
    username, password = text("SMTP_USERNAME"), text("SMTP_PASSWORD")
    security = text("TOKEN_TRACKER_SMTP_SECURITY") or _BY_PORT.get(number, "starttls")
    sender = text("SMTP_FROM_ADDRESS") or (username if is_address(username) else "")
    recipient = text("NOTIFICATION_EMAIL")
    if security not in SECURITY:
        problems.append(f"TOKEN_TRACKER_SMTP_SECURITY must be one of {', '.join(SECURITY)}.")
    for name, address in (("SMTP_FROM_ADDRESS", sender), ("NOTIFICATION_EMAIL", recipient)):
        if address and not is_address(address):
            problems.append(f"{name} must be one address like alerts@example.com.")
    if server and not sender:
        problems.append("SMTP_FROM_ADDRESS is not set, but SMTP_SERVER is: name the address that alerts come from.")
    if server and bool(username) != bool(password):
        problems.append("SMTP_USERNAME and SMTP_PASSWORD belong together: set both, or neither.")
    if server and password and security == "none" and server not in _LOOPBACK:
        problems.append(
            "SMTP_PASSWORD would cross the network unencrypted: set TOKEN_TRACKER_SMTP_SECURITY to starttls or tls."
        )
    return Mail(server, number, username, Secret(password) if password else None, security, sender, recipient)
