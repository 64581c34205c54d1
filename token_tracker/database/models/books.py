"""The recorder's and worker's own book-keeping."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from token_tracker.database.models.base import Base


class JournalOffset(Base):
    """How far a journal segment is booked; written in the transaction that books its rows."""

    __tablename__ = "journal_offsets"
    segment: Mapped[str] = mapped_column(String(128), primary_key=True)  # '<node>/<incarnation>-<n>'
    offset: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[datetime]


class ConfigVersion(Base):
    """One row (id 1). `version` grows with every change a gateway must learn of; `database/session.py` sees to it."""

    __tablename__ = "config_version"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(BigInteger)


class SystemState(Base):
    """Small facts of the installation: digest of the imported price file, how far back the ledger is kept."""

    __tablename__ = "system_state"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class Lease(Base):
    """Who does a job that must run once per installation, and until when; alike on both databases."""

    __tablename__ = "leases"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    holder: Mapped[str] = mapped_column(String(64))
    expires_at: Mapped[datetime]


class OpenHolds(Base):
    """The calls of a node that have begun and not ended, as its recorder last saw them in the journal: JSON."""

    __tablename__ = "open_holds"
    node: Mapped[str] = mapped_column(String(64), primary_key=True)
    published_at: Mapped[datetime]
    content: Mapped[str] = mapped_column(Text)
