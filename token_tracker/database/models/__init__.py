"""All tables."""

from token_tracker.database.models.alerts import AlertDelivery
from token_tracker.database.models.audit import AuditEntry
from token_tracker.database.models.base import Base, UtcDateTime
from token_tracker.database.models.books import ConfigVersion, JournalOffset, Lease, OpenHolds, SystemState
from token_tracker.database.models.credentials import ApiKey, LoginFailures, RefreshToken, ServiceToken
from token_tracker.database.models.ledger import TokenUsage, TokenUsageTag
from token_tracker.database.models.objects import ProviderObject
from token_tracker.database.models.people import SingleSignOnAttempt, Team, User
from token_tracker.database.models.prices import PriceRow
from token_tracker.database.models.refusals import RefusalsHourly
from token_tracker.database.models.rollup import LATENCY_COLUMNS, ROLLUP_KEYS, ROLLUP_SUMS, UsageHourly
from token_tracker.database.models.rules import (
    Budget,
    BudgetAlert,
    BudgetTopUp,
    CounterState,
    Freeze,
    RateLimit,
    UnprovenRelease,
)

__all__ = [
    "LATENCY_COLUMNS",
    "ROLLUP_KEYS",
    "ROLLUP_SUMS",
    "AlertDelivery",
    "ApiKey",
    "AuditEntry",
    "Base",
    "Budget",
    "BudgetAlert",
    "BudgetTopUp",
    "ConfigVersion",
    "CounterState",
    "Freeze",
    "JournalOffset",
    "Lease",
    "LoginFailures",
    "OpenHolds",
    "PriceRow",
    "ProviderObject",
    "RateLimit",
    "RefreshToken",
    "RefusalsHourly",
    "ServiceToken",
    "SingleSignOnAttempt",
    "SystemState",
    "Team",
    "TokenUsage",
    "TokenUsageTag",
    "UnprovenRelease",
    "UsageHourly",
    "User",
    "UtcDateTime",
]
