"""/login/sso sends the browser to the OpenID Connect provider, /login/sso/callback takes it back."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

from flask import Flask, redirect, request, session
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.wrappers import Response as BaseResponse

from token_tracker.config.values import SingleSignOn
from token_tracker.dashboard.sessions import AWAY, enter, login_page
from token_tracker.database.session import transaction
from token_tracker.domain.problems import Conflict
from token_tracker.services import refresh_tokens, single_sign_on

Answer = BaseResponse | tuple[str, int]


def add_single_sign_on(server: Flask, engine: Engine, config: SingleSignOn | None, url: str) -> None:
    """The two routes, and the button on the login page. `url`: of the dashboard as people reach it, '' as asked."""
    server.jinja_env.globals["has_single_sign_on"] = config is not None
    if config is None:
        return

    def callback_url() -> str:
        return f"{url or request.host_url.rstrip('/')}/login/sso/callback"

    def start() -> Answer:
        try:
            with transaction(engine) as database:
                begun = single_sign_on.begin(database, config, redirect_url=callback_url(), at=datetime.now(UTC))
        except single_sign_on.SignOnFailed as error:
            return login_page(str(error)), 502
        except SQLAlchemyError:
            return login_page(AWAY), 503
        session["sign_on"] = begun.state
        return redirect(begun.url)

    def callback() -> Answer:
        """The same browser must come back: its session holds the state that it left with."""
        expected, state = session.pop("sign_on", None), request.args.get("state", "")
        if not isinstance(expected, str) or not secrets.compare_digest(expected.encode(), state.encode()):
            return login_page("This login did not begin in this browser. Try again."), 401
        try:
            return _come_back(engine, config, state, callback_url())
        except (single_sign_on.SignOnFailed, Conflict) as error:
            return login_page(str(error)), 401
        except SQLAlchemyError:
            return login_page(AWAY), 503

    server.add_url_rule("/login/sso", view_func=start, endpoint="sign_on_start")
    server.add_url_rule("/login/sso/callback", view_func=callback, endpoint="sign_on_callback")


def _come_back(engine: Engine, config: SingleSignOn, state: str, callback_url: str) -> Answer:
    at = datetime.now(UTC)
    with transaction(engine) as database:
        attempt = single_sign_on.take_attempt(database, state=state, at=at)
    if attempt is None or "code" not in request.args:
        return login_page("The provider did not log you in, or it took too long. Try again."), 401
    code = request.args["code"]
    claims = single_sign_on.claims_of(config, attempt, code=code, redirect_url=callback_url)
    with transaction(engine) as database:
        user = single_sign_on.account_of(database, config, claims, at=at)
        token = refresh_tokens.issue(database, user_id=user.id, at=at)
    enter(user.id, token, at)
    return redirect("/")
