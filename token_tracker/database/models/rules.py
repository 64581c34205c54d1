"""Budgets, rate limits and freezes, and what the books know of budgets' counters."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import BigInteger, ForeignKey, Numeric, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from token_tracker.database.models.base import Base

ALERT_COLUMNS = ("threshold_percent", "threshold_nano_usd", "email", "slack_webhook", "webhook", "apprise")


class RateLimit(Base):
    """`source` 'config' rows are changed only by editing proxy.yaml. `scope_id`, `model`: '' for none."""

    __tablename__ = "rate_limits"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    scope_type: Mapped[str] = mapped_column(String(16))
    scope_id: Mapped[str] = mapped_column(String(255), default="")
    model: Mapped[str] = mapped_column(String(255), default="")
    unit: Mapped[str] = mapped_column(String(16))
    limit: Mapped[int] = mapped_column(BigInteger)
    period: Mapped[str] = mapped_column(String(16))
    on_store_error: Mapped[str] = mapped_column(String(8))
    source: Mapped[str] = mapped_column(String(8))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime | None]
    __table_args__ = (UniqueConstraint("scope_type", "scope_id", "model", "unit", "period"),)


class Budget(Base):
    """A limit on what is spent within a scope, model and period: in money, in tokens, or both (None: no limit of that
    measure). `counter_built_at`: when `counter_states` began to hold all of its windows; None: not yet."""

    __tablename__ = "budgets"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    scope_type: Mapped[str] = mapped_column(String(16))
    scope_id: Mapped[str] = mapped_column(String(255), default="")
    model: Mapped[str] = mapped_column(String(255), default="")
    period: Mapped[str] = mapped_column(String(16))
    timezone: Mapped[str] = mapped_column(String(64))
    limit_nano_usd: Mapped[int | None] = mapped_column(BigInteger)
    limit_tokens: Mapped[int | None] = mapped_column(BigInteger)
    enforcement: Mapped[str] = mapped_column(String(8))
    action: Mapped[str] = mapped_column(String(16), default="block", server_default="block")
    downgrade_model: Mapped[str] = mapped_column(String(255), default="", server_default=text("''"))
    downgrade_at: Mapped[int] = mapped_column(default=100, server_default="100")
    clamp: Mapped[str] = mapped_column(String(16), default="missing", server_default="missing")
    default_output_tokens: Mapped[int] = mapped_column(BigInteger, default=8192, server_default="8192")
    min_output_tokens: Mapped[int] = mapped_column(BigInteger, default=256, server_default="256")
    allow_unbounded: Mapped[bool] = mapped_column(default=False, server_default="0")
    on_store_error: Mapped[str] = mapped_column(String(8), default="deny", server_default="deny")
    source: Mapped[str] = mapped_column(String(8))
    starts_at: Mapped[datetime]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime | None]
    counter_built_at: Mapped[datetime | None]
    alerts: Mapped[list[BudgetAlert]] = relationship(
        back_populates="budget", cascade="all, delete-orphan", order_by="BudgetAlert.id"
    )
    top_ups: Mapped[list[BudgetTopUp]] = relationship(
        cascade="all, delete-orphan", order_by="BudgetTopUp.created_at", passive_deletes=True
    )
    __table_args__ = (UniqueConstraint("scope_type", "scope_id", "model", "period"),)


class BudgetAlert(Base):
    """A threshold of a budget, in percent or in money, and whom to tell; exactly one of the recipients is set."""

    __tablename__ = "budget_alerts"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    budget_id: Mapped[str] = mapped_column(ForeignKey("budgets.id", ondelete="CASCADE"), index=True)
    threshold_percent: Mapped[Decimal | None] = mapped_column(Numeric(9, 3))
    threshold_nano_usd: Mapped[int | None] = mapped_column(BigInteger)
    email: Mapped[str | None] = mapped_column(String(320))
    slack_webhook: Mapped[str | None] = mapped_column(String(2000))
    webhook: Mapped[str | None] = mapped_column(String(2000))
    apprise: Mapped[str | None] = mapped_column(String(2000))  # a URL as the library Apprise reads it
    budget: Mapped[Budget] = relationship(back_populates="alerts")

    @property
    def said(self) -> tuple[Decimal | int | str | None, ...]:
        """All that makes it another one."""
        return tuple(getattr(self, name) for name in ALERT_COLUMNS)


class BudgetTopUp(Base):
    """Raises a budget's limit from `created_at` until `until` (None: the end of the window it was made in)."""

    __tablename__ = "budget_top_ups"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    budget_id: Mapped[str] = mapped_column(ForeignKey("budgets.id", ondelete="CASCADE"), index=True)
    amount_nano_usd: Mapped[int] = mapped_column(BigInteger)
    until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(64))


class Freeze(Base):
    """Stops the calls of a scope, or of a model, until it is deleted."""

    __tablename__ = "freezes"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    scope_type: Mapped[str] = mapped_column(String(16))
    scope_id: Mapped[str] = mapped_column(String(255), default="")
    model: Mapped[str] = mapped_column(String(255), default="")
    reason: Mapped[str] = mapped_column(String(500))
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(64))
    __table_args__ = (UniqueConstraint("scope_type", "scope_id", "model"),)


_BYTEWISE = String(255).with_variant(String(255, collation="C"), "postgresql")  # as Python orders names


class CounterState(Base):
    """What the ledger holds for a budget: changed in the transaction that books rows. `measure`: 'usd' (nano-dollars)
    or 'tokens'; `member`: '' unless the budget is for each member; `bucket`: the start of the window, for rolling
    windows the UTC hour, in Unix seconds. `version` grows with each change."""

    __tablename__ = "counter_states"
    budget_id: Mapped[str] = mapped_column(ForeignKey("budgets.id", ondelete="CASCADE"), primary_key=True)
    measure: Mapped[str] = mapped_column(String(8), primary_key=True)
    member: Mapped[str] = mapped_column(_BYTEWISE, primary_key=True)
    bucket: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    spent: Mapped[int] = mapped_column(BigInteger)
    unproven: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[datetime]


class UnprovenRelease(Base):
    """An admin's word that a call costs a budget no more than what was booked."""

    __tablename__ = "unproven_releases"
    budget_id: Mapped[str] = mapped_column(ForeignKey("budgets.id", ondelete="CASCADE"), primary_key=True)
    usage_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    released_at: Mapped[datetime]
    released_by: Mapped[str] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(String(500))
