"""What the recorder knows of the budgets' counters, and the file that it publishes them in."""

from __future__ import annotations

import os
import secrets
import threading
import time
import zlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

import msgspec
from sqlalchemy import Engine, select

from token_tracker.database.models import ConfigVersion
from token_tracker.database.session import reading
from token_tracker.domain.rules import counter_key
from token_tracker.proxy.books.counters_reader import read_head
from token_tracker.proxy.books.counters_shape import HEAD_LENGTH, MAGIC, SHARD_ENTRIES, CountersHead, ShardEntry
from token_tracker.proxy.books.segments import list_segments, parse_segment
from token_tracker.proxy.books.tails import CLOSED
from token_tracker.proxy.gate.store import END, Base, Books, CounterBucket, Position
from token_tracker.services import counters, journal_offsets
from token_tracker.services.counters import Changed
from token_tracker.services.rule_rows import load_budgets

ENDS_KEPT = 1_000  # dead incarnations that are still named
SLOW_S = 0.05
BUSY_SHARE = 10  # where writing takes longer than that, it takes at most a tenth of the time
_EMPTY = b"\x90"  # a shard without entries
_encoder = msgspec.msgpack.Encoder()


class CounterBoard:
    """Counters of windows that still count, how far the journals of this directory are booked, and which budgets are
    built. Safe for threads: one books, one publishes.

    Counters and positions of one commit come together; a counter may run ahead of the positions, never behind.
    """

    def __init__(self, engine: Engine, journal: Path, path: Path) -> None:
        self._engine, self._journal, self._path = engine, journal, path
        self._lock = threading.Lock()
        self._writer = secrets.token_hex(8)
        self._known: dict[CounterBucket, Base] = {}
        self._positions: dict[str, Position] = {}
        self._built: frozenset[str] = frozenset()
        self._ready: frozenset[str] = frozenset()
        self._has_dead = True  # until the journal was looked at
        self._shards: list[dict[CounterBucket, Base]] = [{}]
        self._changes = [0]
        self._bodies = [_EMPTY]
        self._dirty: set[int] = set()
        self._is_changed = True
        self._is_loaded = False
        # Counters and incarnations that `news` did not tell yet; None: nobody asks.
        self._news: tuple[set[CounterBucket], set[str]] | None = None
        self._due_s = 0.0
        self._resume()

    def take(self, changed: Changed, offsets: Mapping[str, int]) -> None:
        """What one committed transaction changed."""
        with self._lock:
            self._merge(changed)
            self._move(offsets)

    def follow(self, incarnations: Iterable[str], *, has_dead: bool) -> None:
        """These have a journal here; what is booked of it is still to be told. `has_dead`: one of them left something
        that is not booked. A new budget is ready only where none did, as nobody else can tell of a dead worker's calls.
        """
        with self._lock:
            self._has_dead = has_dead
            self._settle_ready()
            for incarnation in incarnations:
                if incarnation not in self._positions:
                    self._positions[incarnation] = (0, 0)
                    self._is_changed = True

    def load(self, at: datetime) -> int:
        """Take over all that stands in the database: after a start, and after others changed counters or rules. The
        version of the configuration that was seen."""
        with reading(self._engine) as session:
            version = session.scalar(select(ConfigVersion.version)) or 0
            rules = load_budgets(session)
            changed = counters.load(session, rules, at=at)
            offsets = journal_offsets.load(session)
        built = frozenset(rule.id for rule in rules if rule.is_built)
        budgets = {rule.id for rule in rules}
        with self._lock:
            gone = [
                place
                for place, base in self._known.items()
                if base.leaves_at_s <= at.timestamp() or place.counter.partition("|")[0] not in budgets
            ]
            for place in gone:
                self._drop(place)
            self._merge(changed)
            self._move({name: offset for name, offset in offsets.items() if self._is_ours(name)})
            self._built, self._is_loaded = built, True
            self._settle_ready()
        return version

    def publish(self, at: datetime) -> bool:
        """Replace the file if something changed; True if it was. Raises OSError: then it is tried again.

        Not flushed: after a power cut it is made anew from the database.
        """
        started_s = time.monotonic()
        with self._lock:
            if not self._is_loaded or not self._is_changed or started_s < self._due_s:
                return False
            self._is_changed = False
            self._lay_out()
            positions, ready = dict(self._positions), tuple(sorted(self._ready))
            dirty, self._dirty = self._dirty, set()
        for index in dirty:
            with self._lock:
                self._bodies[index] = _encoder.encode([_entry(*each) for each in self._shards[index].items()])
                self._changes[index] += 1
        shards = tuple((change, len(body)) for change, body in zip(self._changes, self._bodies, strict=True))
        head = CountersHead(self._writer, int(at.timestamp() * 1_000_000), ready, positions, shards)
        try:
            _replace(self._path, _encoder.encode(head), self._bodies)
        except OSError:
            self._is_changed = True
            raise
        took_s = time.monotonic() - started_s
        self._due_s = started_s + took_s * BUSY_SHARE if took_s > SLOW_S else 0.0
        return True

    def news(self, *, everything: bool) -> tuple[Books, bool]:
        """What changed since the last time, or all there is, for a store that the recorder tells itself; and whether
        that is all, once all that dead workers left is booked. Nothing before the first `load`."""
        with self._lock:
            if not self._is_loaded:
                return Books(), False
            places, incarnations = self._news or (set(), set())
            self._news = set(), set()
            if everything:
                return Books(dict(self._known), dict(self._positions), self._ready), not self._has_dead
            bases = {place: self._known[place] for place in places if place in self._known}
            positions = {name: self._positions[name] for name in incarnations if name in self._positions}
            return Books(bases, positions, self._ready), not self._has_dead

    def _resume(self) -> None:
        """What the last recorder named and is no longer in the journal was booked to its end."""
        head = read_head(self._path)
        if head is not None:
            self._built = self._ready = frozenset(head.ready)
            living = {name.incarnation for name in list_segments(self._journal)}
            for incarnation, position in head.positions.items():
                self._positions[incarnation] = position if incarnation in living else END

    def _settle_ready(self) -> None:
        ready = self._built & self._ready if self._has_dead else self._built
        if ready != self._ready:
            self._ready, self._is_changed = ready, True
            self._due_s = 0.0

    def _merge(self, changed: Changed) -> None:
        for place, value in changed.items():
            name = CounterBucket(counter_key(place.budget_id, place.measure, place.member), place.bucket)
            known = self._known.get(name)
            if known is None or value.version > known.version:
                self._put(name, Base(*value))

    def _put(self, name: CounterBucket, base: Base) -> None:
        index = self._shard_of(name)
        self._known[name] = self._shards[index][name] = base
        if self._news is not None:
            self._news[0].add(name)
        self._dirty.add(index)
        self._is_changed = True

    def _drop(self, name: CounterBucket) -> None:
        index = self._shard_of(name)
        del self._known[name], self._shards[index][name]
        self._dirty.add(index)
        self._is_changed = True

    def _move(self, offsets: Mapping[str, int]) -> None:
        for name, offset in offsets.items():
            segment = parse_segment(name)
            if segment is None:
                continue
            position = END if offset == CLOSED else (segment.number, offset)
            if position > self._positions.get(segment.incarnation, (-1, 0)):
                self._positions[segment.incarnation] = position
                self._is_changed = True
                if self._news is not None:
                    self._news[1].add(segment.incarnation)
        ended = [incarnation for incarnation, position in self._positions.items() if position == END]
        for incarnation in ended[:-ENDS_KEPT]:
            del self._positions[incarnation]

    def _is_ours(self, name: str) -> bool:
        segment = parse_segment(name)
        return segment is not None and (self._journal / segment.node).is_dir()

    def _shard_of(self, name: CounterBucket) -> int:
        return zlib.crc32(f"{name.counter}|{name.bucket}".encode()) % len(self._shards)

    def _lay_out(self) -> None:
        """Double the shards while they are too full, and halve them where they are all but empty."""
        wanted = len(self._shards)
        while len(self._known) > wanted * SHARD_ENTRIES:
            wanted *= 2
        while wanted > 1 and len(self._known) * 8 < wanted * SHARD_ENTRIES:
            wanted //= 2
        if wanted == len(self._shards):
            return
        self._writer = secrets.token_hex(8)
        self._shards = [{} for _ in range(wanted)]
        self._changes, self._bodies = [0] * wanted, [_EMPTY] * wanted
        for name, base in self._known.items():
            self._shards[self._shard_of(name)][name] = base
        self._dirty = set(range(wanted))


def _entry(name: CounterBucket, base: Base) -> ShardEntry:
    return (name.counter, name.bucket, *base)


def _replace(path: Path, head: bytes, bodies: Iterable[bytes]) -> None:
    fresh = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
        file.write(MAGIC + HEAD_LENGTH.pack(len(head)) + head)
        file.writelines(bodies)
    fresh.replace(path)
