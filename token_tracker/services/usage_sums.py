"""What a summary adds up, and the two queries that add it: over roll-ups and over the ledger's rows."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Dialect, Label, Select, case, func, literal, select

from token_tracker.database.models import LATENCY_COLUMNS, TokenUsage, TokenUsageTag
from token_tracker.domain.latency import BUCKETS, UPPER_BOUNDS_MS, quantile_ms
from token_tracker.domain.usage import ERROR_REASONS, TOKEN_CLASSES, Usage
from token_tracker.services.usage_filters import LEDGER_COLUMNS, Filters, conditions_on, ledger_conditions
from token_tracker.services.usage_levels import Level
from token_tracker.services.usage_times import TIME_GROUPS, Span, time_label

_COUNTS = ("attempts", "calls", "errors", "unpriced_calls")
SUMMED = (*_COUNTS, *TOKEN_CLASSES, "cost_nano_usd")
_CALLS = SUMMED.index("calls")


@dataclass(slots=True)
class Sums:
    """`calls`, `errors`, `unpriced_calls` and latencies count last attempts; tokens and cost every attempt.

    The cost leaves unpriced attempts out. `values` are in the order of `SUMMED`.
    """

    values: list[int] = field(default_factory=lambda: [0] * len(SUMMED))
    latency_counts: list[int] = field(default_factory=lambda: [0] * BUCKETS)

    @property
    def attempts(self) -> int:
        return self.values[0]

    @property
    def calls(self) -> int:
        return self.values[1]

    @property
    def errors(self) -> int:
        return self.values[2]

    @property
    def unpriced_calls(self) -> int:
        return self.values[3]

    @property
    def usage(self) -> Usage:
        return Usage(*self.values[len(_COUNTS) : -1])

    @property
    def cost_nano_usd(self) -> int:
        return self.values[-1]

    def latency_ms(self, q: float) -> float:
        """The quantile `q` of the calls' latencies, at most a factor of 1.75 from the truth."""
        return quantile_ms(self.latency_counts, q)

    def add(self, other: Sums) -> None:
        self.values = list(map(operator.add, self.values, other.values))
        self.latency_counts = list(map(operator.add, self.latency_counts, other.latency_counts))

    @classmethod
    def of(cls, parts: Sequence[Sums]) -> Sums:
        """All added up."""
        if not parts:
            return cls()
        values = zip(*(part.values for part in parts), strict=True)
        counts = zip(*(part.latency_counts for part in parts), strict=True)
        return cls(list(map(sum, values)), list(map(sum, counts)))


def rollup_sums(
    dialect: Dialect, filters: Filters, groups: Sequence[str], spans: Sequence[Span], level: Level
) -> Select[Any]:
    """Rows of group labels, the sums, and the 24 latency counters."""
    labels = _labels(dialect, groups, spans, level.columns, level.time)
    sums = [func.sum(level.table.c[name]) for name in (*SUMMED, *LATENCY_COLUMNS)]
    conditions = conditions_on(filters, level.columns, level.time)
    return _grouped(select(*labels, *sums).where(*level.only, *conditions), labels)


def ledger_sums(dialect: Dialect, filters: Filters, groups: Sequence[str], spans: Sequence[Span]) -> Select[Any]:
    """Rows of group labels, the latency bucket, and the sums; a group comes once for each of its buckets.

    Grouped by tag, a row counts for each of its tags, or for the tag '' if it has none.
    """
    columns = {**LEDGER_COLUMNS, "tag": func.coalesce(TokenUsageTag.tag, "")}
    labels = _labels(dialect, groups, spans, columns, TokenUsage.timestamp)
    bucket = _bucket(0, BUCKETS - 1).label("bucket")
    statement = select(*labels, bucket, *_ledger_sums()).where(*ledger_conditions(filters))
    if "tag" in groups:
        statement = statement.outerjoin(TokenUsageTag, TokenUsageTag.usage_id == TokenUsage.id)
    return _grouped(statement, [*labels, bucket])


def read_rollup(row: Sequence[Any], group_count: int) -> tuple[tuple[str, ...], Sums]:
    """A row of `rollup_sums`."""
    if row[group_count] is None:  # the sums of no rows at all
        return tuple(row[:group_count]), Sums()
    latencies = group_count + len(SUMMED)
    sums = Sums(list(map(int, row[group_count:latencies])), list(map(int, row[latencies:])))
    return tuple(row[:group_count]), sums


def read_ledger(row: Sequence[Any], group_count: int) -> tuple[tuple[str, ...], Sums]:
    """A row of `ledger_sums`."""
    sums = Sums([int(value or 0) for value in row[group_count + 1 :]])
    if row[group_count] is not None:
        sums.latency_counts[row[group_count]] = sums.calls
    return tuple(row[:group_count]), sums


def _labels(
    dialect: Dialect, groups: Sequence[str], spans: Sequence[Span], columns: Mapping[str, Any], time: Any
) -> list[Label[Any]]:
    def label_of(group: str) -> Any:
        return time_label(dialect, time, group, spans) if group in TIME_GROUPS else columns[group]

    return [label_of(group).label(f"group_{number}") for number, group in enumerate(groups)]


def _grouped(statement: Select[Any], labels: Sequence[Label[Any]]) -> Select[Any]:
    # By name: PostgreSQL would not know an expression with bound values for the same when it is written twice.
    return statement.group_by(*(label.name for label in labels))


def _ledger_sums() -> Iterator[ColumnElement[int]]:
    is_last = TokenUsage.id == TokenUsage.call_id
    yield func.count()
    for condition in (
        is_last,
        is_last & TokenUsage.end_reason.in_(sorted(ERROR_REASONS)),
        is_last & (TokenUsage.cost_source == "unpriced"),
    ):
        yield func.sum(case((condition, 1), else_=0))
    for name in (*TOKEN_CLASSES, "cost_nano_usd"):
        yield func.sum(getattr(TokenUsage, name))


def _bucket(low: int, high: int) -> ColumnElement[int]:
    """`domain.latency.bucket_of` in SQL, by halves."""
    if low == high:
        return literal(low)
    middle = (low + high) // 2
    return case(
        (TokenUsage.latency_ms <= UPPER_BOUNDS_MS[middle], _bucket(low, middle)), else_=_bucket(middle + 1, high)
    )
