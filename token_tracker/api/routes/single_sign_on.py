"""Logging in by an OpenID Connect provider."""

from __future__ import annotations

import secrets
from typing import Any

from flask import redirect, request

from token_tracker.api.errors import ApiError, invalid_credentials
from token_tracker.api.routes.auth import tokens_for
from token_tracker.api.routing import Call, Open, Route
from token_tracker.api.schemas import Tokens
from token_tracker.config.values import SingleSignOn
from token_tracker.database.session import transaction
from token_tracker.services import refresh_tokens, single_sign_on

PATH = "/api/auth/oidc"
COOKIE = "tt_sign_on"


def start(call: Call) -> Any:
    config = _config(call)
    with transaction(call.engine) as session:
        try:
            begun = single_sign_on.begin(session, config, redirect_url=_callback(call), at=call.at)
        except single_sign_on.SignOnFailed as error:
            raise ApiError(502, "provider_unavailable", str(error)) from None
    answer = redirect(begun.url)
    seconds = int(single_sign_on.ATTEMPT_LIFETIME.total_seconds())
    answer.set_cookie(
        COOKIE,
        begun.state,
        max_age=seconds,
        path=PATH,
        httponly=True,
        samesite="Lax",
        secure=call.url.startswith("https:"),
    )
    return answer


def callback(call: Call) -> Tokens:
    """The same browser must come back: its cookie holds the state that it left with. Providers add fields of their own
    to the query, so it is not held to a schema."""
    config, state, code = _config(call), request.args.get("state", ""), request.args.get("code", "")
    if not secrets.compare_digest(request.cookies.get(COOKIE, "").encode(), state.encode()):
        raise invalid_credentials(f"This login did not begin in this browser. Begin at {PATH}/start.")
    with transaction(call.engine) as session:
        attempt = single_sign_on.take_attempt(session, state=state, at=call.at)
    if attempt is None:
        raise invalid_credentials(f"This login was used already or is too old. Begin again at {PATH}/start.")
    if not code:
        raise invalid_credentials("The provider did not log you in.")
    try:
        claims = single_sign_on.claims_of(config, attempt, code=code, redirect_url=_callback(call))
        with transaction(call.engine) as session:
            user = single_sign_on.account_of(session, config, claims, at=call.at)
            return tokens_for(call, session, user.id, refresh_tokens.issue(session, user_id=user.id, at=call.at))
    except single_sign_on.SignOnFailed as error:
        raise invalid_credentials(str(error)) from None


def _config(call: Call) -> SingleSignOn:
    if call.single_sign_on is None:
        raise ApiError(404, "not_found", "Single sign-on is not set up here; TOKEN_TRACKER_OIDC_ISSUER would name it.")
    return call.single_sign_on


def _callback(call: Call) -> str:
    return f"{call.url}{PATH}/callback"


ROUTES = (
    Route(
        "GET", f"{PATH}/start", start, Open.TO_ALL, "Go to the single sign-on provider", status=302, errors=(404, 502)
    ),
    Route(
        "GET",
        f"{PATH}/callback",
        callback,
        Open.TO_ALL,
        "Come back from the provider: the login's tokens",
        Tokens,
        errors=(401, 404),
    ),
)
