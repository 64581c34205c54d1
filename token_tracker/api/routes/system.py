"""Whether the API works, and its description."""

from __future__ import annotations

from typing import Any

import msgspec
from flask import Response
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from token_tracker import __version__
from token_tracker.api.errors import RETRY_AFTER_S, is_away
from token_tracker.api.routing import Call, Open, Route
from token_tracker.api.schemas import Health, Index
from token_tracker.database.models import ConfigVersion
from token_tracker.database.session import reading


def health(call: Call) -> Any:
    try:
        with reading(call.engine) as session:
            session.scalar(select(ConfigVersion.version))
    except SQLAlchemyError as error:
        if not is_away(error):
            raise
        return _unhealthy()
    return Health("ok", __version__, "ok")


def _unhealthy() -> Response:
    """The state, and the error in the shape of all errors."""
    state = {"status": "unavailable", "version": __version__, "database": "unavailable"}
    error = {
        "code": "database_unavailable",
        "message": "The database cannot be reached or is not set up. Check DATABASE_URL and that its server runs.",
    }
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    return Response(msgspec.json.encode(state | {"error": error}), 503, headers, mimetype="application/json")


def index(_: Call) -> Index:
    return Index("Token Tracker API", "/api/docs", "/api/openapi.json", "/api/auth/login")


def root(call: Call) -> Index:
    """For who has only the port."""
    return index(call)


def openapi(_: Call) -> Response:
    from token_tracker.api.openapi import document  # only who asks for it waits for it to be made

    return Response(document(), mimetype="application/json")


ROUTES = (
    Route("GET", "/", root, Open.TO_ALL, "Where to go from here", Index),
    Route("GET", "/api", index, Open.TO_ALL, "Where to go from here", Index),
    Route("GET", "/api/health", health, Open.TO_ALL, "Whether the API and its database work; 503 if not", Health),
    Route("GET", "/api/openapi.json", openapi, Open.TO_ALL, "This description"),
)
