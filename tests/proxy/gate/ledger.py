"""A journal and a ledger in miniature: what gateways wrote, what of it is booked, and what the books then say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from token_tracker.domain.rules import BudgetRule
from token_tracker.proxy.gate.places import Rules
from token_tracker.proxy.gate.store import END, Base, Books, CounterBucket, Entry, Position


class Ledger:
    def __init__(self) -> None:
        self.rows: dict[str, Entry] = {}
        self.opens: dict[str, dict[str, Entry]] = defaultdict(dict)  # by incarnation: begun and not ended
        self.ends: dict[str, list[Entry]] = defaultdict(list)
        self.positions: dict[str, Position] = {}
        self.commits = 0

    def open(self, entry: Entry) -> None:
        self.opens[entry.incarnation][entry.id] = entry

    def end(self, entry: Entry) -> Entry:
        """The end record, at its position."""
        self.opens[entry.incarnation].pop(entry.id)
        ends = self.ends[entry.incarnation]
        number = len(ends)
        ends.append(msgspec.structs.replace(entry, position=(number // 3, number % 3 * 100 + 100)))
        return ends[-1]

    def never_left(self, entry: Entry) -> None:
        del self.opens[entry.incarnation][entry.id]

    def book(self, incarnation: str, count: int) -> None:
        booked = self.positions.get(incarnation, (-1, 0))
        for entry in [each for each in self.ends[incarnation] if each.position and each.position > booked][:count]:
            self.rows[entry.id] = entry
            assert entry.position is not None
            self.positions[incarnation] = entry.position
        self.commits += 1

    def bury(self, incarnation: str) -> None:
        """Of a dead gateway: all that it wrote, and its open calls as crash rows."""
        self.book(incarnation, len(self.ends[incarnation]))
        for entry in self.opens.pop(incarnation, {}).values():
            spent = entry.nano_usd // 3
            self.rows[entry.id] = msgspec.structs.replace(
                entry, nano_usd=spent, unproven_nano_usd=entry.nano_usd - spent, tokens=0, unproven_tokens=entry.tokens
            )
        self.positions[incarnation] = END

    def unbooked(self, incarnation: str) -> list[Entry]:
        """What a restarted gateway replays from a journal."""
        booked = self.positions.get(incarnation, (-1, 0))
        ends = [each for each in self.ends[incarnation] if each.position and each.position > booked]
        return [*ends, *self.opens[incarnation].values()] if booked != END else []

    def books(self, budgets: Iterable[BudgetRule]) -> Books:
        """All that the ledger says, at this commit."""
        rules = Rules(list(budgets))
        sums: dict[CounterBucket, list[int]] = {}
        for row in self.rows.values():
            for place in rules.demands(row.facts).places(row.admitted_us):
                amounts = (row.nano_usd, row.unproven_nano_usd), (row.tokens, row.unproven_tokens)
                spent, unproven = amounts[place.measure]
                known = sums.setdefault(CounterBucket(place.counter, place.bucket), [0, 0, place.leaves_at_s])
                known[0] += spent
                known[1] += unproven
        bases = {name: Base(spent, unproven, self.commits, leaves) for name, (spent, unproven, leaves) in sums.items()}
        return Books(bases, dict(self.positions), frozenset(rule.id for rule in rules.budgets))
