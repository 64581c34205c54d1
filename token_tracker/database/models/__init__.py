"""All tables."""

from token_tracker.database.models.alert_rules import AlertChannel, AlertEpisode, AlertMute, AlertRule
from token_tracker.database.models.alerts import AlertDelivery
from token_tracker.database.models.audit import AuditEntry
from token_tracker.database.models.base import Base, UtcDateTime
from token_tracker.database.models.books import ConfigVersion, JournalOffset, Lease, OpenHolds, SystemState
from token_tracker.database.models.credentials import (
    ApiKey,
    LoginFailures,
    ProviderCredential,
    RefreshToken,
    ServiceToken,
)
from token_tracker.database.models.ledger import TokenUsage, TokenUsageTag
from token_tracker.database.models.objects import ProviderObject
from token_tracker.database.models.offers import OfferedModel
from token_tracker.database.models.people import SingleSignOnAttempt, Team, User
from token_tracker.database.models.prices import PriceRow
from token_tracker.database.models.refusals import RefusalsBooked, RefusalsHourly
from token_tracker.database.models.reports import Report
from token_tracker.database.models.rollup import (
    EVERYBODY,
    LATENCY_COLUMNS,
    ROLLUP_KEYS,
    ROLLUP_SUMS,
    SUM_DIMENSIONS,
    UsageHourly,
    UsageSums,
)
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
    "EVERYBODY",
    "LATENCY_COLUMNS",
    "ROLLUP_KEYS",
    "ROLLUP_SUMS",
    "SUM_DIMENSIONS",
    "AlertChannel",
    "AlertDelivery",
    "AlertEpisode",
    "AlertMute",
    "AlertRule",
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
    "OfferedModel",
    "OpenHolds",
    "PriceRow",
    "ProviderCredential",
    "ProviderObject",
    "RateLimit",
    "RefreshToken",
    "RefusalsBooked",
    "RefusalsHourly",
    "Report",
    "ServiceToken",
    "SingleSignOnAttempt",
    "SystemState",
    "Team",
    "TokenUsage",
    "TokenUsageTag",
    "UnprovenRelease",
    "UsageHourly",
    "UsageSums",
    "User",
    "UtcDateTime",
]
