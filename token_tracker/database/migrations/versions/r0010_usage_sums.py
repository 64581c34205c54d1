"""Sums over one dimension, of hours and days that are over. The worker fills them for what is there already.

Revision ID: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

COUNTS = ("attempts", "calls", "errors", "unpriced_calls")
TOKEN_CLASSES = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "input_audio_tokens",
    "input_image_tokens",
    "output_tokens",
    "reasoning_tokens",
    "output_audio_tokens",
    "output_image_tokens",
)
LATENCY_BUCKETS = 24


def upgrade() -> None:
    op.create_table(
        "usage_sums",
        sa.Column("dimension", sa.String(16), nullable=False),
        sa.Column("span", sa.String(4), nullable=False),
        sa.Column("start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("value", sa.String(255), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in (*COUNTS, *TOKEN_CLASSES, "cost_nano_usd")),
        *(sa.Column(f"latency_{at:02d}", sa.Integer(), nullable=False) for at in range(LATENCY_BUCKETS)),
        sa.PrimaryKeyConstraint("dimension", "span", "start", "value", name=op.f("pk_usage_sums")),
        sqlite_with_rowid=False,
    )
