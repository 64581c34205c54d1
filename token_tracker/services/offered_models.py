"""What the gateway offers, as people look at it: where each name leads, at what price, and whether it works."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from token_tracker.database.models import OfferedModel, UsageHourly
from token_tracker.domain.pricing import Choice
from token_tracker.domain.problems import Invalid
from token_tracker.domain.providers import PROVIDERS, WireFormat
from token_tracker.domain.usage import ERROR_REASONS
from token_tracker.services import checks
from token_tracker.services.model_prices import ModelPrices, price_names
from token_tracker.services.pages import DEFAULT_LIMIT, MAX_LIMIT, Page
from token_tracker.services.provider_credentials import unknown_names

_HOURLY = UsageHourly.__table__.c
_ANTHROPIC = (WireFormat.MESSAGES, WireFormat.COUNT_TOKENS)
_DEGRADED_PERCENT = 10


class Health(StrEnum):
    """The best first. `UNKNOWN`: nobody called it lately."""

    OK = "ok"
    UNKNOWN = "unknown"
    DEGRADED = "degraded"
    FAILING = "failing"
    UNAVAILABLE = "unavailable"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Deployment:
    """`document`: its public fields. `lane`: of calls in a format of `formats`, which the upstream speaks itself; all
    others are translated. `price` None: a wildcard's, by model."""

    document: Mapping[str, Any]
    lane: str  # 'direct' | 'litellm'
    formats: tuple[WireFormat, ...]
    price: Choice | None
    health: Health
    reason: str

    @property
    def dialects(self) -> list[str]:
        return sorted({"anthropic" if each in _ANTHROPIC else "openai" for each in self.formats})


@dataclass(frozen=True, slots=True)
class Model:
    """`reasons`: why entries of this name are switched off."""

    name: str
    source: str
    alias_of: str | None
    deployments: list[Deployment]
    reasons: list[str]

    @property
    def health(self) -> Health:
        """The best of its deployments; of an alias for a wildcard's model nothing is known."""
        ranks = list(Health)
        found = [each.health for each in self.deployments]
        if not found:
            return Health.OFF if self.reasons else Health.UNKNOWN
        return min(found, key=ranks.index)


def list_models(
    session: Session,
    *,
    at: datetime,
    name: str | None = None,
    source: str | None = None,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[Model]:
    """By name. Raises Invalid (limit, cursor)."""
    if not 1 <= limit <= MAX_LIMIT:
        raise Invalid([("limit", f"must be between 1 and {MAX_LIMIT}")])
    statement = select(OfferedModel).order_by(OfferedModel.name).limit(limit + 1)
    if name is not None:
        statement = statement.where(OfferedModel.name == name)
    if source is not None:
        statement = statement.where(OfferedModel.source == source)
    if cursor is not None:
        statement = statement.where(OfferedModel.name > _decode(cursor))
    found = list(session.scalars(statement))
    rows = found[:limit]
    return Page(_described(session, rows, at), _encode(rows[-1].name) if len(found) > limit else None)


def _described(session: Session, rows: Sequence[OfferedModel], at: datetime) -> list[Model]:
    wanted = {row.document["alias_of"] for row in rows} - {None}
    targets = {row.name: row for row in session.scalars(select(OfferedModel).where(OfferedModel.name.in_(wanted)))}
    behind = {row.name: targets.get(row.document["alias_of"], row) for row in rows}
    documents = [each for row in behind.values() for each in row.document["deployments"]]
    prices = ModelPrices(session, {name for each in documents for name in price_names(each)}, at)
    unknown = unknown_names(session, {each["credential"] for each in documents if each.get("credential")})
    health = _health_by_upstream(session, at)

    def described(entry: str, document: Mapping[str, Any]) -> Deployment:
        state, reason = health.get((document["provider"], document["model"]), Health.UNKNOWN), ""
        if (credential := document.get("credential")) in unknown:
            state, reason = Health.UNAVAILABLE, f"its credential '{credential}' does not exist"
        lane, formats = _reached(document)
        return Deployment(document, lane, formats, prices.choice(entry, document), state, reason)

    return [
        Model(
            row.name,
            row.source,
            row.document["alias_of"],
            [described(behind[row.name].name, each) for each in behind[row.name].document["deployments"]],
            behind[row.name].document["off"],
        )
        for row in rows
    ]


def _reached(document: Mapping[str, Any]) -> tuple[str, tuple[WireFormat, ...]]:
    """As gateways decide it: what the provider speaks goes directly, unless the entry forces a lane."""
    provider, forced = PROVIDERS.get(document["provider"]), document.get("lane")
    formats = tuple(sorted(provider.direct)) if provider is not None and forced != "litellm" else ()
    return forced or ("direct" if formats else "litellm"), formats


def _health_by_upstream(session: Session, at: datetime) -> dict[tuple[str, str], Health]:
    """By provider and its model, from what the books say of attempts since the last hour began."""
    since = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    failed = func.sum(case((_HOURLY.outcome.in_(ERROR_REASONS), _HOURLY.attempts), else_=0))
    statement = select(_HOURLY.provider, _HOURLY.model, func.sum(_HOURLY.attempts), failed)
    grouped = statement.where(_HOURLY.hour >= since).group_by(_HOURLY.provider, _HOURLY.model)
    return {
        (provider, model): _health(int(attempts), int(failures))
        for provider, model, attempts, failures in session.execute(grouped)
    }


def _health(attempts: int, failures: int) -> Health:
    if failures == attempts:
        return Health.FAILING
    return Health.DEGRADED if 100 * failures >= _DEGRADED_PERCENT * attempts else Health.OK


def _encode(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")


def _decode(cursor: str) -> str:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        name = base64.b64decode(padded.encode("ascii"), b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        name = "\n"
    if not checks.may_be_stored(name):
        raise Invalid([("cursor", "is not one that this list gave out")])
    return name
