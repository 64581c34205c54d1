"""Logging in and out: a signed cookie, HttpOnly and SameSite, for the accounts of the API."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from flask import Flask, Response, abort, redirect, render_template, request, session
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.wrappers import Response as BaseResponse

from token_tracker.dashboard.data import Viewer, find_viewer
from token_tracker.database.session import reading, transaction
from token_tracker.services import refresh_tokens, throttle
from token_tracker.services.accounts import authenticate

log = logging.getLogger("token_tracker.dashboard")

LIFETIME = timedelta(hours=12)
OPEN_PATHS = frozenset({"/login", "/login/sso", "/login/sso/callback", "/assets/style.css"})
WRONG = "Wrong user name or password."
TOO_MANY = "Too many wrong passwords. Wait {} s and try again."
AWAY = "The database cannot be reached right now; nobody can log in until it is back. Calls go on meanwhile."


def protect(server: Flask, engine: Engine) -> None:
    """Close every route of `server` but the login page, and add /login and /logout."""
    server.before_request(lambda: _require_login(engine))
    server.after_request(_security_headers)
    server.add_url_rule("/login", view_func=_login_view(engine), methods=["GET", "POST"])
    server.add_url_rule("/logout", view_func=_logout_view(engine), methods=["POST"])


def current_viewer(engine: Engine) -> Viewer | None:
    """Who asks, read afresh from the database, so that a disabled account and a login that was ended see nothing
    more, whoever holds a copy of the cookie."""
    user_id, login = session.get("user"), session.get("login")
    if not isinstance(user_id, str) or not isinstance(login, str):
        return None
    with reading(engine) as database:
        live = refresh_tokens.is_live(database, login=login, user_id=user_id, at=datetime.now(UTC))
        return find_viewer(database, user_id) if live else None


def csrf_token() -> str:
    """The token that this session's forms carry."""
    token = session.setdefault("csrf", secrets.token_urlsafe(32))
    return str(token)


def _require_login(engine: Engine) -> BaseResponse | None:
    if request.path == "/" and _is_logged_in() and _has_ended(engine):
        session.clear()
    if request.path in OPEN_PATHS or _is_logged_in():
        return None
    if request.path.startswith("/_dash-update-component") or request.method != "GET":
        abort(401)
    return redirect("/login")


def _is_logged_in() -> bool:
    return isinstance(session.get("user"), str) and session.get("until", 0) > datetime.now(UTC).timestamp()


def _has_ended(engine: Engine) -> bool:
    try:
        return current_viewer(engine) is None
    except SQLAlchemyError:
        return False  # nobody knows; the page says that the database is away


def _login_view(engine: Engine) -> Callable[[], str | BaseResponse | tuple[str, int]]:
    def login() -> str | BaseResponse | tuple[str, int]:
        if request.method == "GET":
            return redirect("/") if _is_logged_in() else login_page(None)
        _require_csrf()
        username, password = request.form.get("username", ""), request.form.get("password", "")
        try:
            at, address = datetime.now(UTC), request.remote_addr or ""
            with transaction(engine) as database:
                wait = throttle.begin(database, username=username, address=address, at=at)
            if wait is not None:
                return login_page(TOO_MANY.format(math.ceil(wait.total_seconds())), username), 429
            with reading(engine) as database:
                user = authenticate(database, username=username, password=password)
            if user is None:
                return login_page(WRONG, username), 401
            with transaction(engine) as database:
                throttle.succeeded(database, username=username, address=address)
                token = refresh_tokens.issue(database, user_id=user.id, at=at)
        except SQLAlchemyError:
            return login_page(AWAY, username), 503
        enter(user.id, token, at)
        return redirect("/")

    return login


def enter(user_id: str, token: str, at: datetime) -> None:
    """This browser is now that account's; `token` is the first of its new login."""
    session.clear()
    session["user"] = user_id
    session["login"] = refresh_tokens.login_of(token)
    session["until"] = (at + LIFETIME).timestamp()


def login_page(problem: str | None, username: str = "") -> str:
    """The form, with what went wrong."""
    return render_template("login.html", problem=problem, username=username, csrf_token=csrf_token())


def _logout_view(engine: Engine) -> Callable[[], BaseResponse]:
    def logout() -> BaseResponse:
        _require_csrf()
        if isinstance(login := session.get("login"), str):
            try:
                with transaction(engine) as database:
                    refresh_tokens.end_login(database, login=login, at=datetime.now(UTC))
            except SQLAlchemyError:
                log.warning("the database is away: a log-out ended the session in its own browser only")
        session.clear()
        return redirect("/login")

    return logout


def _require_csrf() -> None:
    expected, sent = session.get("csrf"), request.form.get("csrf_token", "")
    if not isinstance(expected, str) or not secrets.compare_digest(expected.encode(), sent.encode()):
        abort(Response("This form is too old. Go back, reload the page and try again.", 400, mimetype="text/plain"))


def _security_headers(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Content-Security-Policy"] = "frame-ancestors 'none'; base-uri 'none'; object-src 'none'"
    if request.is_secure:
        response.headers["Strict-Transport-Security"] = "max-age=31536000"
    if response.mimetype in ("text/html", "application/json"):
        response.headers["Cache-Control"] = "no-store"
    return response
