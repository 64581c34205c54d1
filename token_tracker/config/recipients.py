"""Whom an alert can be sent to: the fields that name a recipient, the channel of each, and what of it may be shown."""

from __future__ import annotations

import re

from token_tracker.config.mail import is_address

CHANNELS = {"email": "email", "slack_webhook": "slack", "webhook": "webhook", "apprise": "apprise"}
_SERVICE = re.compile(r"([A-Za-z][A-Za-z0-9.+-]*)://\S+")
_HIDDEN = "…"


def address_problem(field: str, address: str) -> str:
    """What is wrong with the recipient named by `field`, in words that never quote it; '' for nothing."""
    if field == "email":
        return "" if is_address(address) else "must be one e-mail address like someone@example.com"
    if field != "apprise":
        is_web = address.startswith(("https://", "http://"))
        return "" if is_web else "must be a URL that begins with https:// or http://"
    if address.endswith(_HIDDEN):
        return "is the shortened form, as the rest may be a secret: write the whole URL"
    return "" if _SERVICE.fullmatch(address) else "must be a URL as Apprise reads it, like tgram://token/chat"


def shown(address: str) -> str:
    """Of the URL of a service: any part of it may be a secret, the host too."""
    return f"{scheme_of(address)}://{_HIDDEN}"


def scheme_of(address: str) -> str:
    return address.partition("://")[0].lower()
