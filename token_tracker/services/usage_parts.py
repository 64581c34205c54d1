"""Which hours of a summary come from the roll-ups, and which must be read row by row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from token_tracker.services.usage_filters import Filters, fits_rollups
from token_tracker.services.usage_times import ceil_hour, floor_hour

LEDGER_ONLY_GROUPS = frozenset({"session", "end_user", "tag"})


@dataclass(frozen=True, slots=True)
class Part:
    """Half-open, None: without an end on that side."""

    from_rollups: bool
    start: datetime | None
    end: datetime | None


def parts_of(
    filters: Filters, groups: Iterable[str], *, hours_split_days: bool, kept_from: datetime | None
) -> list[Part]:
    """Disjoint parts that cover the asked time.

    `hours_split_days`: an hourly sum can belong to two days of the zone. Rows are then read as far back as they are
    kept; before that, an hour counts for the day that it begins in.
    """
    start, end = filters.start, filters.end
    if not fits_rollups(filters) or LEDGER_ONLY_GROUPS.intersection(groups):
        return [Part(False, start, end)]
    first = ceil_hour(start) if start else None
    last = floor_hour(end) if end else None
    if first and last and first >= last:
        return [Part(False, start, end)]
    whole_hours = _whole_hours(first, last, kept_from) if hours_split_days else [Part(True, first, last)]
    edges = [Part(False, start, first), Part(False, last, end)]
    return [*whole_hours, *(edge for edge in edges if edge.start != edge.end)]


def missing_before(parts: Iterable[Part], kept_from: datetime | None) -> datetime | None:
    """The time before which rows that `parts` would need are no longer kept; None: nothing is missing."""
    if kept_from is None:
        return None
    needs_removed = (not part.from_rollups and (part.start is None or part.start < kept_from) for part in parts)
    return kept_from if any(needs_removed) else None


def _whole_hours(first: datetime | None, last: datetime | None, kept_from: datetime | None) -> list[Part]:
    if kept_from is None:
        return [Part(False, first, last)]
    border = ceil_hour(kept_from)
    if last is not None and border >= last:
        return [Part(True, first, last)]
    if first is not None and border <= first:
        return [Part(False, first, last)]
    return [Part(True, first, border), Part(False, border, last)]
