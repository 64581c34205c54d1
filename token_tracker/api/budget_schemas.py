"""What the API takes and answers about budgets."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from token_tracker.api.rule_schemas import ModelName, ScopeGiven, ScopeShown, time_shown
from token_tracker.api.schemas import MAX_WHOLE, Input, Limit, Name, PageQuery, Period, Time, Usd, Whole, given
from token_tracker.config import recipients
from token_tracker.database.models import Budget, BudgetAlert, BudgetTopUp
from token_tracker.domain.money import format_usd
from token_tracker.domain.rules import SELF_DECLARED
from token_tracker.services import budget_status, releases
from token_tracker.services.usage import format_time

OutputTokens = Annotated[int, Meta(ge=1, le=MAX_WHOLE)]


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


class AlertShown(Struct, frozen=True):
    """URLs are shown only as they begin, as the rest is a secret; sent back so, with the same threshold, they stay."""

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

    limit: Limit = 25  # of a rolling window each member has up to 720 counters of each measure
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
        alerts=[_alert_shown(alert) for alert in budget.alerts],
        top_ups=[top_up_shown(each) for each in budget.top_ups],
        source=budget.source,
        self_declared=budget.scope_type in SELF_DECLARED,
        is_building=budget.counter_built_at is None,
        created_at=format_time(budget.created_at),
        updated_at=time_shown(budget.updated_at),
    )


def _alert_shown(alert: BudgetAlert) -> AlertShown:
    percent = alert.threshold_percent
    whom = {name: recipients.shown(name, getattr(alert, name)) for name in recipients.CHANNELS}
    return AlertShown(None if percent is None else float(percent), _usd(alert.threshold_nano_usd), **whom)


def top_up_shown(top_up: BudgetTopUp) -> TopUpShown:
    amount = format_usd(top_up.amount_nano_usd)
    return TopUpShown(top_up.id, amount, time_shown(top_up.until), format_time(top_up.created_at), top_up.created_by)


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
        window=Window(format_time(status.window_start), time_shown(status.window_end)),
        holds=[
            HoldShown(hold.call_id, format_usd(hold.nano_usd), hold.tokens, hold.age_s, hold.state)
            for hold in status.holds
        ],
        forecast=Forecast(
            time_shown(min(ends, default=None)), format_usd(usd.per_hour if usd else 0), measure.measured_over_s
        ),
        is_building=status.is_building,
    )


def released_shown(released: releases.Released) -> ReleasedShown:
    amount = format_usd(released.nano_usd)
    return ReleasedShown([*released.calls], [*released.already], amount, released.tokens, released.is_complete)


def _usd(nano_usd: int | None) -> str | None:
    return None if nano_usd is None else format_usd(nano_usd)
