"""What was served and could not be metered: rows without usage and without cost, by what they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, cast, exists, func, select
from sqlalchemy.orm import Session

from token_tracker.database.models import ProviderObject, TokenUsage
from token_tracker.domain.pricing import CostSource
from token_tracker.domain.usage import UsageSource
from token_tracker.services.usage_filters import Filters, ledger_conditions

_GROUPS = (
    TokenUsage.endpoint,
    TokenUsage.provider,
    TokenUsage.model,
    TokenUsage.end_reason,
    TokenUsage.team,
    TokenUsage.user,
    TokenUsage.key_id,
)


@dataclass(frozen=True, slots=True)
class Unmetered:
    """So many attempts of one kind, with the bytes of their bodies up and down. `model` is '' where none was
    named; `end_reason` 'crash': the gateway died, and nobody knows what was served."""

    endpoint: str
    provider: str
    model: str
    end_reason: str
    team: str
    user: str
    key_id: str
    attempts: int
    request_bytes: int
    response_bytes: int
    first_at: datetime
    last_at: datetime


def unmetered(session: Session, filters: Filters, *, limit: int) -> Sequence[Unmetered]:
    """The most frequent first, at most `limit`. A background response that a later retrieval metered is none."""
    metered_later = exists().where(ProviderObject.call_id == TokenUsage.call_id, ProviderObject.metered_by != "")
    statement = (
        select(
            *_GROUPS,
            func.count(),
            *(cast(func.sum(column), BigInteger) for column in (TokenUsage.request_bytes, TokenUsage.response_bytes)),
            func.min(TokenUsage.timestamp),
            func.max(TokenUsage.timestamp),
        )
        .where(
            *ledger_conditions(filters),
            TokenUsage.cost_source == CostSource.UNPRICED.value,
            TokenUsage.usage_source == UsageSource.NONE.value,
            ~metered_later,
        )
        .group_by(*_GROUPS)
        .order_by(func.count().desc(), *_GROUPS)
        .limit(limit)
    )
    found: list[Any] = list(session.execute(statement))
    return [Unmetered(*row) for row in found]
