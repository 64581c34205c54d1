"""One attempt at its upstream, on either lane: sent, streamed, metered, and journalled exactly once however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import aiohttp
from msgspec import structs
from yarl import URL

from token_tracker.config.values import GatewayOptions
from token_tracker.domain.errors import (
    Refusal,
    journal_unavailable,
    lane_unavailable,
    shutting_down,
    upstream_broke,
    upstream_timeout,
    upstream_unreachable,
    upstream_unreadable,
)
from token_tracker.domain.pricing import CostSource
from token_tracker.domain.usage import EndReason
from token_tracker.proxy.books.journal import JournalUnavailable
from token_tracker.proxy.books.records import Awaiting, End, earlier_id
from token_tracker.proxy.call import Attempt, Failed, Journal
from token_tracker.proxy.client import Client
from token_tracker.proxy.deadline import Deadline, Phase
from token_tracker.proxy.dialects.base import StreamObserver, Uncounted
from token_tracker.proxy.errors import refuse
from token_tracker.proxy.lanes.answers import answer, remainder
from token_tracker.proxy.lanes.failures import UnreadableAnswer
from token_tracker.proxy.lanes.following import Attempts, Held
from token_tracker.proxy.lanes.late import EvidenceSource, complete_later
from token_tracker.proxy.lanes.unreachable import Complaints, why_unreachable

UPSTREAM_ERRORS = (aiohttp.ClientError, OSError, asyncio.IncompleteReadError)
SENDING: ContextVar[Exchange] = ContextVar("sending")


@runtime_checkable
class Upload(Protocol):
    """A body on its way up. `is_broken_off`: the client did not send the rest of it."""

    is_broken_off: bool

    def __aiter__(self) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """What either lane prepares and the exchange sends."""

    method: str
    url: str | URL
    headers: list[tuple[str, str]]
    body: bytes | Upload | None


class Shaper(Protocol):
    """What makes one translated answer the client's: undoes the traces of the process in between. The direct lane has
    none and changes nothing. `usage_is_estimate`: the process in between counted where the upstream did not."""

    usage_is_estimate: bool

    def is_unbilled(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Of an error: whether the upstream itself refused, or was not reached."""

    def answer_status(self, status: int, headers: Iterable[tuple[bytes, bytes]] = ()) -> int: ...

    def answer_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]: ...

    def answer_body(self, body: bytes) -> bytes: ...

    def reshape_error(
        self, family: str, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, request_id: str
    ) -> bytes: ...

    def feed(self, chunk: bytes) -> bytes: ...

    def close(self) -> bytes: ...


@dataclass(slots=True)
class Floor:
    """What all calls of a worker share."""

    session: aiohttp.ClientSession
    journal: Journal
    options: GatewayOptions
    evidence: EvidenceSource | None = None
    in_flight: set[Exchange] = field(default_factory=set)
    drains: int = 0
    complaints: Complaints = field(default_factory=Complaints)
    background: set[asyncio.Task[None]] = field(default_factory=set)


class MarkingRequest(aiohttp.ClientRequest):
    """Tells the exchange when a connection is there and bytes begin to leave: before that, nothing can be billed."""

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        exchange = SENDING.get(None)
        if exchange is not None:  # the health check of the LiteLLM process uses the same pool
            exchange.sending()
        return await super().send(conn)


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
        self.observer: StreamObserver | None = None
        self.unbilled: Failed | None = None  # the upstream has refused: all that follows is its error's text
        self.held: Held | None = None
        self.reason: EndReason | None = None
        self._attempts = attempts
        self._is_stopped = self._has_next = False
        self._upstream = upstream
        self._deadline: Deadline | None = None
        self._first_byte_at_s = float("inf")
        self._saw_byte = self._is_draining = False

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
        if self._saw_byte:
            self.deadline.enter("idle", self.attempt.target.idle_timeout_s)
        else:
            self.deadline.enter_until("first_byte", self._first_byte_at_s)
        chunk = await response.content.readany()
        self._saw_byte = True
        return chunk

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
        """Write the attempt's row, once; None if it stands already, or if its usage is still awaited.

        Raises `JournalUnavailable`: then the client must not see a clean end.
        """
        attempt = self.attempt
        if attempt.is_booked:
            return None
        attempt.is_booked = True
        self.reason = reason
        attempt.reading.is_estimate |= self.shaper is not None and self.shaper.usage_is_estimate
        end = attempt.end_record(reason, attempt.status or (0 if self.client.gone else our_status))
        if not self._is_awaited(reason):
            self.floor.journal.end(end)
            return end
        assert self.floor.evidence is not None
        self.floor.journal.awaiting(Awaiting(end))
        work = complete_later(self.floor.evidence, self.floor.journal, attempt, end, self.floor.options.evidence_wait_s)
        task = asyncio.create_task(work)
        self.floor.background.add(task)
        task.add_done_callback(self.floor.background.discard)
        return None

    def _is_awaited(self, reason: EndReason) -> bool:
        """Only LiteLLM's callback knows some usage (speech, say): it comes after the end of the answer."""
        read_whole = reason in (EndReason.COMPLETE, EndReason.CLIENT_DISCONNECT)
        is_free = self.attempt.dialect.uncounted is Uncounted.FREE
        translated = self.attempt.opened.lane == "litellm" and self.floor.evidence is not None and not is_free
        return translated and read_whole and not (self.attempt.reading.is_final and self.attempt.reading.usage)

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
            await self._say_held(self.held)

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

    async def _say_held(self, held: Held) -> None:
        await held.say(self.book(held.reason, held.our_status))

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            phase = self.deadline.take()
            if phase is None:
                self.book(EndReason.CANCELLED if self.held is None else self.held.reason)
                raise
            await self._interrupted(phase)
        except JournalUnavailable:
            await self._give_up(journal_unavailable())
        except UnreadableAnswer:
            self.book(EndReason.UPSTREAM_ERROR, 502)
            await self._give_up(upstream_unreadable(self.attempt.request.model))
        except UPSTREAM_ERRORS as error:
            await self._broken(error)
        except Exception:  # a fault of ours, which the caller reports: the call has its row all the same
            self.book(self.ended(saw_end=False) if self.attempt.was_sent else EndReason.CANCELLED, 500)
            raise

    async def _forward(self) -> None:
        upstream = self._upstream
        SENDING.set(self)
        response = await self.floor.session.request(
            upstream.method, upstream.url, headers=upstream.headers, data=upstream.body, allow_redirects=False
        )
        try:
            await answer(self, response)
        finally:
            response.close()

    async def _interrupted(self, phase: Phase) -> None:
        """One of our own bounds cut the exchange."""
        attempt, model = self.attempt, self.attempt.request.model
        if self.held is not None and not attempt.is_booked:
            await self._say_held(self.held)
        elif phase == "gone":
            self.book(EndReason.CANCELLED)
        elif phase == "shutdown":
            self.book(EndReason.CANCELLED, 503)
            await self._give_up(shutting_down())
        elif phase == "connect":
            await self._unreachable()
        else:
            waited_s = attempt.target.idle_timeout_s if phase == "idle" else attempt.target.first_byte_timeout_s
            reason = EndReason.UPSTREAM_ERROR if attempt.status >= 400 else EndReason.TIMEOUT
            await self._failed(reason, upstream_timeout(model, waited_s), self.unbilled or self._ambiguous())

    async def _broken(self, error: BaseException) -> None:
        """The upstream refused, closed or garbled the connection."""
        if not self.attempt.was_sent:
            await self._unreachable(error)
            return
        if isinstance(self._upstream.body, Upload) and self._upstream.body.is_broken_off:
            self.book(EndReason.CANCELLED, 400)
            return
        if self.observer is None:
            refusal = upstream_broke(self.attempt.request.model)
            await self._failed(self.ended(saw_end=False), refusal, self.unbilled or self._ambiguous())
            return
        rest = remainder(self.observer, self.shaper, is_clean=False)
        self.book(self.ended(self.observer.reading.saw_end), 502)
        await self.client.write(rest)

    async def _unreachable(self, error: BaseException | None = None) -> None:
        """Never connected: provably nothing was served, so the row says no usage and costs nothing."""
        if self.attempt.opened.lane == "litellm":
            refusal = lane_unavailable()
        else:
            why = why_unreachable(error)
            self.floor.complaints.say(self.attempt.target, why)
            refusal = upstream_unreachable(self.attempt.request.model, why)
        await self._failed(EndReason.UPSTREAM_ERROR, refusal, Failed())

    async def _failed(self, reason: EndReason, refusal: Refusal, failed: Failed | None) -> None:
        async def say(_: End | None) -> None:
            await self._give_up(refusal)

        await self.conclude(reason, say, refusal.status, failed)

    def _ambiguous(self) -> Failed | None:
        """An attempt that may have been billed is repeated only for those who asked for it."""
        return Failed(is_ambiguous=True) if self.floor.options.retry_ambiguous else None

    async def _give_up(self, refusal: Refusal) -> None:
        """Refuse where nothing was sent yet. Else say no more: the server then breaks the connection, so that the
        client cannot take what it has for the whole."""
        if not self.client.started:
            await refuse(self.client, self.attempt.dialect.family, refusal, self.attempt.id)

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
