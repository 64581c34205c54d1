"""The dashboard's application: one Flask server with the login, and Dash behind it."""

from __future__ import annotations

from typing import Any

from dash import Dash
from flask import Flask, abort, request

from token_tracker.config import Configuration
from token_tracker.config.load import load_settings
from token_tracker.config.paths import secret_key
from token_tracker.dashboard.data import Viewer
from token_tracker.dashboard.pages import overview
from token_tracker.dashboard.sessions import current_viewer, protect
from token_tracker.dashboard.single_sign_on import add_single_sign_on
from token_tracker.database.session import make_engine


def create_app(configuration: Configuration | None = None) -> Flask:
    """The WSGI application that gunicorn serves."""
    settings = configuration.settings if configuration else load_settings()
    server = Flask("token_tracker.dashboard", template_folder="templates", static_folder=None)
    server.config.update(
        SECRET_KEY=secret_key(settings),
        SESSION_COOKIE_NAME="tt_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=settings.dashboard.tls is not None or settings.dashboard_url.startswith("https:"),
        MAX_CONTENT_LENGTH=1024 * 1024,
    )
    engine = server.extensions["engine"] = make_engine(settings.database_url.value)
    protect(server, engine)
    add_single_sign_on(server, engine, settings.single_sign_on, settings.dashboard_url)
    app = Dash(
        "token_tracker.dashboard",
        server=server,
        title="Token Tracker",
        update_title="",
        serve_locally=True,
        include_pages_meta=False,
        use_pages=False,
        enable_mcp=False,
        add_log_handler=False,
    )
    with server.test_request_context():  # Dash draws the layout once at start, for nobody, to learn its ids
        app.layout = lambda: overview.layout(_who(current_viewer(engine)))
    overview.register(app, engine)
    server.before_request(lambda: _refuse_junk(app))
    return server


def _refuse_junk(app: Dash) -> None:
    """400 for what no page of ours sends to a callback; Dash would answer it with 500 and a traceback."""
    if request.path == "/_dash-update-component" and not _is_call(app, request.get_json(silent=True)):
        abort(400)


def _is_call(app: Dash, body: Any) -> bool:
    output = body.get("output") if isinstance(body, dict) else None
    if not isinstance(output, str) or output not in app.callback_map:
        return False
    callback = app.callback_map[output]
    given = [body.get(name, []) for name in ("outputs", "inputs", "state")]
    wanted = [output.strip(".").split("..."), callback["inputs"], callback["state"]]
    return all(_are_properties(found, len(names)) for found, names in zip(given, wanted, strict=True))


def _are_properties(found: Any, count: int) -> bool:
    return (
        isinstance(found, list)
        and len(found) == count
        and all(isinstance(each, dict) and {"id", "property"} <= each.keys() for each in found)
    )


def _who(viewer: Viewer | None) -> str:
    return f"{viewer.user} ({viewer.role})" if viewer else ""
