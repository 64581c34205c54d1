"""A budget's counters in one window: who has any, and what they come to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from sqlalchemy import ColumnElement, ScalarSelect, Select, Table, func, select
from sqlalchemy.orm import Session

from token_tracker.database.models import CounterState
from token_tracker.domain.windows import Window

_STATES = cast(Table, CounterState.__table__).c
_ASKED_AT_ONCE = 1000


class WindowCounters:
    """Of the budget `budget_id`."""

    def __init__(self, session: Session, budget_id: str, window: Window) -> None:
        self._session, self._budget_id, self._window = session, budget_id, window

    def names(self, measure: str, after: str, limit: int, seen: Sequence[str] | None) -> list[str]:
        """The first `limit` members behind `after` that have counters, as the database orders them. `seen`: among
        these, in order; None: among all."""
        if seen is None:
            return list(self._session.scalars(self._leaps(measure, after).limit(limit)))
        found: list[str] = []
        asked = [name for name in seen if name > after]
        for start in range(0, len(asked), _ASKED_AT_ONCE):
            among = _STATES.member.in_(asked[start : start + _ASKED_AT_ONCE])
            found += sorted(
                self._session.scalars(select(_STATES.member).where(*self._within(measure), among).distinct())
            )
            if len(found) >= limit:
                break
        return found[:limit]

    def sums(self, measure: str, names: Sequence[str], recent_s: int) -> Iterator[tuple[str, int, int, int]]:
        """(member, spent, unproven, spent since `recent_s`) of `names`, which are in the database's order."""
        # A range of the index: for a list of names alone PostgreSQL may read all members' counters.
        in_range = _STATES.member.between(names[0], names[-1])
        lately = func.coalesce(func.sum(_STATES.spent).filter(_STATES.bucket > recent_s), 0)
        statement = (
            select(_STATES.member, func.sum(_STATES.spent), func.sum(_STATES.unproven), lately)
            .where(*self._within(measure), in_range, _STATES.member.in_(names))
            .group_by(_STATES.member)
        )
        for member, *amounts in self._session.execute(statement):
            spent, unproven, recent = map(int, amounts)
            yield member, spent, unproven, recent

    def _leaps(self, measure: str, after: str) -> Select[str]:
        """From each member to the next: a rolling window has up to 720 counters of each."""
        counters = select(_STATES.member).where(_STATES.budget_id == self._budget_id, _STATES.measure == measure)

        def following(name: Any) -> ScalarSelect[str]:
            return counters.where(_STATES.member > name).order_by(_STATES.member).limit(1).scalar_subquery()

        known = select(following(after).label("name")).cte("known", recursive=True)
        known = known.union_all(select(following(known.c.name)).where(known.c.name.is_not(None)))
        # In order by its nature, so that LIMIT ends it. A value of each, as an EXISTS would be a join to PostgreSQL.
        in_window = select(_STATES.bucket).where(*self._within(measure), _STATES.member == known.c.name).limit(1)
        return select(known.c.name).where(in_window.scalar_subquery().is_not(None))

    def _within(self, measure: str) -> list[ColumnElement[bool]]:
        return [
            _STATES.budget_id == self._budget_id,
            _STATES.measure == measure,
            _STATES.bucket >= self._window.start_s,
            _STATES.bucket < self._window.end_s,
        ]
