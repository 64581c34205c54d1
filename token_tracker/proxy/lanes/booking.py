"""The one place where an attempt ends: its row goes into the journal, once, or waits there for its usage."""

from __future__ import annotations

import asyncio

from token_tracker.domain.usage import EndReason
from token_tracker.proxy.books.records import Awaiting, End
from token_tracker.proxy.call import Attempt
from token_tracker.proxy.dialects.base import Uncounted
from token_tracker.proxy.lanes.floor import Floor
from token_tracker.proxy.lanes.late import complete_later


def book(floor: Floor, attempt: Attempt, reason: EndReason, status: int) -> End | None:
    """Write the attempt's row, once; None if it stands already, or if its usage is still awaited.

    Raises `JournalUnavailable`: then the client must not see a clean end.
    """
    if attempt.is_booked:
        return None
    attempt.is_booked = True
    end = attempt.end_record(reason, status)
    if not _is_awaited(floor, attempt, reason):
        floor.journal.end(end)
        return end
    assert floor.evidence is not None
    floor.journal.awaiting(Awaiting(end))
    work = complete_later(floor.evidence, floor.journal, attempt, end, floor.options.evidence_wait_s)
    task = asyncio.create_task(work)
    floor.background.add(task)
    task.add_done_callback(floor.background.discard)
    return None


def _is_awaited(floor: Floor, attempt: Attempt, reason: EndReason) -> bool:
    """Only LiteLLM's callback knows some usage (speech, say): it comes after the end of the answer."""
    if attempt.opened.lane != "litellm" or floor.evidence is None or attempt.dialect.uncounted is Uncounted.FREE:
        return False
    read_whole = reason in (EndReason.COMPLETE, EndReason.CLIENT_DISCONNECT)
    return read_whole and not (attempt.reading.is_final and attempt.reading.usage)
