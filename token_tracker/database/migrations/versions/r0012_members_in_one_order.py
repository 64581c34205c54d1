"""Members of budgets in the order of their bytes, whatever order the PostgreSQL server has for words.

Revision ID: 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":  # SQLite knows no other order
        op.alter_column("counter_states", "member", type_=sa.String(255, collation="C"))
