"""Whom an alert can be sent to: the fields that name a recipient, the channel of each, and what of it may be shown."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from token_tracker.config.mail import is_address

CHANNELS = {"email": "email", "slack_webhook": "slack", "webhook": "webhook", "apprise": "apprise"}
_SERVICE = re.compile(r"([A-Za-z][A-Za-z0-9.+-]*)://\S+")
_HIDDEN = "…"


def address_problem(field: str, address: str) -> str:
    """What is wrong with the recipient named by `field`, in words that never quote it; '' for nothing."""
    if field == "email":
        return "" if is_address(address) else "must be one e-mail address like someone@example.com"
    if is_shortened(address):
        return "is the shortened form, as the rest may be a secret: write the whole URL"
    if field != "apprise":
        is_web = address.startswith(("https://", "http://")) and _host_of(address)
        return "" if is_web else "must be a URL that begins with https:// or http://, with a host"
    return "" if _SERVICE.fullmatch(address) else "must be a URL as Apprise reads it, like tgram://token/chat"


def shown(field: str, address: str | None) -> str | None:
    """Who knows all of a URL may use it, so of a webhook's the scheme and the host, of a service's the scheme alone, as
    any other part of it may be a secret. Mail addresses in full."""
    if address is None or field == "email":
        return address
    host = "" if field == "apprise" else f"{_host_of(address)}/"
    return f"{scheme_of(address)}://{host}{_HIDDEN}"


def is_shortened(address: str) -> bool:
    """Whether it is what `shown` makes of a URL."""
    return address.endswith(_HIDDEN)


def _host_of(address: str) -> str:
    """'' for none."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def scheme_of(address: str) -> str:
    return address.partition("://")[0].lower()
