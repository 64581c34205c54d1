"""Logging in and out: a signed cookie, HttpOnly and SameSite, for the accounts of the API."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from flask import Flask, Response, abort, redirect, render_template, request, session
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.wrappers import Response as BaseResponse

from token_tracker.dashboard.data import Viewer, find_viewer
from token_tracker.database.session import reading
from token_tracker.services.accounts import authenticate

LIFETIME = timedelta(hours=12)
OPEN_PATHS = frozenset({"/login", "/assets/style.css"})
WRONG = "Wrong user name or password."
AWAY = "The database cannot be reached right now; nobody can log in until it is back. Calls go on meanwhile."


def protect(server: Flask, engine: Engine) -> None:
    """Close every route of `server` but the login page, and add /login and /logout."""
    server.before_request(_require_login)
    server.after_request(_security_headers)
    server.add_url_rule("/login", view_func=_login_view(engine), methods=["GET", "POST"])
    server.add_url_rule("/logout", view_func=_logout, methods=["POST"])


def current_viewer(engine: Engine) -> Viewer | None:
    """Who asks, read afresh from the database, so that a disabled account sees nothing more."""
    user_id = session.get("user")
    if not isinstance(user_id, str):
        return None
    with reading(engine) as database:
        return find_viewer(database, user_id)


def csrf_token() -> str:
    """The token that this session's forms carry."""
    token = session.setdefault("csrf", secrets.token_urlsafe(32))
    return str(token)


def _require_login() -> BaseResponse | None:
    if request.path in OPEN_PATHS or _is_logged_in():
        return None
    if request.path.startswith("/_dash-update-component") or request.method != "GET":
        abort(401)
    return redirect("/login")


def _is_logged_in() -> bool:
    return isinstance(session.get("user"), str) and session.get("until", 0) > datetime.now(UTC).timestamp()


def _login_view(engine: Engine) -> Callable[[], str | BaseResponse | tuple[str, int]]:
    def login() -> str | BaseResponse | tuple[str, int]:
        if request.method == "GET":
            return redirect("/") if _is_logged_in() else _page(None)
        _require_csrf()
        username, password = request.form.get("username", ""), request.form.get("password", "")
        try:
            with reading(engine) as database:
                user = authenticate(database, username=username, password=password)
        except SQLAlchemyError:
            return _page(AWAY, username), 503
        if user is None:
            return _page(WRONG, username), 401
        session.clear()
        session["user"] = user.id
        session["until"] = (datetime.now(UTC) + LIFETIME).timestamp()
        return redirect("/")

    return login


def _page(problem: str | None, username: str = "") -> str:
    return render_template("login.html", problem=problem, username=username, csrf_token=csrf_token())


def _logout() -> BaseResponse:
    _require_csrf()
    session.clear()
    return redirect("/login")


def _require_csrf() -> None:
    expected, sent = session.get("csrf"), request.form.get("csrf_token", "")
    if not isinstance(expected, str) or not secrets.compare_digest(expected.encode(), sent.encode()):
        abort(Response("This form is too old. Go back, reload the page and try again.", 400, mimetype="text/plain"))


def _security_headers(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["Referrer-Policy"] = "same-origin"
    if response.mimetype in ("text/html", "application/json"):
        response.headers["Cache-Control"] = "no-store"
    return response
