"""A gateway's view of the counters' file: only what changed, in small steps between which calls go on."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Generator
from pathlib import Path

import msgspec

from token_tracker.proxy.books.counters_shape import HEAD_AT, HEAD_LENGTH, MAGIC, CountersHead, ShardEntry
from token_tracker.proxy.gate.store import Base, Books, CounterBucket

log = logging.getLogger("token_tracker.gateway")

_heads = msgspec.msgpack.Decoder(CountersHead)
_shards = msgspec.msgpack.Decoder(list[ShardEntry])
Steps = Generator[None, None, "Books | None"]


class CountersReader:
    """`made_at_us`: when the last file was made that could be read; 0 if none could. One `refresh` at a time."""

    def __init__(self, path: Path) -> None:
        self.made_at_us = 0
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._writer = ""
        self._changes: tuple[tuple[int, int], ...] = ()
        self._versions: dict[tuple[str, int], tuple[int, int]] = {}  # (version, when it may be forgotten)
        self._problem = ""

    async def refresh(self) -> Books | None:
        """What changed since the last time, for `Store.take_books`; None if the file was not replaced.

        The loop is left between steps of at most some 100 µs. A file that cannot be read is reported once, and what
        was known stays.
        """
        steps = self._steps()
        while True:
            try:
                next(steps)
            except StopIteration as end:
                books: Books | None = end.value
                return books
            await asyncio.sleep(0)

    def read(self) -> Books | None:
        """The same at once, for a start."""
        steps = self._steps()
        while True:
            try:
                next(steps)
            except StopIteration as end:
                books: Books | None = end.value
                return books

    def _steps(self) -> Steps:
        try:
            status = self._path.stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen == self._seen:
                return None
            descriptor = os.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._report(str(error))
            return None
        try:
            books = yield from self._read(descriptor)
        except (OSError, ValueError, msgspec.DecodeError) as error:
            self._report(str(error))
            self._writer, self._versions = "", {}  # what was taken of it went nowhere: the next file is all new
            return None
        finally:
            os.close(descriptor)
        self._seen, self._problem = seen, ""
        return books

    def _read(self, descriptor: int) -> Generator[None, None, Books]:
        head, at = _head(descriptor)
        is_same_writer = head.writer == self._writer and len(head.shards) == len(self._changes)
        bases: dict[CounterBucket, Base] = {}
        for index, (change, length) in enumerate(head.shards):
            if not is_same_writer or self._changes[index][0] != change:
                self._take(_shards.decode(os.pread(descriptor, length, at)), bases)
                yield
            at += length
        if not is_same_writer:
            self._forget(head.made_at_us // 1_000_000)
        self._writer, self._changes, self.made_at_us = head.writer, head.shards, head.made_at_us
        return Books(bases, head.positions, frozenset(head.ready))

    def _take(self, entries: list[ShardEntry], bases: dict[CounterBucket, Base]) -> None:
        versions = self._versions
        for counter, bucket, spent, unproven, version, leaves_at_s in entries:
            known = versions.get((counter, bucket))
            if known is None or known[0] != version:
                place = CounterBucket(counter, bucket)
                bases[place] = Base(spent, unproven, version, leaves_at_s)
                versions[place] = version, leaves_at_s

    def _forget(self, now_s: int) -> None:
        """What left its window; asked when shards are laid out anew."""
        self._versions = {place: known for place, known in self._versions.items() if known[1] > now_s}

    def _report(self, problem: str) -> None:
        if problem != self._problem:
            log.error("the counters %s cannot be read, the last ones stay in use: %s", self._path, problem)
        self._problem = problem


def _head(descriptor: int) -> tuple[CountersHead, int]:
    start = os.pread(descriptor, HEAD_AT, 0)
    if len(start) < HEAD_AT or not start.startswith(MAGIC):
        raise ValueError("the file is of another format")
    (length,) = HEAD_LENGTH.unpack(start[len(MAGIC) :])
    return _heads.decode(os.pread(descriptor, length, HEAD_AT)), HEAD_AT + length


def read_head(path: Path) -> CountersHead | None:
    """The head of the file; None where there is none that can be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return _head(descriptor)[0]
    except (OSError, ValueError, msgspec.DecodeError):
        return None
    finally:
        os.close(descriptor)
