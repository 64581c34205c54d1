"""Sends one message through Apprise: {url, title, body, kind} as JSON on stdin, [kind of outcome, answer] on stdout."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from apprise import Apprise, LogCapture, NotifyFormat, NotifyType

CONNECT_S, READ_S = 10.0, 20.0
_UNKNOWN = "Apprise knows no service with such an address: see the list of its services, and check what is required"


def send(request: dict[str, Any]) -> tuple[str, str]:
    """'sent', 'retry' or 'dead', and what was said."""
    service = Apprise.instantiate(request["url"], suppress_exceptions=True)
    if service is None:
        return "dead", _UNKNOWN
    service.socket_connect_timeout, service.socket_read_timeout = CONNECT_S, READ_S
    with LogCapture(level=logging.WARNING, fmt="%(message)s") as said:  # type: ignore[no-untyped-call]
        is_sent = service.notify(
            body=request["body"],
            title=request["title"],
            notify_type=NotifyType(request["kind"]),
            body_format=NotifyFormat.TEXT,
        )
        words = said.getvalue()
    name = str(service.service_name)
    return ("sent", f"{name} took it") if is_sent else ("retry", f"{name}: {words or 'refused without a word'}")


def main() -> None:
    print(json.dumps(send(json.load(sys.stdin))))


if __name__ == "__main__":
    main()
