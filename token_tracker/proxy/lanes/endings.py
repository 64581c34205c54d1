"""How an exchange that did not run to its end is booked, and what the client is told then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from token_tracker.domain.errors import (
    Refusal,
    lane_unavailable,
    shutting_down,
    upstream_broke,
    upstream_timeout,
    upstream_unreachable,
)
from token_tracker.domain.usage import EndReason
from token_tracker.proxy.books.records import End
from token_tracker.proxy.call import Failed
from token_tracker.proxy.deadline import Phase
from token_tracker.proxy.errors import refuse
from token_tracker.proxy.lanes.answers import remainder
from token_tracker.proxy.lanes.unreachable import why_unreachable

if TYPE_CHECKING:
    from token_tracker.proxy.lanes.exchange import Exchange


async def interrupted(exchange: Exchange, phase: Phase) -> None:
    """One of our own bounds cut the exchange."""
    attempt, model = exchange.attempt, exchange.attempt.request.model
    if exchange.held is not None and not attempt.is_booked:
        await exchange.say_held()
    elif phase == "gone":
        exchange.book(EndReason.CANCELLED)
    elif phase == "shutdown":
        exchange.book(EndReason.CANCELLED, 503)
        await give_up(exchange, shutting_down())
    elif phase == "connect":
        await _unreachable(exchange)
    else:
        waited_s = attempt.target.idle_timeout_s if phase == "idle" else attempt.target.first_byte_timeout_s
        reason = EndReason.UPSTREAM_ERROR if attempt.status >= 400 else EndReason.TIMEOUT
        await _failed(exchange, reason, upstream_timeout(model, waited_s), exchange.unbilled or _ambiguous(exchange))


async def broken(exchange: Exchange, error: BaseException) -> None:
    """The upstream refused, closed or garbled the connection."""
    if not exchange.attempt.was_sent:
        await _unreachable(exchange, error)
        return
    upload = exchange.upstream.upload
    if upload is not None and upload.is_broken_off:
        exchange.book(EndReason.CANCELLED, 400)
        return
    if exchange.observer is None:
        refusal = upstream_broke(exchange.attempt.request.model)
        reason = exchange.ended(saw_end=False)
        await _failed(exchange, reason, refusal, exchange.unbilled or _ambiguous(exchange))
        return
    rest = remainder(exchange.observer, exchange.shaper, is_clean=False)
    exchange.book(exchange.ended(exchange.observer.reading.saw_end), 502)
    await exchange.client.write(rest)


async def give_up(exchange: Exchange, refusal: Refusal) -> None:
    """Refuse where nothing was sent yet. Else say no more: the server then breaks the connection, so that the client
    cannot take what it has for the whole."""
    if not exchange.client.started:
        await refuse(exchange.client, exchange.attempt.dialect.family, refusal, exchange.attempt.id)


async def _unreachable(exchange: Exchange, error: BaseException | None = None) -> None:
    """Never connected: provably nothing was served, so the row says no usage and costs nothing."""
    attempt = exchange.attempt
    if attempt.opened.lane == "litellm":
        refusal = lane_unavailable()
    else:
        why = why_unreachable(error)
        exchange.floor.complaints.say(attempt.target, why)
        refusal = upstream_unreachable(attempt.request.model, why)
    await _failed(exchange, EndReason.UPSTREAM_ERROR, refusal, Failed())


async def _failed(exchange: Exchange, reason: EndReason, refusal: Refusal, failed: Failed | None) -> None:
    async def say(_: End | None) -> None:
        await give_up(exchange, refusal)

    await exchange.conclude(reason, say, refusal.status, failed)


def _ambiguous(exchange: Exchange) -> Failed | None:
    """An attempt that may have been billed is repeated only for those who asked for it."""
    return Failed(is_ambiguous=True) if exchange.floor.options.retry_ambiguous else None
