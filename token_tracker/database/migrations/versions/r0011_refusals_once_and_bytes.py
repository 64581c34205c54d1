"""How far each worker's counts of refusals are booked, apart from the journal's offsets; and bytes of each attempt.

Revision ID: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "refusals_booked",
        sa.Column("writer", sa.String(64), nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("writer", name=op.f("pk_refusals_booked")),
    )
    for name in ("request_bytes", "response_bytes"):
        op.add_column("token_usage", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))
