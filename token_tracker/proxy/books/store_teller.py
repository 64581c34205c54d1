"""Tells Redis what the ledger holds, after each commit: its gateways live from that."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from token_tracker.proxy.books.counters_board import CounterBoard
from token_tracker.proxy.gate.link import StoreUnavailable
from token_tracker.proxy.gate.redis_books import RedisBooks
from token_tracker.proxy.gate.store import Books, Left

log = logging.getLogger("token_tracker.recorder")

LOOK_S = 0.02
HEARTBEAT_S = 1.0  # so often it looks whether the server still knows all
AT_ONCE = 500  # counters in one step of the server: some ms
LONGEST_WAIT_S = 2.0
LeftBy = Mapping[str, Sequence[Left] | None]  # by incarnation


class StoreTeller:
    """For one thread. What could not be told is told again with all else: every step is idempotent."""

    def __init__(self, board: CounterBoard, books: RedisBooks, left: Callable[[bool], LeftBy] = lambda _: {}) -> None:
        """`left`: what gateways held when their nodes last said so: of all nodes, or only of those that fell silent."""
        self._board, self._books, self._left = board, books, left
        self._owes_all = self._owes_word = True  # the word: that this is all
        self._ready: frozenset[str] = frozenset()
        self._heartbeat_s = 0.0
        self._wait_s = LOOK_S
        self._problem = ""

    @property
    def problem(self) -> str:
        """Why the store cannot be told, '' while it can."""
        return self._problem

    def run(self, stop: threading.Event) -> None:
        asyncio.run(self._run(stop))

    async def _run(self, stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                await self.step()
                await asyncio.sleep(self._wait_s)
            await self.step()
        finally:
            await self.close()

    async def close(self) -> None:
        await self._books.close()

    async def step(self) -> None:
        """Tell what is new."""
        told_all = self._owes_all
        books, is_complete = self._board.news(everything=told_all)
        gives_word = self._owes_word and is_complete
        is_new = books.bases or books.positions or books.ready != self._ready
        is_heartbeat = time.monotonic() >= self._heartbeat_s
        if not (is_new or gives_word or is_heartbeat):
            return
        if gives_word or is_heartbeat:
            books = replace(books, left=self._left(gives_word))
            self._heartbeat_s = time.monotonic() + HEARTBEAT_S
        try:
            is_known = await self._tell(books, gives_word)
        except StoreUnavailable as error:
            self._note(str(error))
            self._owes_all = self._owes_word = True
            self._wait_s = min(self._wait_s * 2, LONGEST_WAIT_S)
            return
        self._note("")
        self._wait_s, self._ready = LOOK_S, books.ready
        self._owes_all = not is_known
        self._owes_word = not is_known or (self._owes_word and not gives_word)

    async def _tell(self, books: Books, is_complete: bool) -> bool:
        """False: the server has lost what it knew. Positions come with the last counters, never before them."""
        *first, last = _parts(books)
        for part in first:
            if not await self._books.send(part, False):
                return False
        return await self._books.send(last, is_complete)

    def _note(self, problem: str) -> None:
        if problem and not self._problem:
            log.warning("Redis cannot be told what is booked (%s); it is told all once it is back", problem)
        if self._problem and not problem:
            log.info("Redis is told again what is booked")
        self._problem = problem


def _parts(books: Books) -> Iterator[Books]:
    """The same in steps, the last with all positions and what is ready."""
    bases = iter(books.bases.items())
    left = len(books.bases)
    while left > AT_ONCE:
        yield Books(dict(islice(bases, AT_ONCE)))
        left -= AT_ONCE
    yield replace(books, bases=dict(bases))
