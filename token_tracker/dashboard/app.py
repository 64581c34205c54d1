"""The dashboard's application: one Flask server with the login, and Dash behind it."""

from __future__ import annotations

from dash import Dash
from flask import Flask

from token_tracker.config import Configuration
from token_tracker.config.load import load
from token_tracker.config.paths import secret_key
from token_tracker.dashboard.data import Viewer
from token_tracker.dashboard.pages import overview
from token_tracker.dashboard.sessions import current_viewer, protect
from token_tracker.database.session import make_engine


def create_app(configuration: Configuration | None = None) -> Flask:
    """The WSGI application that gunicorn serves."""
    settings = (configuration or load()).settings
    server = Flask("token_tracker.dashboard", template_folder="templates", static_folder=None)
    server.config.update(
        SECRET_KEY=secret_key(settings),
        SESSION_COOKIE_NAME="tt_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        MAX_CONTENT_LENGTH=1024 * 1024,
    )
    engine = server.extensions["engine"] = make_engine(settings.database_url.value)
    protect(server, engine)
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
    return server


def _who(viewer: Viewer | None) -> str:
    return f"{viewer.user} ({viewer.role})" if viewer else ""
