"""Refusals on the wire: status, headers and body in the dialect of the route that was asked."""

from __future__ import annotations

from token_tracker.domain.errors import Refusal
from token_tracker.proxy.client import Client
from token_tracker.proxy.dialects.errors import error_body

Headers = list[tuple[bytes, bytes]]


def refusal_headers(refusal: Refusal, request_id: str, length: int) -> Headers:
    headers = [
        (b"x-tt-request-id", request_id.encode()),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % length),
        (b"x-tt-code", refusal.code.encode()),
    ]
    if refusal.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % refusal.retry_after_s))
    if refusal.status == 402:
        headers.append((b"x-should-retry", b"false"))
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


async def refuse(client: Client, family: str, refusal: Refusal, request_id: str, *more: tuple[bytes, bytes]) -> None:
    """Answer with a refusal; `family` is 'openai' or 'anthropic', `more` are headers of this answer alone."""
    body = error_body(family, refusal, request_id)
    await client.answer(refusal.status, [*refusal_headers(refusal, request_id, len(body)), *more], body)
