"""The journal as calls see it: whatever is written there of a call's end, the gate learns in the same step."""

from __future__ import annotations

from typing import Protocol

from msgspec import structs

from token_tracker.domain.holds import overrun_of, unproven_of
from token_tracker.domain.usage import EndReason, UsageSource
from token_tracker.proxy.books.records import Awaiting, End, Open
from token_tracker.proxy.gate.gate import Gate
from token_tracker.proxy.gate.store import Entry, Position
from token_tracker.proxy.permits.reach import facts_of_row

_READ_WHOLE = (EndReason.COMPLETE.value, EndReason.CLIENT_DISCONNECT.value)


class WrittenJournal(Protocol):
    """`end` gives the position behind the record."""

    def open(self, record: Open) -> None: ...

    def end(self, record: End) -> Position: ...

    def awaiting(self, record: Awaiting) -> None: ...

    def close(self) -> None: ...


class SettlingJournal:
    """All of a worker's calls end here, each of their attempts once. Every method raises `JournalUnavailable`; then the
    hold stays, as nobody knows what the call cost."""

    def __init__(self, journal: WrittenJournal, gate: Gate, incarnation: str) -> None:
        self._journal, self._gate, self._incarnation = journal, gate, incarnation
        self._again: dict[str, tuple[str, str]] = {}  # call → the entries of its failed attempt ('': settled), and next

    def open(self, record: Open) -> None:
        self._journal.open(record)

    def awaiting(self, record: Awaiting) -> None:
        self._journal.awaiting(Awaiting(proven(record.end)))

    def end(self, record: End) -> None:
        record = proven(record)
        position = self._journal.end(record)
        if self._gate.rules.budgets or self._gate.rules.rates:
            self._settle(record, position)

    def close(self) -> None:
        self._journal.close()

    def hold_again(self, call_id: str, failed_entry: str, next_entry: str) -> None:
        """An attempt that may have been billed is followed by another, which has a hold of its own."""
        self._again[call_id] = (failed_entry, next_entry)

    def _settle(self, record: End, position: Position) -> None:
        opened = record.opened
        call_id, is_last = opened.call_id, opened.id == opened.call_id
        entry_id = call_id if is_last else ""
        if call_id in self._again:
            failed, following = self._again.pop(call_id)
            if not is_last:
                entry_id, self._again[call_id] = failed, ("", following)
            elif failed:  # the other attempt never began
                self._gate.release(following)
                entry_id = failed
            else:
                entry_id = following
        if not entry_id:
            if not record.cost_nano_usd and not any(record.tokens):
                return  # not billed: what is held goes on to the next attempt
            entry_id = opened.id
        self._gate.settle(entry_of(record, entry_id, self._incarnation, position))


def entry_of(record: End, entry_id: str, incarnation: str, position: Position) -> Entry:
    return Entry(
        id=entry_id,
        incarnation=incarnation,
        admitted_us=record.opened.timestamp_us,
        facts=facts_of_row(record),
        nano_usd=record.cost_nano_usd or 0,
        tokens=sum(record.tokens),
        unproven_nano_usd=record.unproven_nano_usd,
        unproven_tokens=record.unproven_tokens,
        position=position,
    )


def proven(record: End) -> End:
    """The row with what its hold makes of it: what may be spent beyond its cost, and what was, beyond the hold."""
    opened = record.opened
    if not opened.held_nano_usd and not opened.held_tokens:
        return record
    cost, tokens = record.cost_nano_usd or 0, sum(record.tokens)
    is_proven = _is_proven(record)
    if is_proven and cost <= opened.held_nano_usd:
        return record
    return structs.replace(
        record,
        unproven_nano_usd=unproven_of(opened.held_nano_usd, cost, is_proven),
        unproven_tokens=unproven_of(opened.held_tokens, tokens, is_proven),
        overrun_nano_usd=overrun_of(opened.held_nano_usd, cost),
    )


def _is_proven(record: End) -> bool:
    """The provider's own whole count; nothing at all, where nothing was billed; or what is counted by what was asked
    and delivered (characters, pictures)."""
    if record.cost_nano_usd is None:
        return False
    if record.usage_source == UsageSource.PROVIDER.value:
        return True
    is_unused = record.usage_source == UsageSource.NONE.value
    return is_unused and (not record.cost_nano_usd or record.end_reason in _READ_WHOLE)
