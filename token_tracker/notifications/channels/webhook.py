"""Webhooks: Slack's format, and a signed one of our own."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable

import httpx

from token_tracker.notifications.letter import Letter
from token_tracker.notifications.messages import words_of
from token_tracker.services.outbox import Outcome
from token_tracker.services.usage_export import format_time

STEP_S = 10.0
TOTAL_S = 60.0
ANSWER_BYTES = 1000
VERSION = 1


class SlackChannel:
    """`{"text": …}`, as Slack, Mattermost and Discord's `/slack` addresses take it."""

    def __init__(self, dashboard_url: str = "") -> None:
        self._dashboard_url = dashboard_url

    def send(self, letter: Letter) -> Outcome:
        words = words_of(letter)
        lines = [f"*{_slack(words.headline)}*", _slack(words.sentence)]
        lines += [f"{_slack(name)}: {_slack(value)}" for name, value in words.lines]
        if self._dashboard_url:
            lines.append(self._dashboard_url)
        return _post(letter.recipient, json.dumps({"text": "\n".join(lines)}).encode(), {})


class WebhookChannel:
    """A JSON document, signed: `X-TT-Signature: v1=` and HMAC-SHA256 in hex of `<X-TT-Timestamp>.<body>`."""

    def __init__(self, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self._secret, self._clock = secret, clock

    def send(self, letter: Letter) -> Outcome:
        document = {
            "version": VERSION,
            "id": letter.id,
            "event": letter.event,
            "threshold": letter.threshold or None,
            "created_at": format_time(letter.created_at),
            "facts": dict(letter.facts),
        }
        body, timestamp = json.dumps(document).encode(), str(int(self._clock()))
        headers = {
            "X-TT-Event": letter.event,
            "X-TT-Delivery": letter.id,
            "X-TT-Timestamp": timestamp,
            "X-TT-Signature": signature(self._secret, timestamp, body),
        }
        return _post(letter.recipient, body, headers)


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """What a receiver computes to compare."""
    return "v1=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _post(url: str, body: bytes, headers: dict[str, str]) -> Outcome:
    """2xx is sent; 4xx but 408, 425 and 429 is dead; anything else may work later. Redirects are not followed."""
    give_up_s = time.monotonic() + TOTAL_S
    headers = {"Content-Type": "application/json", "User-Agent": "token-tracker", **headers}
    try:
        with httpx.stream("POST", url, content=body, headers=headers, timeout=STEP_S) as answer:
            said = _read(answer, give_up_s)
            text = f"{answer.status_code} {' '.join(said.split())}".strip()
            if answer.is_success:
                return Outcome("sent", text)
            may_work = answer.status_code in (408, 425, 429) or not answer.is_client_error
            return Outcome("retry" if may_work else "dead", text)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        return Outcome("dead", f"the address cannot be used: {error}")
    except httpx.HTTPError as error:
        return Outcome("retry", f"{type(error).__name__}: {error}")


def _read(answer: httpx.Response, give_up_s: float) -> str:
    """The beginning of the answer; the status is what counts, so one that breaks off is read as far as it came."""
    said = b""
    try:
        for piece in answer.iter_bytes():
            said += piece
            if len(said) >= ANSWER_BYTES or time.monotonic() > give_up_s:
                break
    except httpx.HTTPError:
        pass
    return said[:ANSWER_BYTES].decode("utf-8", "replace")


def _slack(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
