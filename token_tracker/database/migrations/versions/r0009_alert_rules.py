"""Alert rules, channels, mutes and episodes; thresholds of budgets in money.

Revision ID: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _rules()
    op.create_table(
        "alert_channels",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("recipient", sa.String(2000), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_alert_channels")),
    )
    op.create_table(
        "alert_mutes",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("rule_id", sa.String(32), nullable=True),
        sa.Column("subject", sa.String(300), nullable=False),
        sa.Column("until", TIME, nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.String(64), nullable=False),
        _of_rule("alert_mutes"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_mutes")),
    )
    op.create_index(op.f("ix_alert_mutes_rule_id"), "alert_mutes", ["rule_id"])
    op.create_table(
        "alert_episodes",
        sa.Column("rule_id", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(300), nullable=False),
        sa.Column("window", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("threshold", sa.String(32), nullable=False),
        sa.Column("told", sa.String(32), nullable=False),
        sa.Column("since", TIME, nullable=True),
        sa.Column("seen_at", TIME, nullable=True),
        sa.Column("is_held", sa.Boolean(), nullable=False),
        sa.Column("sent", sa.JSON(), nullable=False),
        _of_rule("alert_episodes"),
        sa.PrimaryKeyConstraint("rule_id", "subject", name=op.f("pk_alert_episodes")),
    )
    with op.batch_alter_table("budget_alerts") as table:
        table.alter_column("threshold_percent", existing_type=sa.Numeric(9, 3), nullable=True)
        table.add_column(sa.Column("threshold_nano_usd", sa.BigInteger(), nullable=True))
    with op.batch_alter_table("alert_deliveries") as table:
        table.alter_column("threshold", existing_type=sa.String(16), type_=sa.String(32), existing_nullable=False)


def _rules() -> None:
    op.create_table(
        "alert_rules",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("thresholds", sa.JSON(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("cooldown_s", sa.Integer(), nullable=False),
        sa.Column("quiet_hours", sa.JSON(), nullable=True),
        sa.Column("channels", sa.JSON(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("source", sa.String(8), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_rules")),
        sa.UniqueConstraint("name", name=op.f("uq_alert_rules_name")),
    )


def _of_rule(table: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_rule_id_alert_rules")
    return sa.ForeignKeyConstraint(["rule_id"], ["alert_rules.id"], name=name, ondelete="CASCADE")
