"""Which models were called without a known price."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from token_tracker.database.models import UsageHourly
from token_tracker.services.usage_filters import Filters, rollup_conditions

_HOURLY = UsageHourly.__table__.c
MOST = 1000


@dataclass(frozen=True, slots=True)
class UnpricedModel:
    """`calls` of a model that have no cost; `first_seen`, `last_seen`: the hours of the first and the last."""

    model: str
    provider: str
    calls: int
    first_seen: datetime
    last_seen: datetime


def unpriced_models(session: Session, filters: Filters) -> list[UnpricedModel]:
    """Those with the most such calls first, at most 1,000; whole hours."""
    statement = (
        select(
            _HOURLY.model,
            _HOURLY.provider,
            func.sum(_HOURLY.unpriced_calls).label("calls"),
            func.min(_HOURLY.hour).label("first_seen"),
            func.max(_HOURLY.hour).label("last_seen"),
        )
        .where(_HOURLY.unpriced_calls > 0, *rollup_conditions(filters))
        .group_by(_HOURLY.model, _HOURLY.provider)
        .order_by(func.sum(_HOURLY.unpriced_calls).desc(), _HOURLY.model, _HOURLY.provider)
        .limit(MOST)
    )
    return [
        UnpricedModel(row.model, row.provider, int(row.calls), row.first_seen, row.last_seen)
        for row in session.execute(statement)
    ]
