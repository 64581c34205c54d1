"""What the API takes and answers about budgets, rate limits and freezes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from token_tracker.api.schemas import MAX_WHOLE, Input, Name, PageQuery, Period, Time, Usd, Whole, given
from token_tracker.config import recipients
from token_tracker.database.models import Budget, BudgetTopUp, Freeze, RateLimit
from token_tracker.domain.money import format_usd
from token_tracker.domain.rules import SELF_DECLARED
from token_tracker.services import budget_status, releases
from token_tracker.services.usage import format_time

ScopeType = Literal["global", "team", "user", "key", "provider", "agent", "tag", "session", "end_user", "model"]
OutputTokens = Annotated[int, Meta(ge=1, le=MAX_WHOLE)]
ModelName = Annotated[str, Meta(max_length=255)]


class ScopeGiven(Struct, frozen=True, forbid_unknown_fields=True):
    """`id` '*': each member has a counter of its own; none for `global`."""

    type: ScopeType
    id: Annotated[str, Meta(max_length=255)] | None = None


class OnExceeded(Struct, frozen=True, forbid_unknown_fields=True):
    """`downgrade`: calls go to `model` from `downgrade_at` percent on."""

    action: Literal["block", "downgrade"] = "block"
    model: ModelName | None = None
    downgrade_at: Annotated[int, Meta(ge=1, le=100)] = 100


class Alert(Struct, frozen=True, forbid_unknown_fields=True):
    """`threshold`: percent of the limit; or `threshold_usd`: an amount. Exactly one recipient."""

    threshold: Annotated[float, Meta(gt=0, le=1000)] | Annotated[str, Meta(max_length=40)] | None = None
    threshold_usd: Usd | None = None
    email: Annotated[str, Meta(max_length=320)] | None = None
    slack_webhook: Annotated[str, Meta(max_length=2000)] | None = None
    webhook: Annotated[str, Meta(max_length=2000)] | None = None
    apprise: Annotated[str, Meta(max_length=2000, description="the URL of a service that Apprise knows")] | None = None


class BudgetChange(Input, frozen=True):
    """What is left out stays. `limit_usd` or `limit_tokens` null: no limit of that kind."""

    name: Name | UnsetType = UNSET
    scope: ScopeGiven | UnsetType = UNSET
    model: ModelName | UnsetType | None = UNSET
    limit_usd: Usd | UnsetType | None = UNSET
    limit_tokens: Whole | UnsetType | None = UNSET
    period: Period | UnsetType = UNSET
    timezone: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    starts_at: Time | UnsetType | None = UNSET
    enforcement: Literal["hard", "soft", "alert"] | UnsetType = UNSET
    on_exceeded: OnExceeded | UnsetType = UNSET
    clamp: Literal["missing", "always"] | UnsetType = UNSET
    default_output_tokens: OutputTokens | UnsetType = UNSET
    min_output_tokens: OutputTokens | UnsetType = UNSET
    allow_unbounded: bool | UnsetType = UNSET
    on_store_error: Literal["deny", "allow"] | UnsetType = UNSET
    alerts: Annotated[list[Alert], Meta(max_length=50)] | UnsetType = UNSET

    def fields(self) -> dict[str, Any]:
        """As the service takes them."""
        fields = given(self)
        if (scope := fields.pop("scope", None)) is not None:
            fields |= {"scope_type": scope.type, "scope_id": scope.id}
        if (exceeded := fields.pop("on_exceeded", None)) is not None:
            fields |= {
                "action": exceeded.action,
                "downgrade_model": exceeded.model,
                "downgrade_at": exceeded.downgrade_at,
            }
        if "alerts" in fields:
            names = Alert.__struct_fields__
            fields["alerts"] = [{name: getattr(alert, name) for name in names} for alert in fields["alerts"]]
        return fields


class BudgetSave(BudgetChange, frozen=True, kw_only=True):
    """Makes the budget of this scope, model and period, or changes the one that is there."""

    scope: ScopeGiven
    period: Period


class ScopeShown(Struct, frozen=True):
    type: str
    id: str | None


class AlertShown(Struct, frozen=True):
    """`apprise`: only how it begins, as any part of the URL may be a secret."""

    threshold: float | None
    threshold_usd: str | None
    email: str | None
    slack_webhook: str | None
    webhook: str | None
    apprise: str | None


class TopUpShown(Struct, frozen=True):
    """`until` null: the end of the window that it was made in."""

    id: str
    amount_usd: str
    until: str | None
    created_at: str
    created_by: str


class BudgetShown(Struct, frozen=True, kw_only=True):
    """`source` config: it comes from proxy.yaml and is changed there. `is_building`: hard budgets answer 503 until
    their counters hold what was spent before. `self_declared`: it counts by what clients say of themselves, so it binds
    the honest."""

    id: str
    name: str
    scope: ScopeShown
    model: str | None
    limit_usd: str | None
    limit_tokens: int | None
    period: str
    timezone: str
    starts_at: str
    enforcement: str
    on_exceeded: OnExceeded
    clamp: str
    default_output_tokens: int
    min_output_tokens: int
    allow_unbounded: bool
    on_store_error: str
    alerts: list[AlertShown]
    top_ups: list[TopUpShown]
    source: str
    self_declared: bool
    is_building: bool
    created_at: str
    updated_at: str | None


class BudgetPage(Struct, frozen=True):
    items: list[BudgetShown]
    next_cursor: str | None


class StatusQuery(PageQuery, frozen=True):
    """`member`: one member of a budget for each; without it they come page by page."""

    member: Annotated[str, Meta(max_length=255)] | None = None


class Window(Struct, frozen=True):
    """Half-open. `end` null: never."""

    start: str
    end: str | None


class HoldShown(Struct, frozen=True):
    """A call in flight. `state`: in_flight, awaiting_usage, or unproven where its node has been silent for 15 s."""

    call_id: str
    amount_usd: str
    tokens: int
    age_s: float
    state: str


class Forecast(Struct, frozen=True):
    """`ends_at`: when nothing remains if it goes on like in the last `measured_over_s`; null: not in this window."""

    ends_at: str | None
    per_hour_usd: str
    measured_over_s: int


class Status(Struct, frozen=True, kw_only=True):
    """Where a budget stands. The `…_usd` are null for one that limits tokens only, the `…_tokens` for the other kind.
    `enforcement` is soft for a hard budget that lets calls through which nothing bounds."""

    budget_id: str
    member_id: str | None
    enforcement: str
    limit_usd: str | None
    spent_usd: str | None
    held_usd: str | None
    unproven_usd: str | None
    remaining_usd: str | None
    limit_tokens: int | None
    spent_tokens: int | None
    held_tokens: int | None
    unproven_tokens: int | None
    remaining_tokens: int | None
    window: Window
    holds: list[HoldShown]
    forecast: Forecast
    is_building: bool


class StatusPage(Struct, frozen=True):
    """Of a budget for each (`*`)."""

    items: list[Status]
    next_cursor: str | None


class TopUp(Input, frozen=True):
    """`until` left out: the end of the window that now lies in."""

    amount_usd: Usd
    until: Time | None = None


class Release(Input, frozen=True):
    """`call_ids`: a list of them, or `all`."""

    call_ids: Annotated[list[Annotated[str, Meta(max_length=40)]], Meta(max_length=5000)] | Literal["all"]
    reason: Annotated[str, Meta(min_length=1, max_length=500)]


class ReleasedShown(Struct, frozen=True):
    """`already`: those asked for that were released before. `is_complete` false: ask again for the rest."""

    calls: list[str]
    already: list[str]
    amount_usd: str
    tokens: int
    is_complete: bool


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


_AMOUNTS = ("limit", "spent", "held", "unproven", "remaining")


def budget_shown(budget: Budget) -> BudgetShown:
    action: Any = budget.action
    return BudgetShown(
        id=budget.id,
        name=budget.name,
        scope=ScopeShown(budget.scope_type, budget.scope_id or None),
        model=budget.model or None,
        limit_usd=_usd(budget.limit_nano_usd),
        limit_tokens=budget.limit_tokens,
        period=budget.period,
        timezone=budget.timezone,
        starts_at=format_time(budget.starts_at),
        enforcement=budget.enforcement,
        on_exceeded=OnExceeded(action, budget.downgrade_model or None, budget.downgrade_at),
        clamp=budget.clamp,
        default_output_tokens=budget.default_output_tokens,
        min_output_tokens=budget.min_output_tokens,
        allow_unbounded=budget.allow_unbounded,
        on_store_error=budget.on_store_error,
        alerts=[
            AlertShown(
                None if each.threshold_percent is None else float(each.threshold_percent),
                _usd(each.threshold_nano_usd),
                each.email,
                each.slack_webhook,
                each.webhook,
                recipients.shown(each.apprise) if each.apprise else None,
            )
            for each in budget.alerts
        ],
        top_ups=[top_up_shown(each) for each in budget.top_ups],
        source=budget.source,
        self_declared=budget.scope_type in SELF_DECLARED,
        is_building=budget.counter_built_at is None,
        created_at=format_time(budget.created_at),
        updated_at=_time(budget.updated_at),
    )


def top_up_shown(top_up: BudgetTopUp) -> TopUpShown:
    amount = format_usd(top_up.amount_nano_usd)
    return TopUpShown(top_up.id, amount, _time(top_up.until), format_time(top_up.created_at), top_up.created_by)


def status_shown(status: budget_status.BudgetStatus) -> Status:
    usd, tokens = status.usd, status.tokens
    measure = usd or tokens
    assert measure is not None
    ends = [each.ends_at for each in (usd, tokens) if each is not None and each.ends_at is not None]
    amounts: dict[str, Any] = {f"{name}_usd": _usd(getattr(usd, name) if usd else None) for name in _AMOUNTS}
    amounts |= {f"{name}_tokens": getattr(tokens, name) if tokens else None for name in _AMOUNTS}
    return Status(
        budget_id=status.budget.id,
        member_id=status.member_id or None,
        enforcement="soft" if status.is_soft else status.budget.enforcement,
        **amounts,
        window=Window(format_time(status.window_start), _time(status.window_end)),
        holds=[
            HoldShown(hold.call_id, format_usd(hold.nano_usd), hold.tokens, hold.age_s, hold.state)
            for hold in status.holds
        ],
        forecast=Forecast(
            _time(min(ends, default=None)), format_usd(usd.per_hour if usd else 0), measure.measured_over_s
        ),
        is_building=status.is_building,
    )


def released_shown(released: releases.Released) -> ReleasedShown:
    amount = format_usd(released.nano_usd)
    return ReleasedShown([*released.calls], [*released.already], amount, released.tokens, released.is_complete)


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
        updated_at=_time(limit.updated_at),
    )


def freeze_shown(freeze: Freeze) -> FreezeShown:
    scope = ScopeShown(freeze.scope_type, freeze.scope_id or None)
    return FreezeShown(
        freeze.id, scope, freeze.model or None, freeze.reason, format_time(freeze.created_at), freeze.created_by
    )


def _usd(nano_usd: int | None) -> str | None:
    return None if nano_usd is None else format_usd(nano_usd)


def _time(at: datetime | None) -> str | None:
    return None if at is None else format_time(at)
