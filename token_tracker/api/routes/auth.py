"""Logging in and out."""

from __future__ import annotations

from token_tracker.api.errors import invalid_credentials
from token_tracker.api.routing import Call, Open, Route
from token_tracker.api.schemas import Login, Refresh, Tokens
from token_tracker.api.tokens import LIFETIME
from token_tracker.database.session import reading, transaction
from token_tracker.services import accounts, refresh_tokens


def login(call: Call, body: Login) -> Tokens:
    with reading(call.engine) as session:  # the slow check of the password holds no lock
        user = accounts.authenticate(session, username=body.username, password=body.password)
    if user is None:
        raise invalid_credentials("The user name or the password is wrong.")
    with transaction(call.engine) as session:
        return _tokens(call, user.id, refresh_tokens.issue(session, user_id=user.id, at=call.at))


def refresh(call: Call, body: Refresh) -> Tokens:
    with transaction(call.engine) as session:
        rotated = refresh_tokens.rotate(session, token=body.refresh_token, at=call.at)
    if rotated is None:
        raise invalid_credentials("This refresh token is unknown, used, expired or revoked. Log in again.")
    user, token = rotated
    return _tokens(call, user.id, token)


def logout(call: Call, body: Refresh) -> None:
    with transaction(call.engine) as session:
        refresh_tokens.revoke(session, token=body.refresh_token, at=call.at)


def _tokens(call: Call, user_id: str, refresh_token: str) -> Tokens:
    return Tokens(call.tokens.issue(user_id, call.at), refresh_token, "Bearer", int(LIFETIME.total_seconds()))


ROUTES = (
    Route("POST", "/api/auth/login", login, Open.TO_ALL, "Log in with a password", Tokens, body=Login),
    Route("POST", "/api/auth/refresh", refresh, Open.TO_ALL, "Exchange a refresh token", Tokens, body=Refresh),
    Route("POST", "/api/auth/logout", logout, Open.TO_ALL, "End the token's login", status=204, body=Refresh),
)
