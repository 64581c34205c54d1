"""The store of one gateway worker: counters in its own memory, built again from books and journal after a restart."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from heapq import heappop, heappush

from token_tracker.domain.holds import Ask, fits, grant, is_past_downgrade
from token_tracker.domain.limits import LEASE_RETRY_S, SlidingWindow
from token_tracker.proxy.gate.cells import Cell, Cells
from token_tracker.proxy.gate.memory_rates import Leases, Rates
from token_tracker.proxy.gate.memory_resolved import Resolved, resolve
from token_tracker.proxy.gate.places import Placed, Places
from token_tracker.proxy.gate.refusals import judged, no_room, rate_states, refused_by_rate, waiting
from token_tracker.proxy.gate.store import (
    END,
    MEMBERS_MOST,
    NOT_BOOKED,
    Books,
    CounterState,
    Entry,
    Position,
    Refused,
    StoreFigures,
    StoreState,
    Verdict,
    admission_waits,
)

_Counted = tuple[int, int, int]  # spent, held, unproven
_Cells = tuple[Sequence[Cell], Sequence[Cell]]  # by measure
NOTHING: _Counted = (0, 0, 0)


class Held:
    """What the store knows of a call that the ledger does not hold yet. `cells` were found for `places` in `epoch`."""

    __slots__ = ("cells", "counted", "epoch", "incarnation", "is_live", "leases", "places", "position", "slices")

    def __init__(
        self, incarnation: str, places: Places, cells: _Cells, epoch: int, usd: _Counted, tokens: _Counted
    ) -> None:
        self.incarnation = incarnation
        self.places, self.cells, self.epoch = places, cells, epoch
        self.counted = (usd, tokens)
        self.is_live = True
        self.position = NOT_BOOKED
        self.slices: Sequence[tuple[SlidingWindow, int, int]] = ()  # of token rates: number and amount
        self.leases: Sequence[Leases] = ()

    def count(self, usd: _Counted, tokens: _Counted) -> None:
        """From now on it counts so much, instead of what it did."""
        for cells, before, now in zip(self.cells, self.counted, (usd, tokens), strict=True):
            if now != before:
                spent, held, unproven = now[0] - before[0], now[1] - before[1], now[2] - before[2]
                for cell in cells:
                    cell.add(spent, held, unproven)
        self.counted = (usd, tokens)


class MemoryStore:
    """A `Store`. `incarnation`: of the worker that asks it."""

    def __init__(self, incarnation: str, members_most: int = MEMBERS_MOST) -> None:
        self.on_lost: Callable[[], None] = lambda: None  # memory loses nothing while its worker lives
        self._incarnation = incarnation
        self._cells = Cells(members_most)
        self._rates = Rates(members_most)
        self._calls: dict[str, Held] = {}
        self._positions: dict[str, Position] = {}
        self._ended: dict[str, list[tuple[Position, str]]] = {}  # by incarnation: a heap of what is not booked yet
        self._ready: frozenset[str] = frozenset()
        self._is_recovering = True
        self._waits = admission_waits()  # nobody waits for memory
        self._leaks = 0
        self._version = 0  # of `_ready` and `_is_recovering`

    @property
    def figures(self) -> StoreFigures:
        state = StoreState.RECOVERING if self._is_recovering else StoreState.READY
        return StoreFigures("memory", state, 0, self._waits, self._leaks)

    @property
    def _epoch(self) -> int:
        return self._cells.epoch + self._rates.epoch + self._version

    async def admit(self, ask: Ask, placed: Placed) -> Verdict:
        resolved = placed.resolved
        if (
            not isinstance(resolved, Resolved)
            or resolved.epoch != self._cells.epoch + self._rates.epoch + self._version
        ):
            resolved = self._resolve(placed, ask.now_us)
        hard_usd, hard_tokens = resolved.hard
        usd_left = tokens_left = None
        is_open = resolved.is_open
        if hard_usd:
            if ask.usd_fixed_nano is None:
                is_open = False
            else:
                usd_left = min([limit - each.spent - each.held - each.unproven for each, limit in hard_usd])
        if hard_tokens:
            if ask.tokens_fixed is None:
                is_open = False
            else:
                tokens_left = min([limit - each.spent - each.held - each.unproven for each, limit in hard_tokens])
        output = grant(ask, usd_left, tokens_left)
        if not (is_open and fits(ask, output, usd_left, tokens_left) and self._is_free(ask, resolved)):
            verdict = self._judge(ask, placed, resolved)
            if verdict is not None:
                return verdict
        usd, tokens = ask.usd(output), ask.tokens(output)
        for each in resolved.adding[0]:
            each.held += usd
        for each in resolved.adding[1]:
            each.held += tokens
        verdict = Verdict((), None, output, usd, tokens)
        if not (hard_usd or hard_tokens):
            verdict.held_nano_usd = verdict.held_tokens = 0
        held = Held(self._incarnation, placed.places, resolved.cells, self._cells.epoch, (0, usd, 0), (0, tokens, 0))
        if resolved.rates:
            self._count(ask, resolved, held, verdict)
        if resolved.leases:
            held.leases = [leases for leases, _ in resolved.leases]
            for leases in held.leases:
                leases.take(ask.id, ask.now_us)
        if resolved.budgets or held.leases or held.slices:
            self._calls[ask.id] = held
        return verdict

    def _is_free(self, ask: Ask, resolved: Resolved) -> bool:
        """Whether nothing but the hard budgets' amounts stands in the way."""
        for total, limit in resolved.soft:
            if total.spent >= limit:
                return False
        for total, limit, budget in resolved.downgrades:
            if ask.may_downgrade and is_past_downgrade(budget, limit, total.spent + total.held + total.unproven):
                return False
        for window, rule, counts_tokens in resolved.rates:
            window.advance(ask.now_us)
            if window.total + (min(ask.rate_tokens, rule.limit) if counts_tokens else 1) > rule.limit:
                return False
        return all(leases.count(ask.now_us) < limit for leases, limit in resolved.leases)

    def _count(self, ask: Ask, resolved: Resolved, held: Held, verdict: Verdict) -> None:
        """In the slices that were looked at just now."""
        counted, slices = [], []
        for window, rule, counts_tokens in resolved.rates:
            amount = min(ask.rate_tokens, rule.limit) if counts_tokens else 1
            number = window.count(amount)
            if counts_tokens:
                slices.append((window, number, amount))
            counted.append((rule, window.total, window.slice_us, number))
        held.slices = slices
        rate_states(verdict, counted, ask.now_us)

    def _resolve(self, placed: Placed, now_us: int) -> Resolved:
        """Find the counters; done again only when the window, the rules or what is ready have changed."""
        resolved = resolve(placed, self._cells, self._rates, now_us)
        if self._waiting(placed):
            resolved.is_open = False
        resolved.epoch = self._epoch
        placed.resolved = resolved
        return resolved

    def _judge(self, ask: Ask, placed: Placed, resolved: Resolved) -> Verdict | None:
        """What the rules say; None if, looked at closely, none refuses."""
        budgets = [
            (budget, None if total is None else total.state, self._cells.resets_at_s(budget))
            for budget, total in resolved.budgets
        ]
        return judged(ask, budgets, self._refused_by_rates(ask, placed), self._waiting(placed))

    def _waiting(self, placed: Placed) -> Sequence[Refused]:
        return waiting(placed, None if self._is_recovering else self._ready)

    def _refused_by_rates(self, ask: Ask, placed: Placed) -> Iterable[Refused]:
        for rate in placed.rates:
            found, limit = self._rates.find(rate, ask.now_us), rate.rule.limit
            if found is None:
                yield no_room(rate)
            elif isinstance(found, Leases):
                if (count := found.count(ask.now_us)) >= limit:
                    yield refused_by_rate(rate, count, LEASE_RETRY_S)
            else:
                amount = min(ask.rate_tokens, limit) if rate.rule.unit == "tokens" else 1
                found.advance(ask.now_us)
                if found.total + amount > limit:
                    yield refused_by_rate(rate, found.total, found.retry_after_s(ask.now_us, amount, limit))

    def place(self, entries: Sequence[tuple[Entry, Places]]) -> None:
        for entry, places in entries:
            self._place(entry, places)

    def _place(self, entry: Entry, places: Places) -> None:
        held = self._calls.get(entry.id)
        booked = self._positions.get(entry.incarnation, NOT_BOOKED)
        if entry.position is None:
            if booked == END or (held is not None and not held.is_live):
                return
        elif entry.position <= booked:
            self._drop(entry.id, entry)
            return
        if held is None:
            held = self._calls[entry.id] = Held(entry.incarnation, (), ((), ()), 0, NOTHING, NOTHING)
        # Nearly always they are those of the admission: the rules, the window and what was reached are the same.
        if held.places is not places or held.epoch != self._cells.epoch:
            held.count(NOTHING, NOTHING)
            held.places, held.cells, held.epoch = places, self._found(places), self._cells.epoch
        if entry.position is None:
            held.count((0, entry.nano_usd, 0), (0, entry.tokens, 0))
        else:
            usd, tokens = entry.nano_usd, entry.tokens
            held.count((usd, 0, entry.unproven_nano_usd), (tokens, 0, entry.unproven_tokens))
            self._end(entry, held)

    def _found(self, places: Places) -> _Cells:
        cells: tuple[list[Cell], list[Cell]] = ([], [])
        for place in places:
            cells[place.measure].append(self._cells.cell(place.counter, place.bucket, place.leaves_at_s))
        return cells

    def _end(self, entry: Entry, held: Held) -> None:
        assert entry.position is not None
        held.incarnation, held.position = entry.incarnation, entry.position
        heappush(self._ended.setdefault(entry.incarnation, []), (entry.position, entry.id))
        if held.is_live:
            held.is_live = False
            self._free_rates(entry.id, held, entry.tokens)

    def _free_rates(self, call_id: str, held: Held, tokens: int) -> None:
        """Leases end with the call, and rates of tokens learn what it really took, in the slice of its admission."""
        for leases in held.leases:
            leases.free(call_id)
        for window, number, amount in held.slices:
            window.add(number, tokens - amount)
        held.leases = held.slices = ()

    def _drop(self, call_id: str, entry: Entry | None = None) -> None:
        held = self._calls.pop(call_id, None)
        if held is not None:
            held.count(NOTHING, NOTHING)
            self._free_rates(call_id, held, entry.tokens if entry else 0)

    def free(self, call_id: str, incarnation: str) -> None:
        held = self._calls.get(call_id)
        if held is not None and held.is_live:
            self._drop(call_id)

    def take_books(self, books: Books) -> None:
        self._cells.rebase(books.bases)
        for incarnation, position in books.positions.items():
            if position > self._positions.get(incarnation, NOT_BOOKED):
                self._positions[incarnation] = position
                self._drop_booked(incarnation, position)
        if not books.ready <= self._ready:
            self._ready |= books.ready
            self._version += 1

    def _drop_booked(self, incarnation: str, booked: Position) -> None:
        ended = self._ended.get(incarnation, [])
        while ended and ended[0][0] <= booked:
            _, call_id = heappop(ended)
            held = self._calls.get(call_id)
            if held is not None and not held.is_live and held.incarnation == incarnation and held.position <= booked:
                self._drop(call_id)
        if booked == END:
            for call_id in [each for each, held in self._calls.items() if held.incarnation == incarnation]:
                self._drop(call_id)
            self._ended.pop(incarnation, None)

    def recovered(self) -> None:
        """Books and journal have been taken: hard budgets may admit."""
        self._is_recovering = False
        self._version += 1

    def renew(self, call_ids: Iterable[str], now_us: int) -> None:
        for call_id in call_ids:
            held = self._calls.get(call_id)
            for leases in held.leases if held is not None else ():
                leases.take(call_id, now_us)
        self._cells.sweep(now_us // 1_000_000)

    async def compare(self, known: Container[str]) -> None:
        for call_id in [each for each, held in self._calls.items() if held.is_live and each not in known]:
            self._leaks += 1
            self._drop(call_id)

    def booked(self, incarnation: str) -> Position:
        return self._positions.get(incarnation, NOT_BOOKED)

    async def settled(self) -> None:
        """Nothing waits here."""

    async def counter(self, counter: str, first_bucket: int, last_bucket: int) -> CounterState:
        return self._cells.state(counter, first_bucket, last_bucket)

    async def close(self) -> None:
        """Nothing is open."""
