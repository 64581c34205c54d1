"""Calls of an invented company, in order of time: uneven over keys, models, hours and days, and the same each time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any

from token_tracker.database.models import TokenUsage

DAYS = 180
KEYS, USERS, TEAMS, AGENTS = 200, 120, 15, 12
# Provider, model, and nano-dollars for a token in and out; the first ones are used most.
MODELS = tuple(
    (provider, f"{provider}-{name}", 20 * (number + 1), 90 * (number + 1))
    for number, (provider, name) in enumerate(
        (provider, name)
        for name in ("small", "large", "tools", "reasoning")
        for provider in ("openai", "anthropic", "gemini", "mistral", "groq")
    )
)
ENDS = (
    (("complete", 200),) * 94 + (("upstream_error", 500),) * 3 + (("client_disconnect", 200),) * 2 + (("timeout", 0),)
)
COLUMNS = tuple(column.name for column in TokenUsage.__table__.columns)
_PLAIN: dict[str, Any] = {
    "attempt": 1,
    "endpoint": "/v1/chat/completions",
    "lane": "direct",
    "requested_model": "fast",
    "model_group": "fast",
    "upstream_request_id": "",
    "usage_source": "provider",
    "cost_source": "priced",
    "price_version": "file:2026-01-01@1a2b3c4d",
    "ttft_ms": None,
    "end_user": "",
    "tags": "[]",
    "request_metadata": "",
}
_DRAWN = (
    *("id", "call_id", "timestamp", "booked_at", "stream", "model", "provider", "upstream_id", "status_code"),
    *("end_reason", "input_tokens", "cache_read_tokens", "output_tokens", "cost_nano_usd", "latency_ms"),
    *("user_id", "team_id", "key_id", "agent", "session_id"),
)
_HOURS = (1, 1, 1, 1, 1, 2, 4, 7, 12, 16, 18, 17, 13, 15, 18, 18, 16, 13, 10, 8, 6, 4, 3, 2)


def calls(count: int, end: datetime, seed: int = 1) -> Iterator[tuple[Any, ...]]:
    """About `count` rows in the order of `COLUMNS`, of the `DAYS` days before `end` (a whole hour)."""
    random_ = random.Random(seed)
    hours = [end - timedelta(hours=number) for number in range(DAYS * 24, 0, -1)]
    weights = [_weight(hour, end, random_) for hour in hours]
    share = count / sum(weights)
    make = _maker(random_)
    done = 0
    for hour, reached in zip(hours, accumulate(weights), strict=True):
        in_hour = round(reached * share) - done
        for second in sorted(random_.random() * 3600 for _ in range(in_hour)):
            done += 1
            yield make(done, hour + timedelta(seconds=second))


def _weight(hour: datetime, end: datetime, random_: random.Random) -> float:
    """Offices by day, a fifth at week-ends, twice as much at the end as at the beginning, and some lively days."""
    growth = 1 + (1 - (end - hour) / timedelta(days=DAYS))
    lively = 3 if hour.toordinal() % 17 == 0 else 1
    return _HOURS[hour.hour] * growth * lively * (0.2 if hour.weekday() > 4 else 1) * (0.8 + 0.4 * random_.random())


def _maker(random_: random.Random) -> Any:
    places = {name: at for at, name in enumerate(COLUMNS)}
    plain = [_PLAIN.get(name, 0) for name in COLUMNS]
    keys = [
        (
            f"key_{n:03d}",
            f"user{n % USERS:03d}",
            f"team{n % USERS % TEAMS:02d}",
            f"agent{n % AGENTS:02d}" if n % 3 else "",
        )
        for n in range(KEYS)
    ]
    by_key = list(accumulate(1 / (n + 1) ** 0.8 for n in range(KEYS)))
    by_model = list(accumulate(1 / (n + 1) for n in range(len(MODELS))))
    order = [places[name] for name in _DRAWN]

    def make(number: int, at: datetime) -> tuple[Any, ...]:
        key, user, team, agent = random_.choices(keys, cum_weights=by_key)[0]
        provider, model, price_in, price_out = random_.choices(MODELS, cum_weights=by_model)[0]
        end_reason, status = random_.choice(ENDS)
        fresh, cached, out = (int(random_.expovariate(mean)) for mean in (0.001, 0.0005, 0.003))
        cost = fresh * price_in + cached * price_in // 10 + out * price_out
        name = f"{number:010x}{random_.getrandbits(88):022x}"
        values = (name, name, at, at, number & 1, model, provider, f"chatcmpl-{number}", status, end_reason)
        amounts = (fresh, cached, out, cost, round(random_.lognormvariate(7, 1), 3))
        row = plain.copy()
        for place, value in zip(order, (*values, *amounts, user, team, key, agent, f"s{number // 25}"), strict=True):
            row[place] = value
        return tuple(row)

    return make
