"""The ledger: one row for every attempt that reached an upstream. Append-only; only retention deletes."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from token_tracker.database.models.base import Base

UNPROVEN = text("unproven_nano_usd > 0 OR unproven_tokens > 0")
UNPRICED = text("cost_source = 'unpriced'")


class TokenUsage(Base):
    """One attempt. Token classes are disjoint (`domain/usage.py`); money is whole nano-dollars.

    `model_group` is the `model_list` name that served. `held_…`: what the gate held for the attempt; `unproven_…`: what
    of it may have been spent beyond the booked cost; `overrun_…`: the booked cost beyond what was held; all 0 where no
    hard budget applied. `…_bytes`: of the bodies that went up and came down. `timestamp` is the call's
    admission. `cost_nano_usd` is None exactly where `cost_source` is 'unpriced'. Absent names are ''. A call's last
    attempt has `id == call_id`.
    """

    __tablename__ = "token_usage"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    call_id: Mapped[str] = mapped_column(String(40))
    attempt: Mapped[int]
    timestamp: Mapped[datetime]
    booked_at: Mapped[datetime]
    endpoint: Mapped[str] = mapped_column(String(64))
    lane: Mapped[str] = mapped_column(String(8))
    stream: Mapped[bool]
    requested_model: Mapped[str] = mapped_column(String(255))
    model: Mapped[str] = mapped_column(String(255))
    model_group: Mapped[str] = mapped_column(String(255), default="", server_default=text("''"))
    provider: Mapped[str] = mapped_column(String(64))
    upstream_id: Mapped[str] = mapped_column(String(255))
    upstream_request_id: Mapped[str] = mapped_column(String(255))
    status_code: Mapped[int]
    end_reason: Mapped[str] = mapped_column(String(24))
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_read_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_write_5m_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_write_1h_tokens: Mapped[int] = mapped_column(BigInteger)
    input_audio_tokens: Mapped[int] = mapped_column(BigInteger)
    input_image_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    reasoning_tokens: Mapped[int] = mapped_column(BigInteger)
    output_audio_tokens: Mapped[int] = mapped_column(BigInteger)
    output_image_tokens: Mapped[int] = mapped_column(BigInteger)
    usage_source: Mapped[str] = mapped_column(String(16))
    cost_nano_usd: Mapped[int | None] = mapped_column(BigInteger)
    cost_source: Mapped[str] = mapped_column(String(8))
    price_version: Mapped[str] = mapped_column(String(300))
    held_nano_usd: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    held_tokens: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    unproven_nano_usd: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    unproven_tokens: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    overrun_nano_usd: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    request_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    response_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    latency_ms: Mapped[float]
    ttft_ms: Mapped[float | None]
    user: Mapped[str] = mapped_column("user_id", String(64))
    team: Mapped[str] = mapped_column("team_id", String(64))
    key_id: Mapped[str] = mapped_column(String(40))
    agent: Mapped[str] = mapped_column(String(200))
    session: Mapped[str] = mapped_column("session_id", String(255))
    end_user: Mapped[str] = mapped_column(String(255))
    tags: Mapped[str] = mapped_column(Text)  # JSON array of strings
    request_metadata: Mapped[str] = mapped_column(Text)  # JSON object, or ''
    __table_args__ = (
        Index(None, "timestamp", "id"),
        Index(None, "call_id"),
        Index(None, "user_id", "timestamp"),
        Index(None, "team_id", "timestamp"),
        Index(None, "key_id", "timestamp"),
        Index(None, "model", "timestamp"),
        Index(None, "session_id", "timestamp"),
        Index("ix_token_usage_unproven", "timestamp", sqlite_where=UNPROVEN, postgresql_where=UNPROVEN),
        Index("ix_token_usage_unpriced", "timestamp", sqlite_where=UNPRICED, postgresql_where=UNPRICED),
    )


class TokenUsageTag(Base):
    """The tags of a row, one each, so that a tag can be filtered and grouped by alike on both databases."""

    __tablename__ = "token_usage_tags"
    tag: Mapped[str] = mapped_column(String(128), primary_key=True)
    usage_id: Mapped[str] = mapped_column(
        ForeignKey("token_usage.id", ondelete="CASCADE"), primary_key=True, index=True
    )
