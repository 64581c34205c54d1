"""What the API takes and answers about rate limits and freezes, and the scopes that they share with budgets."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from token_tracker.api.schemas import Input, Whole, given
from token_tracker.database.models import Freeze, RateLimit
from token_tracker.domain.rules import SELF_DECLARED
from token_tracker.services.usage import format_time

ScopeType = Literal["global", "team", "user", "key", "provider", "agent", "tag", "session", "end_user", "model"]
ModelName = Annotated[str, Meta(max_length=255)]


class ScopeGiven(Struct, frozen=True, forbid_unknown_fields=True):
    """`id` '*': each member has a counter of its own; none for `global`."""

    type: ScopeType
    id: Annotated[str, Meta(max_length=255)] | None = None


class ScopeShown(Struct, frozen=True):
    type: str
    id: str | None


class RateLimitChange(Input, frozen=True):
    """What is left out stays."""

    scope: ScopeGiven | UnsetType = UNSET
    model: ModelName | UnsetType | None = UNSET
    unit: Literal["requests", "tokens", "concurrent"] | UnsetType = UNSET
    limit: Whole | UnsetType = UNSET
    period: Literal["second", "minute", "hour", "day"] | UnsetType | None = UNSET
    on_store_error: Literal["allow", "deny"] | UnsetType = UNSET

    def fields(self) -> dict[str, Any]:
        """As the service takes them."""
        fields = given(self)
        if (scope := fields.pop("scope", None)) is not None:
            fields |= {"scope_type": scope.type, "scope_id": scope.id}
        return fields


class RateLimitSave(RateLimitChange, frozen=True, kw_only=True):
    """Makes the limit of this scope, model, unit and period, or changes the one that is there. `period` is for all
    units but `concurrent`."""

    scope: ScopeGiven
    limit: Whole


class RateLimitShown(Struct, frozen=True, kw_only=True):
    """`source` config: it comes from proxy.yaml and is changed there. `self_declared`: as with budgets."""

    id: str
    scope: ScopeShown
    model: str | None
    unit: str
    limit: int
    period: str | None
    on_store_error: str
    source: str
    self_declared: bool
    created_at: str
    updated_at: str | None


class RateLimitPage(Struct, frozen=True):
    items: list[RateLimitShown]
    next_cursor: str | None


class FreezeSave(Input, frozen=True):
    """Stops a key, user, team, model or everything (`global`)."""

    scope: ScopeGiven
    reason: Annotated[str, Meta(min_length=1, max_length=500)]
    model: ModelName | None = None


class FreezeShown(Struct, frozen=True):
    id: str
    scope: ScopeShown
    model: str | None
    reason: str
    created_at: str
    created_by: str


class FreezePage(Struct, frozen=True):
    items: list[FreezeShown]
    next_cursor: str | None


def rate_limit_shown(limit: RateLimit) -> RateLimitShown:
    return RateLimitShown(
        id=limit.id,
        scope=ScopeShown(limit.scope_type, limit.scope_id or None),
        model=limit.model or None,
        unit=limit.unit,
        limit=limit.limit,
        period=limit.period or None,
        on_store_error=limit.on_store_error,
        source=limit.source,
        self_declared=limit.scope_type in SELF_DECLARED,
        created_at=format_time(limit.created_at),
        updated_at=time_shown(limit.updated_at),
    )


def freeze_shown(freeze: Freeze) -> FreezeShown:
    scope = ScopeShown(freeze.scope_type, freeze.scope_id or None)
    return FreezeShown(
        freeze.id, scope, freeze.model or None, freeze.reason, format_time(freeze.created_at), freeze.created_by
    )


def time_shown(at: datetime | None) -> str | None:
    return None if at is None else format_time(at)
