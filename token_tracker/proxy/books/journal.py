"""What a gateway worker appends to: each call's open record before anything is sent, its end before the client sees it.

A record is one `write`, so it survives the death of the process at once, and a power cut after the next sync. Room for
the end of each open call is reserved beforehand: a full disk refuses new calls and still takes the ends of old ones.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from pathlib import Path

from token_tracker.proxy.books import framing
from token_tracker.proxy.books.records import Awaiting, End, Open, Record, Stored
from token_tracker.proxy.books.segments import SegmentName, WrittenSegment

log = logging.getLogger("token_tracker.journal")

SEGMENT_BYTES = 32 * 1024 * 1024
AHEAD_BYTES = 1024 * 1024  # reserved at once, so that most records need no system call for it
# What an end may add to its open record: price version (300 characters), two upstream ids (255 each) of up to 4 bytes
# a character, ten token counts, the cost, two durations and four short words.
END_EXTRA_BYTES = 4096


class JournalUnavailable(Exception):
    """The record could not be kept; the text says why."""


class Journal:
    """One worker's segments, from its start to its end.

    `incarnation`: 8 hex digits that name this worker's life in segments and call ids. All methods may be called from
    any thread; `open`, `end`, `awaiting` and `stored` take a few microseconds and raise `JournalUnavailable`.
    """

    def __init__(self, directory: Path, node: str, sync_ms: int, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.incarnation = secrets.token_hex(4)
        self._directory, self._node, self._segment_bytes = directory, node, segment_bytes
        self._lock = threading.Lock()
        self._buffer = bytearray()
        self._segment: WrittenSegment | None = None
        self._number = 0
        self._reserved: dict[tuple[str, int], int] = {}  # open attempt → room kept for what it has still to write
        self._owed_bytes = 0
        self._is_dirty = self._is_renamed = self._is_closed = False
        self._retired: list[WrittenSegment] = []
        self._sync_problem = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_synced, args=(sync_ms / 1000,), name="journal", daemon=True)
        try:
            self._current(0)
        except JournalUnavailable as error:
            log.error("%s; calls are refused until it can", error)
        self._thread.start()

    def open(self, record: Open) -> None:
        """Keep `record`, and room for the end of its call. Raises JournalUnavailable: then nothing may be sent."""
        with self._lock:
            if self._sync_problem:
                raise JournalUnavailable(self._sync_problem)
            framing.encode_into(record, self._buffer)
            size = len(self._buffer)
            ends = 2 if record.lane == "litellm" else 1  # such a call may write `awaiting` before its end
            promised = ends * (size + END_EXTRA_BYTES)
            self._append(self._current(size + promised))
            self._reserved[record.call_id, record.attempt] = promised
            self._owed_bytes += promised

    def end(self, record: End) -> tuple[int, int]:
        """Keep the row of a call; for an open one there is room on the fullest disk. Gives the number of the segment
        and the offset behind the record in it, as the books count."""
        return self._close_attempt(record, record.opened, ends_left=0)

    def book(self, record: End) -> None:
        """Keep the row of something that was never open here. Raises JournalUnavailable: then it is not kept."""
        with self._lock:
            if self._sync_problem:
                raise JournalUnavailable(self._sync_problem)
            framing.encode_into(record, self._buffer)
            self._append(self._current(len(self._buffer)))

    def awaiting(self, record: Awaiting) -> None:
        """Keep a row whose usage is still to come; its `end` may follow."""
        self._close_attempt(record, record.end.opened, ends_left=1)

    def stored(self, record: Stored) -> None:
        """Keep who owns something at a provider. No room is reserved for it: on a full disk it raises
        JournalUnavailable, and the client must not learn of what nobody would own."""
        with self._lock:
            framing.encode_into(record, self._buffer)
            self._append(self._current(len(self._buffer)))

    def close(self) -> None:
        """Make everything durable and let go of the segments; open calls are then taken for crashed. Idempotent."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            if self._segment is not None:
                self._retired.append(self._segment)
                self._segment = None
        self._stop.set()
        self._thread.join()
        self._sync()

    def _close_attempt(self, record: Record, opened: Open, *, ends_left: int) -> tuple[int, int]:
        attempt = opened.call_id, opened.attempt  # not its id, which changes if another attempt follows
        with self._lock:
            framing.encode_into(record, self._buffer)
            size = len(self._buffer)
            promised = self._reserved.get(attempt, 0)
            keep = min(promised // 2, promised - size) if ends_left and promised > size else 0
            segment = self._segment
            if segment is None or size > promised:
                segment = self._current(size - promised)
            self._append(segment)
            self._reserved.pop(attempt, None)
            self._owed_bytes += keep - promised
            if keep:
                self._reserved[attempt] = keep
            return segment.name.number, segment.position

    def _append(self, segment: WrittenSegment) -> None:
        try:
            segment.append(self._buffer)
        except OSError as error:
            raise JournalUnavailable(f"the journal segment {segment.name} cannot be written: {error}") from error
        self._is_dirty = True

    def _current(self, more_bytes: int) -> WrittenSegment:
        """The segment to write to, with room for what is owed and `more_bytes`."""
        if self._is_closed:
            raise JournalUnavailable("the journal is closed")
        segment = self._segment
        if segment is None or segment.position >= self._segment_bytes:
            segment = self._next(more_bytes)
        try:
            segment.reserve(self._owed_bytes + more_bytes, AHEAD_BYTES)
        except OSError as error:
            raise JournalUnavailable(f"no room for the journal in {self._directory}: {error}") from error
        return segment

    def _next(self, more_bytes: int) -> WrittenSegment:
        """A new segment; the old one stays in use where there is no room for another."""
        name = SegmentName(self._node, self.incarnation, self._number)
        try:
            segment = WrittenSegment.create(self._directory, name, self._owed_bytes + more_bytes)
        except OSError as error:
            if self._segment is not None:
                return self._segment
            raise JournalUnavailable(f"no journal segment can be made in {self._directory}: {error}") from error
        if self._segment is not None:
            self._retired.append(self._segment)
        self._segment = segment
        self._number += 1
        self._is_renamed = True
        return segment

    def _keep_synced(self, interval_s: float) -> None:
        while not self._stop.wait(interval_s):
            self._sync()

    def _sync(self) -> None:
        """Flush what was written since the last time; descriptors are closed here and nowhere else."""
        with self._lock:
            segment = self._segment if self._is_dirty else None
            retired, self._retired = self._retired, []
            renamed, self._is_renamed = self._is_renamed, False
            self._is_dirty = False
        try:
            while retired:
                retired.pop(0).close()
            if renamed:
                _sync_directory(self._directory / self._node)
            if segment is not None:
                segment.sync()
        except OSError as error:
            if not self._sync_problem:
                log.error("the journal cannot be flushed, new calls are refused: %s", error)
            with self._lock:
                self._sync_problem = f"the journal cannot be flushed: {error}"
                self._is_dirty, self._is_renamed = True, self._is_renamed or renamed
                self._retired[:0] = retired
            return
        self._sync_problem = ""


def _sync_directory(path: Path) -> None:
    for directory in (path, path.parent):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
