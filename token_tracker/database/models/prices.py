"""Dated prices. A row is never edited: a new price is a new row with a later `valid_from`."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from token_tracker.database.models.base import Base


class PriceRow(Base):
    """`rates` maps LiteLLM's field names to exact decimal text (USD per unit); None ends the price of that `version`.

    'file' and 'override' prices are found by name: the row with the latest (`valid_from`, `id`) holds. Several 'entry'
    or 'pricing' prices of one name may hold at once (deployments of one model with prices of their own).

    `version` is derived from source, name and rates, so that a gateway and the database name the same price alike
    without asking each other (see `domain/pricing.py`); ledger rows carry it.
    """

    __tablename__ = "prices"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    source: Mapped[str] = mapped_column(String(16))  # entry | override | pricing | file
    name: Mapped[str] = mapped_column(String(255))
    version: Mapped[str] = mapped_column(String(300))
    rates: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    valid_from: Mapped[datetime]
    created_at: Mapped[datetime]
    __table_args__ = (UniqueConstraint("source", "name", "version", "valid_from"), Index(None, "version"))
