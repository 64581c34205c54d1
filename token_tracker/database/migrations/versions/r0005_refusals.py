"""Hourly counts of refused calls.

Revision ID: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TEXTS = {"code": 64, "key_id": 40, "user_id": 64, "team_id": 64, "model": 255, "endpoint": 64}
KEY = ("hour", "code", "status", "key_id", "user_id", "team_id", "model", "endpoint")


def upgrade() -> None:
    op.create_table(
        "refusals_hourly",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Integer(), autoincrement=False, nullable=False),
        *(sa.Column(name, sa.String(length), nullable=False) for name, length in TEXTS.items()),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(*KEY, name=op.f("pk_refusals_hourly")),
    )
