"""What budgets, freezes and the audit log need.

Revision ID: 0002
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.sql.schema import SchemaItem

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UNPROVEN = sa.text("unproven_nano_usd > 0 OR unproven_tokens > 0")
HELD = ("held_nano_usd", "held_tokens", "unproven_nano_usd", "unproven_tokens", "overrun_nano_usd")


def text(name: str, length: int) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=False)


def defaulted(name: str, kind: Any, default: str) -> sa.Column[Any]:
    """A column that rows from before get this value in."""
    return sa.Column(name, kind, nullable=False, server_default=sa.text(default))


def time(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=null)


def number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def table(name: str, *items: SchemaItem, key: str = "id") -> None:
    op.create_table(name, *items, sa.PrimaryKeyConstraint(*key.split(), name=op.f(f"pk_{name}")))


def index(table_name: str, *columns: str) -> None:
    op.create_index(op.f(f"ix_{table_name}_{'_'.join(columns)}"), table_name, list(columns))


def of_a_budget(table_name: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table_name}_budget_id_budgets")
    return sa.ForeignKeyConstraint(["budget_id"], ["budgets.id"], name=name, ondelete="CASCADE")


def upgrade() -> None:
    ledger()
    budgets()
    freezes()
    counters()
    audit()


def ledger() -> None:
    op.add_column("token_usage", defaulted("model_group", sa.String(255), "''"))
    for name in HELD:
        op.add_column("token_usage", defaulted(name, sa.BigInteger(), "0"))
    op.create_index(
        "ix_token_usage_unproven", "token_usage", ["timestamp"], sqlite_where=UNPROVEN, postgresql_where=UNPROVEN
    )


def budgets() -> None:
    """On SQLite a column becomes nullable only in a new table, and dropping the old one would take the alerts with it:
    they are put back."""
    op.add_column("rate_limits", time("updated_at", null=True))
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        op.alter_column("budgets", "limit_nano_usd", nullable=True)
    else:
        alerts = sa.Table("budget_alerts", sa.MetaData(), autoload_with=connection)
        kept = [dict(row) for row in connection.execute(sa.select(alerts)).mappings()]
        with op.batch_alter_table("budgets") as batch:
            batch.alter_column("limit_nano_usd", existing_type=sa.BigInteger(), nullable=True)
        connection.execute(sa.delete(alerts))
        if kept:
            connection.execute(sa.insert(alerts), kept)
    for column in (
        sa.Column("limit_tokens", sa.BigInteger(), nullable=True),
        defaulted("action", sa.String(16), "'block'"),
        defaulted("downgrade_model", sa.String(255), "''"),
        defaulted("downgrade_at", sa.Integer(), "100"),
        defaulted("clamp", sa.String(16), "'missing'"),
        defaulted("default_output_tokens", sa.BigInteger(), "8192"),
        defaulted("min_output_tokens", sa.BigInteger(), "256"),
        defaulted("allow_unbounded", sa.Boolean(), "'0'"),
        defaulted("on_store_error", sa.String(8), "'deny'"),
        time("updated_at", null=True),
        time("counter_built_at", null=True),
    ):
        op.add_column("budgets", column)
    table(
        "budget_top_ups",
        text("id", 40),
        text("budget_id", 40),
        number("amount_nano_usd"),
        time("until", null=True),
        time("created_at"),
        text("created_by", 64),
        of_a_budget("budget_top_ups"),
    )
    index("budget_top_ups", "budget_id")


def freezes() -> None:
    scope = ("scope_type", "scope_id", "model")
    table(
        "freezes",
        text("id", 40),
        text("scope_type", 16),
        text("scope_id", 255),
        text("model", 255),
        text("reason", 500),
        time("created_at"),
        text("created_by", 64),
        sa.UniqueConstraint(*scope, name=op.f("uq_freezes_scope_type_scope_id_model")),
    )


def counters() -> None:
    table(
        "counter_states",
        text("budget_id", 40),
        text("measure", 8),
        text("member", 255),
        sa.Column("bucket", sa.BigInteger(), autoincrement=False, nullable=False),
        number("spent"),
        number("unproven"),
        number("version"),
        time("updated_at"),
        of_a_budget("counter_states"),
        key="budget_id measure member bucket",
    )
    table(
        "unproven_releases",
        text("budget_id", 40),
        text("usage_id", 40),
        time("released_at"),
        text("released_by", 64),
        text("reason", 500),
        of_a_budget("unproven_releases"),
        key="budget_id usage_id",
    )
    table(
        "open_holds",
        text("node", 64),
        time("published_at"),
        sa.Column("content", sa.Text(), nullable=False),
        key="node",
    )


def audit() -> None:
    table(
        "audit_log",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        time("at"),
        text("actor", 64),
        text("via", 40),
        text("address", 64),
        text("request_id", 64),
        text("action", 64),
        text("object_type", 32),
        text("object_id", 255),
        sa.Column("before", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("after", sa.JSON(none_as_null=True), nullable=True),
    )
    index("audit_log", "at")
    index("audit_log", "object_type", "object_id")
    index("audit_log", "actor", "at")
