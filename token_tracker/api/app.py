"""`create_app()`: the API as a WSGI application, made from the table of routes."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import msgspec
from flask import Flask, Response, g, request
from sqlalchemy import Engine
from werkzeug.exceptions import NotFound
from werkzeug.routing import BaseConverter

from token_tracker.api import docs, errors
from token_tracker.api.accounts import find_account
from token_tracker.api.routes import ROUTES
from token_tracker.api.routing import MAX_BODY_BYTES, Answer, Call, Open, Route, etag_of
from token_tracker.api.tokens import AccessTokens
from token_tracker.api.validation import read_body, read_query
from token_tracker.config.encryption import Keyring
from token_tracker.config.values import SingleSignOn
from token_tracker.database.deadlines import within
from token_tracker.database.session import make_engine
from token_tracker.domain.access import scope_of

HSTS = "max-age=31536000"  # a year; without subdomains, which are not ours
_HEADERS = {
    "Cache-Control": "no-store",  # answers hold keys, tokens and what people used
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_PATH_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Desk:
    """What the API works with. `url` '': as it was asked for."""

    engine: Engine
    tokens: AccessTokens
    single_sign_on: SingleSignOn | None = None
    url: str = ""
    keyring: Keyring = field(default_factory=Keyring)


def create_app(
    engine: Engine | None = None,
    secret: bytes | None = None,
    sign_on: SingleSignOn | None = None,
    keyring: Keyring | None = None,
) -> Flask:
    """The application for gunicorn. Without arguments the settings are read; raises ConfigurationError."""
    if engine is None or secret is None:
        desk = _configured()
    else:
        desk = Desk(engine, AccessTokens(secret), sign_on, keyring=keyring or Keyring())
    desk = replace(desk, engine=within(desk.engine, errors.ANSWER_WITHIN_S))
    app = Flask(__name__, static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY_BYTES, PROVIDE_AUTOMATIC_OPTIONS=False)
    app.url_map.converters["id"] = type("Identifier", (BaseConverter,), {"regex": _identifiers()})
    for route in ROUTES:
        rule = _PATH_FIELD.sub(r"<id:\1>", route.path)
        view = _view(route, desk)
        app.add_url_rule(rule, f"{route.method} {route.path}", view, methods=[route.method], strict_slashes=False)
    docs.register(app)
    app.before_request(_name_request)
    app.before_request(_refuse_nul)
    app.after_request(_add_headers)
    errors.register(app)
    return app


def _identifiers() -> str:
    """Any segment but those that another route has in the place of an id: a 405 then names what they take."""
    last = {tuple(route.path.rsplit("/", 1)) for route in ROUTES}
    collections = {parent for parent, segment in last if _PATH_FIELD.fullmatch(segment)}
    taken = sorted(segment for parent, segment in last if parent in collections and not _PATH_FIELD.fullmatch(segment))
    return f"(?!(?:{'|'.join(map(re.escape, taken))})$)[^/]+"


def _configured() -> Desk:
    from token_tracker.config.load import load_settings
    from token_tracker.config.paths import encryption_keys, secret_key

    settings = load_settings()
    engine, tokens = make_engine(settings.database_url.value), AccessTokens(secret_key(settings))
    keyring = Keyring(encryption_keys(settings))
    return Desk(engine, tokens, settings.single_sign_on, settings.api_url, keyring)


def _view(route: Route, desk: Desk) -> Callable[..., Response]:
    def view(**values: Any) -> Response:
        request.max_content_length = route.max_body_bytes
        call = _call(route, desk)
        if route.query is not None:
            values["query"] = read_query(request.args, route.query)
        if route.body is not None:
            values["body"] = read_body(request, route.body)
        return _answer(route, route.handler(call, **values))

    return view


def _call(route: Route, desk: Desk) -> Call:
    at = datetime.now(UTC)
    call = Call(
        desk.engine,
        desk.tokens,
        at,
        address=request.remote_addr or "",
        request_id=g.request_id,
        if_match=request.headers.get("If-Match", ""),
        single_sign_on=desk.single_sign_on,
        url=desk.url or request.host_url.rstrip("/"),
        keyring=desk.keyring,
    )
    if isinstance(route.permission, Open):
        return call
    account = find_account(request.headers.get("Authorization", ""), desk.engine, desk.tokens, at)
    if account is None:
        raise errors.not_authenticated()
    scope = scope_of(account.role, route.permission, user=account.user, team=account.team)
    if scope is None:
        raise errors.forbidden(f"The role {account.role} has no permission '{route.permission}'.")
    if account.permissions is not None and route.permission not in account.permissions:
        raise errors.forbidden(f"This service token has no permission '{route.permission}'.")
    return replace(call, account=account, scope=scope)


def _answer(route: Route, document: Any) -> Response:
    if isinstance(document, Response):
        return document
    if document is None:
        return Response(status=route.status)
    status = route.status
    if isinstance(document, Answer):
        document, status = document.document, document.status
    answer = Response(msgspec.json.encode(document), status, mimetype="application/json")
    if hasattr(document, "id"):
        answer.headers["ETag"] = etag_of(document)
    return answer


def _name_request() -> None:
    """The id that the answer, the log and the audit log have in common."""
    g.request_id = secrets.token_hex(8)


def _refuse_nul() -> None:
    """No name of ours holds this character, and PostgreSQL cannot even be asked for it."""
    if "\x00" in request.path:
        raise NotFound


def _add_headers(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    if request.is_secure:
        response.headers["Strict-Transport-Security"] = HSTS
    response.headers["X-Request-Id"] = g.get("request_id", "")
    return response
