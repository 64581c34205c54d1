"""One module a noun: its routes and what they answer."""

from token_tracker.api.routes import auth, keys, people, system, unmetered, usage
from token_tracker.api.routing import Route

ROUTES: tuple[Route, ...] = (
    *system.ROUTES,
    *auth.ROUTES,
    *usage.ROUTES,
    *unmetered.ROUTES,
    *keys.ROUTES,
    *people.ROUTES,
)
