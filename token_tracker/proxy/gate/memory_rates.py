"""The memory store's counters of rates and of calls in flight."""

from __future__ import annotations

from collections import OrderedDict

from token_tracker.domain.limits import LEASE_US, SlidingWindow
from token_tracker.proxy.gate.cells import Members
from token_tracker.proxy.gate.places import RatePlace


class Leases:
    """Calls in flight of one concurrency limit, the next to run out first."""

    __slots__ = ("_until_us",)

    def __init__(self) -> None:
        self._until_us: OrderedDict[str, int] = OrderedDict()

    def count(self, now_us: int) -> int:
        until_us = self._until_us
        while until_us and (first := next(iter(until_us.items())))[1] <= now_us:
            del until_us[first[0]]
        return len(until_us)

    def take(self, call_id: str, now_us: int) -> None:
        self._until_us[call_id] = now_us + LEASE_US
        self._until_us.move_to_end(call_id)

    def free(self, call_id: str) -> None:
        self._until_us.pop(call_id, None)


class Rates:
    """All of them by name. `epoch` changes when one was forgotten."""

    def __init__(self, members_most: int) -> None:
        self.epoch = 0
        self._windows: dict[str, SlidingWindow] = {}
        self._leases: dict[str, Leases] = {}
        self._members = Members(members_most)

    def find(self, rate: RatePlace, now_us: int) -> SlidingWindow | Leases | None:
        """The rule's counter of the member; None where the rule has no room for one more member."""
        name, rule = rate.counter, rate.rule
        if rate.member and not self._members.claim(rule.id, name, lambda stalest: self._forget_idle(stalest, now_us)):
            return None
        if rule.unit == "concurrent":
            return self._leases.setdefault(name, Leases())
        window = self._windows.get(name)
        if window is None:
            window = self._windows[name] = SlidingWindow(rule.period)
        return window

    def _forget_idle(self, name: str, now_us: int) -> bool:
        window, leases = self._windows.get(name), self._leases.get(name)
        if window is not None:
            window.advance(now_us)
        if (window is not None and window.total) or (leases is not None and leases.count(now_us)):
            return False
        self._windows.pop(name, None)
        self._leases.pop(name, None)
        self.epoch += 1
        return True
