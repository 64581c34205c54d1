"""One attempt at its upstream, on either lane: sent, streamed, metered, and journalled exactly once however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
from msgspec import structs

from token_tracker.domain.errors import journal_unavailable, upstream_unreadable
from token_tracker.domain.pricing import CostSource
from token_tracker.domain.usage import EndReason
from token_tracker.proxy.books.journal import JournalUnavailable
from token_tracker.proxy.books.records import End, earlier_id
from token_tracker.proxy.call import Attempt, Failed
from token_tracker.proxy.client import Client
from token_tracker.proxy.deadline import Deadline
from token_tracker.proxy.dialects.base import StreamObserver
from token_tracker.proxy.lanes import booking, endings
from token_tracker.proxy.lanes.answers import answer
from token_tracker.proxy.lanes.failures import UnreadableAnswer
from token_tracker.proxy.lanes.floor import Floor
from token_tracker.proxy.lanes.following import Attempts, Held
from token_tracker.proxy.lanes.shaper import Shaper
from token_tracker.proxy.lanes.upstream_request import UpstreamRequest

UPSTREAM_ERRORS = (aiohttp.ClientError, OSError, asyncio.IncompleteReadError)


class Exchange:
    """Runs one attempt whose open record is in the journal. `attempts`: what may follow it; None: nothing."""

    def __init__(
        self,
        floor: Floor,
        attempt: Attempt,
        client: Client,
        upstream: UpstreamRequest,
        shaper: Shaper | None,
        attempts: Attempts | None = None,
    ):
        self.floor, self.attempt, self.client, self.shaper = floor, attempt, client, shaper
        self.upstream = upstream
        self.observer: StreamObserver | None = None
        self.unbilled: Failed | None = None  # the upstream has refused: all that follows is its error's text
        self.held: Held | None = None
        self.reason: EndReason | None = None
        self._attempts = attempts
        self._is_stopped = self._has_next = False
        self._deadline: Deadline | None = None
        self._first_byte_at_s = float("inf")
        self._saw_byte = self._is_draining = False
        self._ahead = b""  # of the answer: read, and not asked for yet

    @property
    def is_draining(self) -> bool:
        return self._is_draining

    @property
    def deadline(self) -> Deadline:
        assert self._deadline is not None
        return self._deadline

    async def run(self) -> bool:
        """True: the client heard nothing yet, and the next attempt's open record is written. False: all is done."""
        task = asyncio.current_task()
        assert task is not None
        deadline = self._deadline = Deadline(task)
        self.floor.in_flight.add(self)
        try:
            deadline.enter("connect", self.attempt.target.connect_timeout_s)
            self.client.watch(deadline, self._client_left)
            await self._guarded(self._forward)
            if self.held is not None:
                await self._guarded(self._go_on)
            return self._has_next
        finally:
            deadline.stop()
            self.client.unwatch()
            self.floor.in_flight.discard(self)
            self.floor.drains -= self._is_draining

    def stop(self) -> None:
        """The worker shuts down and this call had its time: the upstream is cut and the row written."""
        self._is_stopped = True
        self.deadline.limit("shutdown", 0)

    def sending(self) -> None:
        self.attempt.was_sent = True
        bound_s = self.attempt.target.first_byte_timeout_s
        self._first_byte_at_s = asyncio.get_running_loop().time() + bound_s
        self.deadline.enter_until("first_byte", self._first_byte_at_s)

    async def read(self, response: aiohttp.ClientResponse) -> bytes:
        """The next bytes of the answer as they came, b'' at its clean end, within the bounds for silence."""
        if self._ahead:
            chunk, self._ahead = self._ahead, b""
            self.attempt.response_bytes += len(chunk)
            return chunk
        if self._saw_byte:
            self.deadline.enter("idle", self.attempt.target.idle_timeout_s)
        else:
            self.deadline.enter_until("first_byte", self._first_byte_at_s)
        chunk = await response.content.readany()
        self._saw_byte = True
        self.attempt.response_bytes += len(chunk)
        return chunk

    def has_more(self, response: aiohttp.ClientResponse) -> bool:
        """Whether the next bytes of the answer are here already."""
        self._ahead = self._ahead or response.content.read_nowait()
        self._saw_byte = self._saw_byte or bool(self._ahead)
        return bool(self._ahead)

    def ended(self, saw_end: bool) -> EndReason:
        """How an answer that was read to its end, well or not, is booked."""
        if self.attempt.status >= 300 or self.attempt.reading.error:  # a redirect serves nothing
            return EndReason.UPSTREAM_ERROR
        if not saw_end:
            return EndReason.UPSTREAM_DISCONNECT
        return EndReason.CLIENT_DISCONNECT if self.client.gone else EndReason.COMPLETE

    async def conclude(
        self,
        reason: EndReason,
        say: Callable[[End | None], Awaitable[None]],
        our_status: int = 0,
        failed: Failed | None = None,
    ) -> None:
        """Book the attempt and answer the client; if `failed`, another attempt may be made before that is done."""
        if failed is not None and self._may_go_on():
            self.attempt.latency_ms = self.attempt.elapsed_ms()
            self.held = Held(failed, reason, our_status, say)
        else:
            await say(self.book(reason, our_status))

    def book(self, reason: EndReason, our_status: int = 0) -> End | None:
        """Write the attempt's row, once (see `booking.book`). `our_status`: what the client gets where the upstream
        gave no status. Raises `JournalUnavailable`: then the client must not see a clean end."""
        attempt = self.attempt
        if attempt.is_booked:
            return None
        self.reason = reason
        attempt.request_bytes = self.upstream.sent_bytes if attempt.was_sent else 0
        attempt.reading.is_estimate |= self.shaper is not None and self.shaper.usage_is_estimate
        return booking.book(self.floor, attempt, reason, attempt.status or (0 if self.client.gone else our_status))

    async def say_held(self) -> None:
        """Nothing follows the failed attempt: book it, and tell the client what there is."""
        assert self.held is not None
        await self.held.say(self.book(self.held.reason, self.held.our_status))

    def _may_go_on(self) -> bool:
        return self._attempts is not None and not (self.client.started or self.client.gone or self._is_stopped)

    async def _go_on(self) -> None:
        """Wait for the next attempt and open it; this one is then booked as an earlier one. If there is none, or the
        client left meanwhile, this one was the last."""
        assert self.held is not None and self._attempts is not None
        wait_s = self._attempts.another(self.attempt, self.held.failed)
        if wait_s:
            self.deadline.relax()
            await asyncio.sleep(wait_s)
        if wait_s is None or not await self._holds_again(self._attempts) or not self._opens_next(self._attempts):
            await self.say_held()

    async def _holds_again(self, attempts: Attempts) -> bool:
        """Whether the next attempt may begin: the client is still there, and where the last one may have been billed,
        there is room for both."""
        assert self.held is not None
        return self._may_go_on() and await attempts.hold_again(self.held.failed) and self._may_go_on()

    def _opens_next(self, attempts: Attempts) -> bool:
        """The next attempt's open record comes first: a worker that dies between the two leaves no attempt unknown."""
        assert self.held is not None
        try:
            attempts.open()
        except JournalUnavailable:
            return False
        attempt = self.attempt
        attempt.opened = structs.replace(attempt.opened, id=earlier_id(attempt.opened.call_id, attempt.opened.attempt))
        self.book(self.held.reason, self.held.our_status)
        self._has_next = True
        return True

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            phase = self.deadline.take()
            if phase is None:
                self.book(EndReason.CANCELLED if self.held is None else self.held.reason)
                raise
            await endings.interrupted(self, phase)
        except JournalUnavailable:
            await endings.give_up(self, journal_unavailable())
        except UnreadableAnswer:
            self.book(EndReason.UPSTREAM_ERROR, 502)
            await endings.give_up(self, upstream_unreadable(self.attempt.request.model))
        except UPSTREAM_ERRORS as error:
            await endings.broken(self, error)
        except Exception:  # a fault of ours, which the caller reports: the call has its row all the same
            self.book(self.ended(saw_end=False) if self.attempt.was_sent else EndReason.CANCELLED, 500)
            raise

    async def _forward(self) -> None:
        response = await self.floor.pool.send(self.upstream, self)
        try:
            await answer(self, response)
        finally:
            response.close()

    def _client_left(self) -> None:
        attempt, options = self.attempt, self.floor.options
        wanted = attempt.target.on_disconnect
        drains = wanted == "drain" or (wanted is None and attempt.price.cost_source is not CostSource.LOCAL)
        in_vain = attempt.is_booked or not attempt.was_sent or self.held is not None
        if in_vain or not drains or self.floor.drains >= options.drains:
            self.deadline.limit("gone", 0)
            return
        self._is_draining = True
        self.floor.drains += 1
        self.deadline.limit("gone", options.drain_timeout_s)
