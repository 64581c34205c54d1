"""Logging in and out, and changing one's own password."""

from __future__ import annotations

import math

from sqlalchemy.orm import Session

from token_tracker.api.errors import forbidden, invalid_credentials, too_many_attempts
from token_tracker.api.routing import Call, Open, Route
from token_tracker.api.schemas import Login, PasswordChange, Refresh, Tokens
from token_tracker.api.tokens import LIFETIME
from token_tracker.database.models import User
from token_tracker.database.session import reading, transaction
from token_tracker.domain.access import Permission
from token_tracker.services import accounts, refresh_tokens, throttle


def login(call: Call, body: Login) -> Tokens:
    user = _checked(call, body.username, body.password)
    if user is None:
        raise invalid_credentials("The user name or the password is wrong.")
    with transaction(call.engine) as session:
        return tokens_for(call, session, user.id, refresh_tokens.issue(session, user_id=user.id, at=call.at))


def refresh(call: Call, body: Refresh) -> Tokens:
    with transaction(call.engine) as session:
        rotated = refresh_tokens.rotate(session, token=body.refresh_token, at=call.at)
        tokens = tokens_for(call, session, rotated[0].id, rotated[1]) if rotated is not None else None
    if tokens is None:
        raise invalid_credentials("This refresh token is unknown, used, expired or revoked. Log in again.")
    return tokens


def logout(call: Call, body: Refresh) -> None:
    with transaction(call.engine) as session:
        refresh_tokens.revoke(session, token=body.refresh_token, at=call.at)


def change_password(call: Call, body: PasswordChange) -> None:
    if call.caller.token:
        raise forbidden("A service token cannot change a password. Log in as the person.")
    if _checked(call, call.caller.user, body.current_password) is None:
        raise invalid_credentials("The current password is wrong.")
    with transaction(call.engine) as session:
        accounts.set_password(session, user_id=call.caller.user, password=body.new_password, field="new_password")
        refresh_tokens.revoke_user(session, user_id=call.caller.user, at=call.at, but_family=call.caller.login)
        call.record(session, "user.password", call.caller.user)


def _checked(call: Call, username: str, password: str) -> User | None:
    """The account if the password is right. Raises ApiError (429) after too many wrong ones."""
    with transaction(call.engine) as session:
        wait = throttle.begin(session, username=username, address=call.address, at=call.at)
    if wait is not None:
        raise too_many_attempts(math.ceil(wait.total_seconds()))
    with reading(call.engine) as session:  # the slow check of the password holds no lock
        user = accounts.authenticate(session, username=username, password=password)
    if user is not None:
        with transaction(call.engine) as session:
            throttle.succeeded(session, username=username, address=call.address)
    return user


def tokens_for(call: Call, session: Session, user_id: str, refresh_token: str) -> Tokens:
    """A new pair; the refresh token is in the caller's transaction already."""
    login = refresh_tokens.family_of(session, token=refresh_token)
    return Tokens(call.tokens.issue(user_id, login, call.at), refresh_token, "Bearer", int(LIFETIME.total_seconds()))


ROUTES = (
    Route(
        "POST", "/api/auth/login", login, Open.TO_ALL, "Log in with a password", Tokens, body=Login, errors=(401, 429)
    ),
    Route(
        "POST",
        "/api/auth/refresh",
        refresh,
        Open.TO_ALL,
        "Exchange a refresh token",
        Tokens,
        body=Refresh,
        errors=(401,),
    ),
    Route("POST", "/api/auth/logout", logout, Open.TO_ALL, "End the token's login", status=204, body=Refresh),
    Route(
        "POST",
        "/api/auth/password",
        change_password,
        Permission.PASSWORD_CHANGE,
        "Change one's own password; all other logins end",
        status=204,
        body=PasswordChange,
        errors=(429,),
    ),
)
