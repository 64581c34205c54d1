"""The counters in memory behind the rules that count a call, found once and used by all calls like it."""

from __future__ import annotations

from token_tracker.domain.limits import SlidingWindow
from token_tracker.domain.rules import BudgetRule, RateRule
from token_tracker.proxy.gate.cells import Amounts, Cell, Cells
from token_tracker.proxy.gate.memory_rates import Leases, Rates
from token_tracker.proxy.gate.places import BudgetPlace, Placed


class Resolved:
    """The counters behind a `Placed`, ready for the hot path."""

    __slots__ = (
        "adding",
        "budgets",
        "cells",
        "downgrades",
        "epoch",
        "full",
        "hard",
        "is_open",
        "leases",
        "rates",
        "soft",
    )

    def __init__(self) -> None:
        self.epoch = 0  # of the store when it was found
        self.is_open = True  # no rule refuses whatever the numbers are
        self.budgets: list[tuple[BudgetPlace, Amounts | None]] = []  # None: no room for one more member
        self.hard: tuple[list[tuple[Amounts, int]], list[tuple[Amounts, int]]] = ([], [])  # by measure: with its limit
        self.soft: list[tuple[Amounts, int]] = []
        self.downgrades: list[tuple[Amounts, int, BudgetRule]] = []
        self.cells: tuple[list[Cell], list[Cell]] = ([], [])
        self.adding: tuple[list[Amounts], list[Amounts]] = ([], [])  # cells and the sums over them
        self.rates: list[tuple[SlidingWindow, RateRule, bool]] = []  # and whether tokens count
        self.leases: list[tuple[Leases, int]] = []

    def add_budget(self, budget: BudgetPlace, total: Amounts, cell: Cell) -> None:
        """`total`: what is compared with the limit: the cell of the bucket, or the sum over a rolling window."""
        measure, rule = budget.place.measure, budget.rule
        self.cells[measure].append(cell)
        self.adding[measure].append(cell)
        if total is not cell:
            self.adding[measure].append(total)
        if rule.enforcement == "hard":
            self.hard[measure].append((total, budget.limit))
        else:
            self.soft.append((total, budget.limit))
        if rule.action == "downgrade":
            self.downgrades.append((total, budget.limit, rule))


def resolve(placed: Placed, cells: Cells, rates: Rates, now_us: int) -> Resolved:
    resolved = Resolved()
    for budget in (*placed.hard, *placed.soft):
        total, place = cells.window(budget), budget.place
        resolved.budgets.append((budget, total))
        if total is None:
            resolved.is_open = False
        else:
            resolved.add_budget(budget, total, cells.cell(place.counter, place.bucket, place.leaves_at_s))
    for rate in placed.rates:
        found = rates.find(rate, now_us)
        if found is None:
            resolved.is_open = False
        elif isinstance(found, Leases):
            resolved.leases.append((found, rate.rule.limit))
        else:
            resolved.rates.append((found, rate.rule, rate.rule.unit == "tokens"))
    return resolved
