"""What dead workers left in the journal and the books do not hold yet: so a restart gives nothing back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path

from token_tracker.proxy.books.records import Awaiting, End, Open, Stored, earlier_id
from token_tracker.proxy.books.segment_reader import SegmentReader
from token_tracker.proxy.books.segments import SegmentName, is_locked, list_segments
from token_tracker.proxy.gate.store import END, Entry, Position
from token_tracker.proxy.permits.reach import facts_of_row
from token_tracker.proxy.permits.settling import entry_of, proven

_NOTHING_BOOKED: Position = (-1, 0)


def left_entries(journal: Path, booked: Mapping[str, Position]) -> Iterator[Entry]:
    """Of every worker that lives no more: its ends behind `booked` (by incarnation), and what it held when it died.

    Reads the journal from the oldest segment that is still there; for a start, not while calls wait.
    """
    for (_, incarnation), of_life in groupby(list_segments(journal), key=lambda name: (name.node, name.incarnation)):
        segments = list(of_life)
        position = booked.get(incarnation, _NOTHING_BOOKED)
        if position != END and not is_locked(segments[-1].path(journal)):
            yield from _of_life(journal, segments, incarnation, position)


def _of_life(journal: Path, segments: list[SegmentName], incarnation: str, booked: Position) -> Iterator[Entry]:
    opens: dict[tuple[str, int], End | Open] = {}
    for name in segments:
        reader = SegmentReader(journal, name)
        try:
            for offset, record in reader.records():
                if isinstance(record, Stored):
                    continue
                known = record.end if isinstance(record, Awaiting) else record
                opened = known if isinstance(known, Open) else known.opened
                attempt = (opened.call_id, opened.attempt)
                if not isinstance(record, End):
                    opens[attempt] = known
                    continue
                opens.pop(attempt, None)
                if (name.number, offset) > booked:
                    yield entry_of(record, opened.id, incarnation, (name.number, offset))
        finally:
            reader.close()
    for (call_id, number), known in opens.items():
        is_last = (call_id, number + 1) not in opens
        yield _held(known, call_id if is_last else earlier_id(call_id, number), incarnation)


def _held(known: End | Open, entry_id: str, incarnation: str) -> Entry:
    """A call that the recorder will book as crashed, or as it stands if its usage was awaited: all of its hold counts
    until then."""
    opened = known if isinstance(known, Open) else known.opened
    end = proven(known) if isinstance(known, End) else _unknown(opened)
    cost = max(opened.held_nano_usd, end.cost_nano_usd or 0)
    tokens = max(opened.held_tokens, sum(end.tokens))
    return Entry(entry_id, incarnation, opened.timestamp_us, facts_of_row(end), cost, tokens)


def _unknown(opened: Open) -> End:
    return End(
        opened=opened,
        end_reason="",
        status_code=0,
        tokens=(),
        usage_source="",
        cost_nano_usd=None,
        cost_source="",
        price_version="",
        latency_ms=0.0,
        ttft_ms=None,
        upstream_id="",
        upstream_request_id="",
    )
