"""One module a noun: its routes and what they answer."""

from token_tracker.api.routes import (
    auth,
    keys,
    people,
    prices,
    refusals,
    service_tokens,
    single_sign_on,
    system,
    unmetered,
    usage,
)
from token_tracker.api.routing import Route

_NOUNS = (system, auth, single_sign_on, usage, unmetered, refusals, keys, people, service_tokens, prices)
ROUTES: tuple[Route, ...] = tuple(route for noun in _NOUNS for route in noun.ROUTES)
