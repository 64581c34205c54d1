"""Follows all segments of the journal and says what is to be booked: ends, and what dead workers left open."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path

from msgspec import structs

from token_tracker.proxy.books.records import Awaiting, End, Open, Refused, Stored, earlier_id
from token_tracker.proxy.books.rows import crashed
from token_tracker.proxy.books.segment_reader import KEPT_AS, SegmentReader
from token_tracker.proxy.books.segments import SegmentName, is_locked, list_segments

log = logging.getLogger("token_tracker.recorder")

CLOSED = -1  # the offset of a dead worker's segment of which nothing more will be booked


@dataclass(slots=True)
class Batch:
    """Rows to book, what is known of stored objects, and how far each segment is booked once they are."""

    ends: list[End] = field(default_factory=list)
    offsets: dict[str, int] = field(default_factory=dict)
    stored: list[Stored] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.ends) + len(self.stored) + len(self.refused)

    def add(self, record: End | Stored | Refused) -> None:
        if isinstance(record, End):
            self.ends.append(record)
        elif isinstance(record, Refused):
            self.refused.append(record)
        else:
            self.stored.append(record)


class Tail:
    """One worker's life: its segments in order, and its calls that are still open."""

    def __init__(self, journal: Path, booked: Mapping[str, int]) -> None:
        self.is_dead = self.is_finished = False
        self._journal, self._booked = journal, booked
        self._readers: list[SegmentReader] = []
        self._turn = 0  # index of the reader at work; those before it are read to their end
        # call and attempt → segment of the record, and what is known
        self._open: dict[tuple[str, int], tuple[int, Open | End]] = {}

    @property
    def newest(self) -> SegmentName:
        return self._readers[-1].name

    @property
    def is_unreadable(self) -> bool:
        return any(reader.is_unreadable for reader in self._readers)

    @property
    def open_records(self) -> list[Open | End]:
        """What began and did not end, as far as the journal was read; an `End` waits for its usage."""
        return [known for _, known in self._open.values()]

    def extend(self, names: Iterable[SegmentName]) -> None:
        """Follow segments that came since the last time."""
        known = self.newest.number if self._readers else -1
        for name in names:
            if name.number > known:
                self._readers.append(SegmentReader(self._journal, name))

    def take(self, batch: Batch, limit: int) -> None:
        """Add to `batch` what was written since the last time, until it has `limit` rows."""
        self.is_finished = self.is_finished or self._booked.get(str(self.newest)) == CLOSED
        while not self.is_finished and batch.size < limit:
            reader = self._readers[self._turn]
            self._read(reader, batch, limit)
            if batch.size >= limit or reader.is_unreadable:
                return
            if self._turn + 1 < len(self._readers):
                self._report_torn(reader)
                reader.close()
                self._turn += 1
            elif self.is_dead:
                self._take_rest(batch, limit)
                return
            else:
                return

    def booked(self) -> None:
        """All that was taken so far is committed."""
        for reader in self._readers:
            reader.booked = reader.position

    def remove_booked(self) -> list[str]:
        """Remove segments that nobody needs any more, oldest first; their names."""
        removed: list[str] = []
        while self._readers and (self.is_finished or self._readers[0].name.number < self._oldest_needed()):
            reader = self._readers.pop(0)
            reader.close()
            reader.remove()
            removed.append(str(reader.name))
            self._turn -= 1
        return removed

    def unbooked_bytes(self) -> int:
        if self.is_finished:
            return 0
        newest = self._readers[-1]
        return sum(reader.unbooked_bytes(is_newest=reader is newest) for reader in self._readers)

    def close(self) -> None:
        for reader in self._readers:
            reader.close()

    def _oldest_needed(self) -> int:
        """The segment at work, or an older one whose open records a restarted recorder must see again."""
        at_work = self._readers[self._turn].name.number
        return min((number for number, _ in self._open.values()), default=at_work) if self._turn else at_work

    def _read(self, reader: SegmentReader, batch: Batch, limit: int) -> None:
        name, number = str(reader.name), reader.name.number
        booked_to = self._booked.get(name, 0)
        for offset, record in reader.records():
            if isinstance(record, Open):
                self._open[_attempt(record)] = number, record
                continue
            if isinstance(record, Awaiting):
                self._open[_attempt(record.end.opened)] = number, record.end
                continue
            if isinstance(record, End):
                self._open.pop(_attempt(record.opened), None)
            if offset > booked_to:
                batch.add(record)
                batch.offsets[name] = offset
                if batch.size >= limit:
                    return

    def _take_rest(self, batch: Batch, limit: int) -> None:
        """What a dead worker left: open attempts crashed, awaiting ones stand as they are. Where the next attempt is
        open, too, the worker died just before it booked this one under its own id."""
        for attempt in list(islice(self._open, limit - batch.size)):
            _, known = self._open.pop(attempt)
            if isinstance(known, Open):
                call_id, number = attempt
                is_last = (call_id, number + 1) not in self._open
                known = crashed(known if is_last else structs.replace(known, id=earlier_id(call_id, number)))
            batch.ends.append(known)
        if not self._open:
            self._report_torn(self._readers[-1])
            batch.offsets |= {str(reader.name): CLOSED for reader in self._readers}
            self.is_finished = True

    def _report_torn(self, reader: SegmentReader) -> None:
        if torn_bytes := reader.torn_bytes():
            reader.is_torn = True
            log.warning(
                "the journal segment %s ends in %d bytes that are no whole record (its writer was cut off, or the file "
                "is damaged); all before them is booked, and the file is kept as %s%s",
                reader.name,
                torn_bytes,
                reader.name,
                KEPT_AS,
            )


def _attempt(opened: Open) -> tuple[str, int]:
    return opened.call_id, opened.attempt


class Tails:
    """All workers' lives in one journal directory. One user at a time."""

    def __init__(self, journal: Path, booked: Mapping[str, int]) -> None:
        self._journal, self._booked = journal, booked
        self._tails: dict[tuple[str, str], Tail] = {}
        self._order: deque[tuple[str, str]] = deque()

    def look(self) -> None:
        """Find new segments, and workers that died."""
        self._extend()
        unlocked = [
            (tail, tail.newest)
            for tail in self._tails.values()
            if not tail.is_dead and not is_locked(tail.newest.path(self._journal))
        ]
        if unlocked:
            self._extend()  # a worker lets go of a segment only after the next one stands
        for tail, newest in unlocked:
            tail.is_dead = tail.newest == newest

    def next_batch(self, limit: int) -> Batch:
        """At most `limit` rows that are to be booked now, fairly taken from all; commit them before the next call."""
        batch = Batch()
        self._order.rotate(-1)
        for life in self._order:
            self._tails[life].take(batch, limit)
        return batch

    def booked(self) -> list[str]:
        """The last batch is committed: the names of segments that were deleted because of it."""
        removed: list[str] = []
        for life, tail in list(self._tails.items()):
            tail.booked()
            removed += tail.remove_booked()
            if tail.is_finished:
                del self._tails[life]
                self._order.remove(life)
        return removed

    @property
    def incarnations(self) -> list[str]:
        return [incarnation for _, incarnation in self._tails]

    @property
    def has_dead(self) -> bool:
        """Whether a dead worker left something that will yet be booked: not what nobody can read."""
        return any(tail.is_dead and not tail.is_unreadable for tail in self._tails.values())

    def open_records(self) -> dict[str, dict[str, list[Open | End]]]:
        """By node and incarnation, what began and did not end; a node of this directory without such is named, too."""
        found: dict[str, dict[str, list[Open | End]]] = {}
        for (node, incarnation), tail in self._tails.items():
            found.setdefault(node, {})[incarnation] = tail.open_records
        return found

    def unbooked_bytes(self) -> int:
        """How much of the journal is not in the ledger yet."""
        return sum(tail.unbooked_bytes() for tail in self._tails.values())

    def close(self) -> None:
        for tail in self._tails.values():
            tail.close()

    def _extend(self) -> None:
        for life, names in groupby(list_segments(self._journal), key=lambda name: (name.node, name.incarnation)):
            if life not in self._tails:
                self._tails[life] = Tail(self._journal, self._booked)
                self._order.append(life)
            self._tails[life].extend(names)
