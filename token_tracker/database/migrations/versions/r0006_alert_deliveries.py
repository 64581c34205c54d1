"""The outbox of alerts.

Revision ID: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TEXTS = {
    "rule": 32,
    "event": 32,
    "subject": 300,
    "window": 64,
    "threshold": 16,
    "channel": 16,
    "recipient": 2000,
    "lane": 255,
}
TIMES = ("claimed_until", "sent_at", "recovered_at")


def upgrade() -> None:
    op.create_table(
        "alert_deliveries",
        sa.Column("id", sa.String(64), nullable=False),
        *(sa.Column(name, sa.String(length), nullable=False) for name, length in TEXTS.items()),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        *(sa.Column(name, sa.DateTime(timezone=True), nullable=True) for name in TIMES),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_deliveries")),
    )
    for column in ("subject", "created_at"):
        op.create_index(op.f(f"ix_alert_deliveries_{column}"), "alert_deliveries", [column])
    op.create_index("ix_alert_deliveries_state_due_at", "alert_deliveries", ["state", "due_at"])
