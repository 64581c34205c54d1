"""Who owns what is stored at providers.

Revision ID: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TEXTS = {
    "kind": 16,
    "id": 255,
    "account": 40,
    "deployment": 255,
    "provider": 64,
    "model": 255,
    "team_id": 64,
    "user_id": 64,
    "key_id": 40,
    "call_id": 40,
    "metered_by": 40,
    "node": 64,
}


def upgrade() -> None:
    op.create_table(
        "provider_objects",
        *(sa.Column(name, sa.String(length), nullable=False) for name, length in TEXTS.items()),
        sa.Column("is_background", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("kind", "id", "account", name=op.f("pk_provider_objects")),
    )
    for column in ("updated_at", "call_id"):
        op.create_index(op.f(f"ix_provider_objects_{column}"), "provider_objects", [column])
    # What nothing could count is looked for among all rows.
    unmetered = sa.text("cost_source = 'unpriced'")
    op.create_index(
        "ix_token_usage_unpriced", "token_usage", ["timestamp"], sqlite_where=unmetered, postgresql_where=unmetered
    )
