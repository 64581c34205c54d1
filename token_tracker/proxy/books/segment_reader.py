"""Reads one segment from its beginning: sound records only, as far as they reach now."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import msgspec

from token_tracker.proxy.books import framing
from token_tracker.proxy.books.records import Record
from token_tracker.proxy.books.segments import SegmentName

log = logging.getLogger("token_tracker.recorder")

KEPT_AS = ".torn"  # a segment with bytes that nobody could read is put aside under this ending, never deleted
_CHUNK_BYTES = 64 * 1024
_LONGEST_BYTES = framing.HEADER_BYTES + framing.MAX_RECORD_BYTES


class SegmentReader:
    """`position`: the end of the last record that was taken; `booked`: of the last one whose rows are committed.

    `is_torn`: something that is no sound record lies behind the last one.
    `is_unreadable`: the file may not be read, or a sound record of a kind that this version does not know lies ahead.
    It is kept, not skipped.
    """

    def __init__(self, journal: Path, name: SegmentName) -> None:
        self.name = name
        self.position = self.booked = 0
        self.is_unreadable = self.is_torn = False
        self._path = name.path(journal)
        self._descriptor: int | None = None  # opened when first needed: after an outage there may be many segments
        self._ready: deque[tuple[int, bytes]] = deque()
        self._read_to = 0  # up to here in `_ready`
        self._measured_to = 0

    def close(self) -> None:
        """Nothing more will be read. Idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def remove(self) -> None:
        """Everything that can be read is booked: delete the file, or put it aside if it is torn. Idempotent."""
        if not self.is_torn:
            self._path.unlink(missing_ok=True)
        elif self._path.exists():
            self._path.rename(self._path.with_name(self._path.name + KEPT_AS))

    def records(self) -> Iterator[tuple[int, Record]]:
        """Each record once, with the offset of its end; it may be asked again for what is written later."""
        while not self.is_unreadable and (self._ready or self._fill()):
            end, payload = self._ready[0]
            try:
                record = framing.decode(payload)
            except msgspec.DecodeError as error:
                self._refuse(f"holds a record that this version cannot read, before byte {end}: {error}")
                return
            self._ready.popleft()
            self.position = end
            yield end, record

    def unbooked_bytes(self, *, is_newest: bool) -> int:
        """How many bytes of records lie after `booked`. Only the newest segment has room ahead of its records, and
        there they are counted by their lengths."""
        if not is_newest:
            return max(self._path.stat().st_size - self.booked, 0)
        if not self._read_to and not self._saw_magic():
            return 0
        self._measured_to = max(self._measured_to, self._read_to)
        while reach := framing.skip(self._bytes(self._measured_to, _LONGEST_BYTES)):
            self._measured_to += reach
        return self._measured_to - self.booked

    def torn_bytes(self) -> int:
        """Of a dead writer's segment: how far something that is no sound record reaches after the last one."""
        start, torn = self._read_to, 0
        while chunk := self._bytes(start, _LONGEST_BYTES):
            if stripped := chunk.rstrip(b"\0"):
                torn = start - self._read_to + len(stripped)
            start += len(chunk)
        return torn

    def _fill(self) -> bool:
        """Take the next sound frames; False where there are none yet."""
        if not self._read_to and not self._saw_magic():
            return False
        for length in (_CHUNK_BYTES, _LONGEST_BYTES):
            data = self._bytes(self._read_to, length)
            frames, reach = framing.split(data)
            if frames:
                self._ready.extend((self._read_to + end, payload) for end, payload in frames)
                self._read_to += reach
                return True
            if len(data) < length or data.startswith(b"\0\0\0\0"):
                return False
        return False

    def _saw_magic(self) -> bool:
        if self.is_unreadable:
            return False
        magic = self._bytes(0, len(framing.MAGIC))
        if magic == framing.MAGIC:
            self._read_to = self.position = self.booked = len(magic)
            return True
        if magic.strip(b"\0"):
            self._refuse("is of another format; it is kept")
        return False

    def _bytes(self, start: int, length: int) -> bytes:
        if self._descriptor is None:
            try:
                self._descriptor = os.open(self._path, os.O_RDONLY)
            except PermissionError as error:  # of another account, say; the others are booked all the same
                self._refuse(f"may not be read ({error.strerror}); it is kept")
                return b""
        return os.pread(self._descriptor, length, start)

    def _refuse(self, problem: str) -> None:
        self.is_unreadable = True
        log.error("the journal segment %s %s", self.name, problem)
