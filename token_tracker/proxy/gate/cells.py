"""The memory store's counters of money: a cell for each bucket, a running sum for each rolling window."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from heapq import heappop, heappush

from token_tracker.domain.windows import NEVER_S
from token_tracker.proxy.gate.places import BudgetPlace
from token_tracker.proxy.gate.store import Base, CounterBucket, CounterState

KEPT_S = 2 * 3600  # a window that is over, for late settlements and clocks that are set back
BEATS = 120  # ten minutes of heartbeats
SWEPT_AT_ONCE = 500
_LOOKED_AT = 16
NO_BASE = Base(0, 0, 0, 0)


class Amounts:
    """What is counted; `spent` and `unproven` with the base in them."""

    __slots__ = ("held", "spent", "unproven")

    def __init__(self) -> None:
        self.spent = self.held = self.unproven = 0

    @property
    def state(self) -> CounterState:
        return CounterState(self.spent, self.held, self.unproven)


class Cell(Amounts):
    """One bucket of a counter."""

    __slots__ = ("base", "bucket", "counter")

    def __init__(self, counter: Counter, bucket: int) -> None:
        super().__init__()
        self.counter, self.bucket = counter, bucket
        self.base = NO_BASE

    def add(self, spent: int, held: int, unproven: int) -> None:
        self.spent += spent
        self.held += held
        self.unproven += unproven
        total = self.counter.sum
        if total is not None and self.bucket >= self.counter.first_bucket:
            total.spent += spent
            total.held += held
            total.unproven += unproven

    def rebase(self, base: Base) -> None:
        if base.version > self.base.version:
            self.add(base.spent - self.base.spent, 0, base.unproven - self.base.unproven)
            self.base = base


class Counter:
    """`sum`: of all cells from `first_bucket` on; None where a window is one cell."""

    __slots__ = ("cells", "first_bucket", "name", "sum")

    def __init__(self, name: str) -> None:
        self.name = name
        self.cells: dict[int, Cell] = {}
        self.sum: Amounts | None = None
        self.first_bucket = 0

    def sum_from(self, first_bucket: int) -> Amounts:
        """The one sum of this counter, moved to begin there."""
        total = self.sum
        if total is None or first_bucket != self.first_bucket:
            total = self.sum = Amounts()
            self.first_bucket = first_bucket
            for bucket, cell in self.cells.items():
                if bucket >= first_bucket:
                    total.spent += cell.spent
                    total.held += cell.held
                    total.unproven += cell.unproven
        return total

    @property
    def is_empty(self) -> bool:
        """Nothing is lost by forgetting it."""
        return not any(c.spent or c.held or c.unproven or c.base.version for c in self.cells.values())


class Members:
    """The live members of rules with `id: "*"`, the stalest first; makes room only where nothing is lost."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._of_rule: dict[str, OrderedDict[str, None]] = {}

    def claim(self, rule_id: str, counter: str, forget: Callable[[str], bool]) -> bool:
        """Whether the counter may live. `forget`: drop an idle one; False if it is not idle."""
        live = self._of_rule.setdefault(rule_id, OrderedDict())
        if counter in live:
            live.move_to_end(counter)
            return True
        for _ in range(_LOOKED_AT if len(live) >= self._most else 0):
            stalest = next(iter(live))
            if forget(stalest):
                live.pop(stalest, None)
                break
            live.move_to_end(stalest)
        if len(live) >= self._most:
            return False
        live[counter] = None
        return True

    def drop(self, rule_id: str, counter: str) -> None:
        self._of_rule.get(rule_id, OrderedDict()).pop(counter, None)


class Cells:
    """All counters of money. `epoch` changes whenever cells or sums found before may no longer be the right ones."""

    def __init__(self, members_most: int) -> None:
        self.epoch = 0
        self._counters: dict[str, Counter] = {}
        self._ends: list[tuple[int, str, int]] = []  # (when it may be forgotten, counter, bucket)
        self._members = Members(members_most)
        self._beats: deque[int] = deque(maxlen=BEATS)

    def cell(self, counter_name: str, bucket: int, leaves_at_s: int) -> Cell:
        counter = self._counters.get(counter_name)
        if counter is None:
            counter = self._counters[counter_name] = Counter(counter_name)
        cell = counter.cells.get(bucket)
        if cell is None:
            cell = counter.cells[bucket] = Cell(counter, bucket)
            heappush(self._ends, (leaves_at_s + KEPT_S, counter_name, bucket))
        return cell

    def window(self, budget: BudgetPlace) -> Amounts | None:
        """What is compared with the limit; None where the rule has no room for one more member."""
        place = budget.place
        if budget.member and not self._members.claim(place.rule_id, place.counter, self._forget_idle):
            return None
        cell = self.cell(place.counter, place.bucket, place.leaves_at_s)
        if not place.hours:
            return cell
        counter = cell.counter
        if counter.sum is not None and counter.first_bucket != budget.first_bucket:
            self.epoch += 1
        return counter.sum_from(budget.first_bucket)

    def rebase(self, bases: Mapping[CounterBucket, Base]) -> None:
        for (counter, bucket), base in bases.items():
            self.cell(counter, bucket, base.leaves_at_s).rebase(base)

    def resets_at_s(self, budget: BudgetPlace) -> int:
        """When the window ends; of a rolling one, when its oldest amount leaves. 0 for never."""
        place = budget.place
        if place.leaves_at_s >= NEVER_S:
            return 0
        if not place.hours:
            return place.leaves_at_s
        counter = self._counters.get(place.counter)
        counted = [
            bucket
            for bucket, cell in (counter.cells.items() if counter else ())
            if bucket >= budget.first_bucket and (cell.spent or cell.held or cell.unproven)
        ]
        return min(counted, default=place.bucket) + place.leaves_at_s - place.bucket

    def state(self, counter_name: str, first_bucket: int, last_bucket: int) -> CounterState:
        spent = held = unproven = 0
        counter = self._counters.get(counter_name)
        for bucket, cell in counter.cells.items() if counter else ():
            if first_bucket <= bucket <= last_bucket:
                spent, held, unproven = spent + cell.spent, held + cell.held, unproven + cell.unproven
        return CounterState(spent, held, unproven)

    def sweep(self, now_s: int) -> None:
        """At each heartbeat: forget some buckets of windows that are long over, by every clock of the last minutes (one
        that jumps ahead and back must not end a window)."""
        self._beats.append(now_s)
        now_s = min(self._beats) if len(self._beats) == BEATS else 0
        for _ in range(SWEPT_AT_ONCE):
            if not self._ends or self._ends[0][0] > now_s:
                return
            _, name, bucket = heappop(self._ends)
            if (counter := self._counters.get(name)) is not None:
                counter.cells.pop(bucket, None)
                if not counter.cells:
                    self._forget(name)
                self.epoch += 1

    def _forget_idle(self, name: str) -> bool:
        counter = self._counters.get(name)
        if counter is not None and not counter.is_empty:
            return False
        self._forget(name)
        return True

    def _forget(self, name: str) -> None:
        self._counters.pop(name, None)
        self._members.drop(name.partition("|")[0], name)
        self.epoch += 1
