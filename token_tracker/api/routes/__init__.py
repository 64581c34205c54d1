"""One module a noun: its routes and what they answer."""

from token_tracker.api.routes import (
    alert_rules,
    alerts,
    audit,
    auth,
    budgets,
    freezes,
    keys,
    models,
    nodes,
    people,
    prices,
    provider_credentials,
    rate_limits,
    refusals,
    reports,
    service_tokens,
    single_sign_on,
    system,
    unmetered,
    usage,
)
from token_tracker.api.routing import Route

_BOOKS, _RULES = (usage, unmetered, refusals, prices), (budgets, rate_limits, freezes, nodes)
_NOUNS = (
    system,
    auth,
    single_sign_on,
    *_BOOKS,
    *_RULES,
    models,
    provider_credentials,
    keys,
    people,
    service_tokens,
    audit,
    alerts,
    alert_rules,
    reports,
)
ROUTES: tuple[Route, ...] = tuple(route for noun in _NOUNS for route in noun.ROUTES)
