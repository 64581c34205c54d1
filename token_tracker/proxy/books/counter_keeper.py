"""Builds new budgets' counters and compares all of them with the ledger, at start and each minute."""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime, timedelta

from msgspec import structs
from sqlalchemy import Engine, select
from sqlalchemy.exc import DBAPIError

from token_tracker.database.models import Budget
from token_tracker.database.session import reading, transaction
from token_tracker.proxy.books.status import CounterFigures
from token_tracker.services import counter_checks, leases
from token_tracker.services.outage import Attempts, Outage
from token_tracker.services.rollups import is_conflict
from token_tracker.services.rule_rows import load_budgets

log = logging.getLogger("token_tracker.recorder")

LOOK_S = 0.25
CHECK_S = 60.0
BUSY_SHARE = 20  # comparing one budget takes at most a twentieth of the time: with large ledgers it is done less often
FORGET_S = 600.0
TRIES = 3
LEASE = "counters"
LEASE_LASTS = timedelta(seconds=20)


class CounterKeeper:
    """For one thread. One recorder of the installation compares; every one builds."""

    def __init__(self, engine: Engine, outage: Outage, holder: str) -> None:
        self._engine, self._holder = engine, holder
        self._attempts = Attempts(outage, "counting")
        self._figures = CounterFigures()
        self._due_s: dict[str, float] = {}
        self._list_due_s = self._forget_due_s = 0.0

    @property
    def figures(self) -> CounterFigures:
        return self._figures

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            with self._attempts:
                self.step(stop)
            stop.wait(self._attempts.wait_s or LOOK_S)

    def step(self, stop: threading.Event) -> None:
        """Build what is new, and compare what is due. Raises SQLAlchemyError."""
        self._build(stop)
        if self._is_anything_due() and self._has_turn():
            self._compare(stop)

    def _build(self, stop: threading.Event) -> None:
        with reading(self._engine) as session:
            waiting = session.scalars(select(Budget.id).where(Budget.counter_built_at.is_(None)).order_by(Budget.id))
            new = list(waiting)
        self._note(building=len(new))
        if not new:
            return
        counter_checks.wait_for_bookings(self._engine)
        for budget_id in new:
            if stop.is_set():
                return
            started_s = time.monotonic()
            for _ in range(TRIES):
                drift = counter_checks.drift_of(self._engine, budget_id, datetime.now(UTC))
                if drift is None or self._correct(drift) is not None:
                    break
            self._next_check(budget_id, started_s)
            self._note(building=self._figures.building - 1)

    def _compare(self, stop: threading.Event) -> None:
        with reading(self._engine) as session:
            rules = load_budgets(session)
        self._list_due_s = time.monotonic() + CHECK_S
        self._due_s = {rule.id: self._due_s.get(rule.id, 0.0) for rule in rules}
        for rule in rules:
            if stop.is_set():
                return
            started_s = time.monotonic()
            if rule.is_built and started_s >= self._due_s[rule.id]:
                self._compare_one(rule.id)
                self._next_check(rule.id, started_s)
        if time.monotonic() >= self._forget_due_s:
            more = counter_checks.forget_old(self._engine, rules, datetime.now(UTC))
            self._forget_due_s = time.monotonic() + (LOOK_S if more else FORGET_S)

    def _compare_one(self, budget_id: str) -> None:
        now = datetime.now(UTC)
        drift = counter_checks.drift_of(self._engine, budget_id, now)
        self._note(checked_at_us=int(now.timestamp() * 1_000_000))
        if drift is None or not drift.rule.is_built or not drift.amounts or self._correct(drift) is None:
            return
        usd, tokens = drift.total("usd"), drift.total("tokens")
        log.warning(
            "the counters of budget %s were off by %d nano-dollars and %d tokens in all; they were made right again "
            "from the ledger",
            budget_id,
            usd,
            tokens,
        )
        before = self._figures
        self._note(
            drifts=before.drifts + 1,
            drift_nano_usd=before.drift_nano_usd + usd,
            drift_tokens=before.drift_tokens + tokens,
        )

    def _correct(self, drift: counter_checks.Drift) -> object | None:
        try:
            return counter_checks.correct(self._engine, drift, datetime.now(UTC))
        except DBAPIError as error:
            if is_conflict(error):  # another one changed the same meanwhile: look again
                return None
            raise

    def _is_anything_due(self) -> bool:
        now_s = time.monotonic()
        return now_s >= min(self._list_due_s, self._forget_due_s, *self._due_s.values())

    def _has_turn(self) -> bool:
        with transaction(self._engine) as session:
            return leases.acquire(session, name=LEASE, holder=self._holder, at=datetime.now(UTC), lasts=LEASE_LASTS)

    def _next_check(self, budget_id: str, started_s: float) -> None:
        now_s = time.monotonic()
        self._due_s[budget_id] = now_s + max(CHECK_S, (now_s - started_s) * BUSY_SHARE)

    def _note(self, **changed: int) -> None:
        self._figures = structs.replace(self._figures, **changed)
