"""Segments of the journal on disk: their names, who still writes them, and the one that a worker is writing.

A segment is `<journal>/<node>/<incarnation>-<n>`. It is made under a temporary name, locked, and only then renamed, and
its writer lets go of it only after the next one stands. So whoever finds the newest segment of an incarnation unlocked,
and still finds no newer one, knows that its writer is dead.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from token_tracker.proxy.books.framing import MAGIC

TEMPORARY = ".new-"
_NAME = re.compile(r"([0-9a-f]{8})-(\d{1,9})")
_LEFTOVER_S = 60
_ZEROS = bytes(64 * 1024)
_flush = getattr(os, "fdatasync", os.fsync)  # macOS has none


@dataclass(frozen=True, slots=True, order=True)
class SegmentName:
    """Ordered as they were written, within one incarnation."""

    node: str
    incarnation: str
    number: int

    def __str__(self) -> str:
        return f"{self.node}/{self.incarnation}-{self.number}"

    def path(self, journal: Path) -> Path:
        return journal / str(self)


def parse_segment(text: str) -> SegmentName | None:
    """The name of a segment from its text; None for any other text."""
    node, _, name = text.rpartition("/")
    match = _NAME.fullmatch(name)
    return SegmentName(node, match[1], int(match[2])) if match and node else None


def list_segments(journal: Path) -> list[SegmentName]:
    """All segments of all nodes, in order; none where there is no journal yet. Only files: opening a pipe of such a
    name would wait for ever."""
    return sorted(
        SegmentName(node, match[1], int(match[2]))
        for node, entry in _entries(journal)
        if (match := _NAME.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False)
    )


def remove_leftovers(journal: Path) -> None:
    """Remove what workers left that died while they made a segment."""
    for _, entry in _entries(journal):
        ours = entry.name.startswith(TEMPORARY) and entry.is_file(follow_symlinks=False)
        if ours and time.time() - entry.stat().st_mtime > _LEFTOVER_S and not is_locked(Path(entry.path)):
            Path(entry.path).unlink(missing_ok=True)


def _entries(journal: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    if not journal.is_dir():
        return
    with os.scandir(journal) as nodes:
        for node in nodes:
            if node.is_dir():
                with os.scandir(node.path) as entries:
                    yield from ((node.name, entry) for entry in entries)


def is_locked(path: Path) -> bool:
    """Whether a living process holds the segment; False for one that is gone, True where that may not be asked."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except PermissionError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class WrittenSegment:
    """The segment that a worker appends to. Not safe for threads: the journal sees to that."""

    def __init__(self, name: SegmentName, descriptor: int) -> None:
        self.name = name
        self.position = len(MAGIC)
        self._descriptor = descriptor
        self._allocated = 0

    @classmethod
    def create(cls, journal: Path, name: SegmentName, reserve_bytes: int) -> WrittenSegment:
        """A locked segment with room for `reserve_bytes`. Raises OSError, and then leaves nothing behind."""
        path = name.path(journal)
        temporary = path.with_name(TEMPORARY + path.name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            segment = cls(name, descriptor)
            segment.reserve(reserve_bytes)
            os.pwrite(descriptor, MAGIC, 0)
            temporary.rename(path)
        except OSError:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
            raise
        return segment

    def reserve(self, wanted_bytes: int, extra_bytes: int = 0) -> None:
        """Make sure of room for `wanted_bytes` after what is written; `extra_bytes` more while there is plenty.

        Raises OSError where the file system has no room; what was reserved before stays.
        """
        end = self.position + wanted_bytes
        if end <= self._allocated:
            return
        try:
            self._allocate(end + extra_bytes)
        except OSError:
            self._allocate(end)

    def _allocate(self, end: int) -> None:
        _allocate(self._descriptor, self._allocated, end)
        self._allocated = end

    def append(self, frame: bytes | bytearray) -> None:
        """Raises OSError; then the segment stands as before, and what was written of the frame is written over."""
        written = os.pwrite(self._descriptor, frame, self.position)
        if written != len(frame):
            raise OSError(f"{written} of {len(frame)} bytes written")
        self.position += written

    def sync(self) -> None:
        _flush(self._descriptor)

    def close(self) -> None:
        """Give the unused room back, make the rest durable, and let go of the lock."""
        try:
            os.ftruncate(self._descriptor, self.position)
            _flush(self._descriptor)
        finally:
            os.close(self._descriptor)


def _allocate(descriptor: int, start: int, end: int) -> None:
    """Have the file system keep room from `start`, where nothing is written yet, to `end`. Raises OSError."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, start, end - start)
        return
    while start < end:  # macOS: zeros take the room just as well, only slower
        start += os.pwrite(descriptor, _ZEROS[: end - start], start)
