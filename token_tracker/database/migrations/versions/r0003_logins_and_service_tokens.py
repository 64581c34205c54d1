"""What slows down guessing at logins, tokens for programs, and single sign-on.

Revision ID: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def time(name: str, *, null: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=null)


def text(name: str, length: int) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=False)


def digest(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(32), nullable=False)


def upgrade() -> None:
    op.create_table(
        "login_failures",
        text("key", 64),
        sa.Column("failures", sa.Integer(), nullable=False),
        time("last_at"),
        time("blocked_until", null=True),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_login_failures")),
    )
    op.create_index(op.f("ix_login_failures_last_at"), "login_failures", ["last_at"])
    op.create_table(
        "service_tokens",
        text("id", 40),
        text("name", 200),
        digest("hash"),
        text("prefix", 20),
        text("user_id", 64),
        sa.Column("permissions", sa.JSON(), nullable=False),
        time("created_at"),
        time("expires_at", null=True),
        time("revoked_at", null=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_service_tokens_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_tokens")),
        sa.UniqueConstraint("hash", name=op.f("uq_service_tokens_hash")),
    )
    op.create_index(op.f("ix_service_tokens_user_id"), "service_tokens", ["user_id"])
    op.add_column("users", sa.Column("single_sign_on", sa.String(512), nullable=True))
    # SQLite adds constraints only to new tables; a unique index is the same there.
    op.create_index("ix_users_single_sign_on", "users", ["single_sign_on"], unique=True)
    op.create_table(
        "single_sign_on_attempts",
        text("state", 64),
        text("verifier", 128),
        text("nonce", 64),
        time("created_at"),
        sa.PrimaryKeyConstraint("state", name=op.f("pk_single_sign_on_attempts")),
    )
    op.create_index(op.f("ix_single_sign_on_attempts_created_at"), "single_sign_on_attempts", ["created_at"])
