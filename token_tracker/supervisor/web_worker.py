"""gunicorn's worker of threads, whose own refusals are JSON like all others, and tell nothing of what was sent."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.workers.gthread import ThreadWorker

_TOO_LONG = "The address is longer than the 8,190 bytes that are taken. Ask with fewer or shorter filters."
_TOO_LARGE = "The headers are larger or more than are taken."
_MALFORMED = "This is not an HTTP request that can be understood."


def refusal(error: Exception) -> tuple[int, str, str]:
    """Status, code and message for what could not even be read."""
    if isinstance(error, LimitRequestLine):
        return 414, "uri_too_long", _TOO_LONG
    if isinstance(error, LimitRequestHeaders):
        return 431, "headers_too_large", _TOO_LARGE
    return 400, "bad_request", _MALFORMED


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn is untyped
    """Answers what never reaches the application."""

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        if not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
            return
        status, code, message = refusal(exc)
        self.log.warning("a request from %s was not read: %s", (addr or ("",))[0], type(exc).__name__)
        body = json.dumps({"error": {"code": code, "message": message}})
        head = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "Connection: close",
        ]
        try:
            client.sendall("\r\n".join([*head, "", body]).encode())
        except OSError:
            self.log.debug("it did not wait for the answer")
