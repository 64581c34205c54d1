"""Books one journal directory into the ledger, batch by batch: nothing is lost and nothing comes twice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine

from token_tracker.database.session import reading, transaction
from token_tracker.proxy.books.counters_board import CounterBoard
from token_tracker.proxy.books.object_books import ObjectBooks, object_row
from token_tracker.proxy.books.records import End, Open
from token_tracker.proxy.books.rows import ledger_row, refusal_row
from token_tracker.proxy.books.tails import Batch, Tails
from token_tracker.services import journal_offsets
from token_tracker.services.booking import book
from token_tracker.services.counters import CountingRules
from token_tracker.services.objects import book_objects
from token_tracker.services.outage import Attempts, Outage
from token_tracker.services.refusals import book_refusals

BATCH_ROWS = 500
LOOK_S = 0.05


class Bookkeeper:
    """Books one journal directory, batch by batch. For one thread; `wait_s` is how long to pause after a `step`.

    `board` is told of budgets' counters, in the step that commits them.
    """

    def __init__(
        self,
        engine: Engine,
        journal: Path,
        outage: Outage,
        node: str = "",
        objects: ObjectBooks | None = None,
        board: CounterBoard | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.last_commit_us = 0
        self._engine, self._journal, self._node, self._objects = engine, journal, node, objects
        self._attempts = Attempts(outage, "booking")
        self._board, self._rules, self._clock = board, CountingRules(), clock
        self._offsets: dict[str, int] = {}
        self._tails = Tails(journal, self._offsets)
        self._has_offsets = False
        self._pending: Batch | None = None  # taken from the journal, not committed yet
        self._removed: list[str] = []  # deleted segments whose offsets are still to be forgotten

    @property
    def wait_s(self) -> float:
        return self._attempts.wait_s or LOOK_S

    def step(self) -> int:
        """Book the next batch: how many records it had, once it is committed. Without a database nothing is lost: the
        same batch is tried again."""
        self._tails.look()
        if self._board is not None:
            self._board.follow(self._tails.incarnations, has_dead=self._tails.has_dead)
        with self._attempts:
            return self._book_next()
        return 0

    def unbooked_bytes(self) -> int:
        return self._tails.unbooked_bytes()

    def open_records(self) -> dict[str, dict[str, list[Open | End]]]:
        """By node of this directory and incarnation, what began and did not end."""
        return {node: {} for node in self._nodes()} | self._tails.open_records()

    def close(self) -> None:
        self._tails.close()

    def _book_next(self) -> int:
        if not self._has_offsets:
            self._resume()
        batch = self._pending = self._pending or self._tails.next_batch(BATCH_ROWS)
        self._commit(batch)
        self._pending = None
        return batch.size

    def _resume(self) -> None:
        with reading(self._engine) as session:
            offsets = journal_offsets.load(session)
        for name, offset in offsets.items():
            segment = self._journal / name
            if segment.exists():
                self._offsets[name] = offset
            elif segment.parent.is_dir():  # else it is another node's
                self._removed.append(name)
        self._has_offsets = True

    def _commit(self, batch: Batch) -> None:
        at = self._clock()
        if batch.size or batch.offsets or self._removed:
            with transaction(self._engine) as session:
                booked = book(session, [ledger_row(end) for end in batch.ends], at=at, rules=self._rules)
                book_objects(session, [object_row(stored, self._node) for stored in batch.stored], at=at)
                book_refusals(session, [refusal_row(refused) for refused in batch.refused])
                journal_offsets.save(session, batch.offsets, at=at)
                journal_offsets.forget(session, self._removed)
            if self._board is not None:
                self._board.take(booked.counters, batch.offsets)
            self.last_commit_us = int(at.timestamp() * 1_000_000)
            if self._objects is not None:
                self._objects.booked(batch.stored)
        self._removed = self._tails.booked()

    def _nodes(self) -> list[str]:
        return [entry.name for entry in self._journal.iterdir() if entry.is_dir()] if self._journal.is_dir() else []
