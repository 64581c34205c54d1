"""All tables of the first version.

Revision ID: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.sql.schema import SchemaItem

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

LATENCY_BUCKETS = 24
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


def text(name: str, length: int, *, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=null)


def long_text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def time(name: str, *, null: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=null)


def number(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=null)


def table(name: str, *items: SchemaItem, key: str = "id", unique: tuple[str, ...] = ()) -> None:
    """`key`: the primary key's columns; `unique`: those that are unique together. Both are named as the models do."""
    keys = key.split()
    constraints: list[SchemaItem] = [sa.PrimaryKeyConstraint(*keys, name=op.f(f"pk_{name}"))]
    if unique:
        constraints.append(sa.UniqueConstraint(*unique, name=op.f(f"uq_{name}_{'_'.join(unique)}")))
    op.create_table(name, *items, *constraints)


def index(table_name: str, *columns: str) -> None:
    op.create_index(op.f(f"ix_{table_name}_{'_'.join(columns)}"), table_name, list(columns))


def refer(table_name: str, column: str, other: str, on_delete: str | None = None) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table_name}_{column}_{other}")
    return sa.ForeignKeyConstraint([column], [f"{other}.id"], name=name, ondelete=on_delete)


def upgrade() -> None:
    people()
    credentials()
    prices_and_rules()
    ledger()
    rollup()
    bookkeeping()


def people() -> None:
    table("teams", text("id", 64), text("name", 200), time("created_at"))
    table(
        "users",
        text("id", 64),
        text("password_hash", 255),
        text("role", 16),
        text("team_id", 64, null=True),
        time("created_at"),
        time("disabled_at", null=True),
        refer("users", "team_id", "teams"),
    )


def credentials() -> None:
    table(
        "api_keys",
        text("id", 40),
        text("name", 200),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        text("prefix", 16),
        text("user_id", 64),
        text("team_id", 64, null=True),
        text("agent", 200),
        sa.Column("models", sa.JSON(), nullable=False),
        sa.Column("permissions", sa.JSON(), nullable=False),
        time("created_at"),
        text("created_by", 64),
        time("expires_at", null=True),
        time("revoked_at", null=True),
        text("predecessor_id", 40, null=True),
        refer("api_keys", "user_id", "users"),
        refer("api_keys", "team_id", "teams"),
        refer("api_keys", "predecessor_id", "api_keys"),
        unique=("hash",),
    )
    index("api_keys", "user_id")
    index("api_keys", "team_id")
    table(
        "refresh_tokens",
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        text("family", 40),
        text("user_id", 64),
        time("created_at"),
        time("expires_at"),
        time("used_at", null=True),
        time("revoked_at", null=True),
        refer("refresh_tokens", "user_id", "users"),
        key="hash",
    )
    for column in ("family", "user_id", "expires_at"):
        index("refresh_tokens", column)


def prices_and_rules() -> None:
    table(
        "prices",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        text("source", 16),
        text("name", 255),
        text("version", 300),
        sa.Column("rates", sa.JSON(none_as_null=True), nullable=True),
        time("valid_from"),
        time("created_at"),
        unique=("source", "name", "version", "valid_from"),
    )
    index("prices", "version")
    scope = ("scope_type", "scope_id", "model")
    table(
        "rate_limits",
        text("id", 40),
        *scope_columns(),
        text("unit", 16),
        number("limit"),
        text("period", 16),
        text("on_store_error", 8),
        text("source", 8),
        time("created_at"),
        unique=(*scope, "unit", "period"),
    )
    table(
        "budgets",
        text("id", 40),
        text("name", 200),
        *scope_columns(),
        text("period", 16),
        text("timezone", 64),
        number("limit_nano_usd"),
        text("enforcement", 8),
        text("source", 8),
        time("starts_at"),
        time("created_at"),
        unique=(*scope, "period"),
    )
    table(
        "budget_alerts",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        text("budget_id", 40),
        sa.Column("threshold_percent", sa.Numeric(9, 3), nullable=False),
        text("email", 320, null=True),
        text("slack_webhook", 2000, null=True),
        text("webhook", 2000, null=True),
        refer("budget_alerts", "budget_id", "budgets", "CASCADE"),
    )
    index("budget_alerts", "budget_id")


def scope_columns() -> tuple[sa.Column[str], ...]:
    return text("scope_type", 16), text("scope_id", 255), text("model", 255)


def ledger() -> None:
    table(
        "token_usage",
        text("id", 40),
        text("call_id", 40),
        sa.Column("attempt", sa.Integer(), nullable=False),
        time("timestamp"),
        time("booked_at"),
        text("endpoint", 64),
        text("lane", 8),
        sa.Column("stream", sa.Boolean(), nullable=False),
        text("requested_model", 255),
        text("model", 255),
        text("provider", 64),
        text("upstream_id", 255),
        text("upstream_request_id", 255),
        sa.Column("status_code", sa.Integer(), nullable=False),
        text("end_reason", 24),
        *(number(name) for name in TOKEN_CLASSES),
        text("usage_source", 16),
        number("cost_nano_usd", null=True),
        text("cost_source", 8),
        text("price_version", 300),
        sa.Column("latency_ms", sa.Double(), nullable=False),
        sa.Column("ttft_ms", sa.Double(), nullable=True),
        text("user_id", 64),
        text("team_id", 64),
        text("key_id", 40),
        text("agent", 200),
        text("session_id", 255),
        text("end_user", 255),
        long_text("tags"),
        long_text("request_metadata"),
    )
    index("token_usage", "timestamp", "id")
    index("token_usage", "call_id")
    for column in ("user_id", "team_id", "key_id", "model", "session_id"):
        index("token_usage", column, "timestamp")
    table(
        "token_usage_tags",
        text("tag", 128),
        text("usage_id", 40),
        refer("token_usage_tags", "usage_id", "token_usage", "CASCADE"),
        key="tag usage_id",
    )
    index("token_usage_tags", "usage_id")


def rollup() -> None:
    keys = {"key_id": 40, "user_id": 64, "team_id": 64, "agent": 200, "model": 255, "provider": 64, "outcome": 24}
    sums = ("attempts", "calls", "errors", "unpriced_calls", *TOKEN_CLASSES, "cost_nano_usd")
    table(
        "usage_hourly",
        time("hour"),
        *(text(name, length) for name, length in keys.items()),
        *(number(name) for name in sums),
        *(sa.Column(f"latency_{at:02d}", sa.Integer(), nullable=False) for at in range(LATENCY_BUCKETS)),
        key=" ".join(("hour", *keys)),
    )


def bookkeeping() -> None:
    table("journal_offsets", text("segment", 128), number("offset"), time("updated_at"), key="segment")
    table("system_state", text("name", 64), long_text("value"), key="name")
    table("leases", text("name", 64), text("holder", 64), time("expires_at"), key="name")
    versions = sa.Column("id", sa.Integer(), autoincrement=False, nullable=False)
    table("config_version", versions, number("version"))
    op.execute(sa.text("INSERT INTO config_version (id, version) VALUES (1, 1)"))
