"""What LiteLLM's callback says of a translated call, beside what the gateway booked: counted, never booked twice."""

from __future__ import annotations

from collections import Counter, OrderedDict
from decimal import Decimal
from typing import Protocol, TypeVar

from token_tracker.domain.money import to_nano_usd
from token_tracker.domain.usage import Usage, UsageSource
from token_tracker.proxy.books.records import End
from token_tracker.proxy.call import sent_id

REMEMBERED = 4096  # ends and reports whose counterpart has not come yet, the oldest go first
TOLERANCE_NANO_USD = 1  # LiteLLM's amounts are floats
Value = TypeVar("Value")


class Reported(Protocol):
    """What the callback tells of one call."""

    @property
    def call_id(self) -> str: ...

    @property
    def usage(self) -> Usage | None: ...

    @property
    def cost_usd(self) -> Decimal | None: ...


class Comparison:
    """Pairs rows and reports by the id that LiteLLM knew. `usage` and `cost` count 'equal', 'differs' and 'unknown'
    (one of both does not tell it); `cost_difference_nano_usd` is LiteLLM's amount minus ours, by its sign."""

    def __init__(self) -> None:
        self.usage: Counter[str] = Counter()
        self.cost: Counter[str] = Counter()
        self.more_nano_usd = self.less_nano_usd = 0
        self._ends: OrderedDict[str, End] = OrderedDict()
        self._reports: OrderedDict[str, Reported] = OrderedDict()

    def booked(self, end: End) -> None:
        """A row was written; only translated ones have a report."""
        if end.opened.lane != "litellm":
            return
        name = sent_id(end.opened.call_id, end.opened.attempt)
        report = self._reports.pop(name, None)
        if report is not None:
            self._compare(end, report)
        else:
            _remember(self._ends, name, end)

    def reported(self, report: Reported) -> None:
        end = self._ends.pop(report.call_id, None)
        if end is not None:
            self._compare(end, report)
        else:
            _remember(self._reports, report.call_id, report)

    def _compare(self, end: End, report: Reported) -> None:
        if report.usage is None or end.usage_source != UsageSource.PROVIDER:
            self.usage["unknown"] += 1
        else:
            self.usage["equal" if report.usage == end.tokens else "differs"] += 1
        if report.cost_usd is None or end.cost_nano_usd is None:
            self.cost["unknown"] += 1
            return
        try:
            more = to_nano_usd(report.cost_usd) - end.cost_nano_usd
        except (ArithmeticError, ValueError):  # an amount that no ledger could hold
            self.cost["unknown"] += 1
            return
        self.cost["equal" if abs(more) <= TOLERANCE_NANO_USD else "differs"] += 1
        self.more_nano_usd += max(0, more)
        self.less_nano_usd += max(0, -more)


def _remember(place: OrderedDict[str, Value], name: str, value: Value) -> None:
    place[name] = value
    if len(place) > REMEMBERED:
        place.popitem(last=False)
