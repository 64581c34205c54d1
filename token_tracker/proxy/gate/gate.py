"""The gate of one gateway worker: admits calls under the current rules, and keeps what the ledger does not know yet.

It remembers an entry of each call that a rule counts until the call is booked, so that a new rule, or a store that lost
its state, can be told again.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable

from token_tracker.domain.holds import Ask
from token_tracker.domain.rules import CallFacts
from token_tracker.proxy.gate.places import Demands, Places, Rules
from token_tracker.proxy.gate.store import END, Books, Entry, Store, StoreFigures, Verdict

log = logging.getLogger("token_tracker.gateway")
NO_RULES = Rules()


class Gate:
    """`admit`, then exactly one of `settle` (its end record is in the journal) and `release` (it provably never left).

    For a call that no rule counts (`demands` is empty) nothing of this need be called.
    """

    def __init__(self, store: Store, incarnation: str) -> None:
        self.rules = NO_RULES
        self._store, self.incarnation = store, incarnation
        self._entries: dict[str, Entry] = {}
        self._ended: deque[str] = deque()  # in the order of their ends, which is nearly that of their booking
        self._of_others: dict[str, list[str]] = {}  # by incarnation: what was restored
        store.on_lost = self.place_again

    @property
    def store_figures(self) -> StoreFigures:
        return self._store.figures

    @property
    def unbooked(self) -> int:
        """How many calls it remembers: in flight, or ended and not known to be booked."""
        return len(self._entries)

    def demands(self, facts: CallFacts) -> Demands:
        """The rules that count a call. `facts`: all that it may reach, fallbacks included."""
        return self.rules.demands(facts)

    async def admit(self, ask: Ask, demands: Demands) -> Verdict:
        """`demands`: of `ask.facts`. Refused or to be downgraded, nothing has changed."""
        if not demands:
            return Verdict(output_tokens=ask.output_max)
        verdict = await self._store.admit(ask, demands.placed(ask.now_us))
        if not verdict.refused and verdict.downgrade is None:
            output = verdict.output_tokens
            usd, tokens = ask.usd(output), ask.tokens(output)
            entry = Entry(ask.id, self.incarnation, ask.now_us, ask.facts, usd, tokens)
            self._entries[ask.id] = entry
            if not verdict.is_counted:
                self._store.place([(entry, self._places(entry))])
        return verdict

    def settle(self, entry: Entry) -> None:
        """The call has ended, as `entry` says: with the facts and amounts of its row, and the end record's position. An
        end that comes later replaces it."""
        places = self._places(entry)
        if entry.id not in self._entries and not places:
            return
        if entry.id not in self._entries or self._entries[entry.id].is_live:
            self._ended.append(entry.id)
        self._entries[entry.id] = entry
        self._store.place([(entry, places)])

    def release(self, call_id: str) -> None:
        entry = self._entries.get(call_id)
        if entry is not None and entry.is_live:
            del self._entries[call_id]
            self._store.free(call_id, entry.incarnation)

    def set_rules(self, rules: Rules) -> None:
        """From now on these apply; calls that are not booked yet count in new budgets, too."""
        counted, self.rules = self.rules.counted, rules
        if rules.counted != counted:
            self.place_again()

    def resume(self, books: Books, entries: Iterable[Entry]) -> None:
        """Begin where the workers before ended, for a store that dies with its worker: until then hard budgets refuse.

        `entries`: what the journal holds beyond the positions in `books`: ends, and calls that were left open.
        """
        self.take_books(books)
        self.restore(entries)
        self._store.recovered()

    def restore(self, entries: Iterable[Entry]) -> None:
        """Count these, too: of other incarnations, or of this one."""
        for entry in entries:
            if entry.id not in self._entries:
                self._entries[entry.id] = entry
                self._of_others.setdefault(entry.incarnation, []).append(entry.id)
                if not entry.is_live:
                    self._ended.append(entry.id)
        self.place_again()

    def place_again(self) -> None:
        self._store.place([(entry, self._places(entry)) for entry in self._entries.values()])

    def take_books(self, books: Books) -> None:
        """What the ledger holds now; for a store that is not told by the recorder itself."""
        self._store.take_books(books)
        self._forget_booked()

    def heartbeat(self, now_us: int) -> None:
        """Each 5 s: the leases of calls in flight live on."""
        self._store.renew([each.id for each in self._entries.values() if each.is_live], now_us)
        self._forget_booked()

    async def compare(self) -> None:
        """Each minute: what the store holds with the calls that this gateway knows. Raises StoreUnavailable."""
        before = self._store.figures.leaks
        await self._store.compare(self._entries)
        if found := self._store.figures.leaks - before:
            log.error("the gate held something for %d calls that nobody knows; it was given back", found)

    def _forget_booked(self) -> None:
        for incarnation in [each for each in self._of_others if self._store.booked(each) == END]:
            for call_id in self._of_others.pop(incarnation):
                self._entries.pop(call_id, None)
        while self._ended:
            entry = self._entries.get(self._ended[0])
            if entry is not None and not self._is_booked(entry):
                return
            self._entries.pop(self._ended.popleft(), None)

    def _is_booked(self, entry: Entry) -> bool:
        return entry.position is not None and entry.position <= self._store.booked(entry.incarnation)

    def _places(self, entry: Entry) -> Places:
        return self.rules.demands(entry.facts).places(entry.admitted_us)
