"""Hourly counts of calls that were refused before anything was sent; they have no rows in the ledger."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from token_tracker.database.models.base import Base


class RefusalsHourly(Base):
    """`hour` is a UTC hour. Texts are '' where nobody knows: no valid key, no model read yet; `model` is an entry of
    the configuration or 'other'."""

    __tablename__ = "refusals_hourly"
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(String(64), primary_key=True)
    status: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    key_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    user: Mapped[str] = mapped_column("user_id", String(64), primary_key=True)
    team: Mapped[str] = mapped_column("team_id", String(64), primary_key=True)
    model: Mapped[str] = mapped_column(String(255), primary_key=True)
    endpoint: Mapped[str] = mapped_column(String(64), primary_key=True)
    calls: Mapped[int] = mapped_column(BigInteger)


class RefusalsBooked(Base):
    """Up to which of its counts a gateway worker's refusals are in `refusals_hourly`; written in the transaction that
    adds them, so that a journal that is read again adds nothing."""

    __tablename__ = "refusals_booked"
    writer: Mapped[str] = mapped_column(String(64), primary_key=True)  # the worker's incarnation
    serial: Mapped[int] = mapped_column(BigInteger)
