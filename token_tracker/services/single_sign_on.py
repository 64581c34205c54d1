"""Single sign-on by OpenID Connect: authorization code with PKCE, each attempt good once and for ten minutes."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from token_tracker.config.values import SingleSignOn
from token_tracker.database.models import SingleSignOnAttempt, User
from token_tracker.domain.access import Role
from token_tracker.domain.problems import Conflict
from token_tracker.services import checks
from token_tracker.services.accounts import find_team, find_user

if TYPE_CHECKING:
    import httpx

ATTEMPT_LIFETIME = timedelta(minutes=10)
SCOPES = "openid profile email"
NO_PASSWORD = "-"  # noqa: S105 (no hash: nobody logs in with a password)
_TIMEOUT_S = 5.0
_SIGNATURES = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
_RANK = (Role.ADMIN, Role.MANAGER, Role.VIEWER, Role.MEMBER)  # of several roles, the first counts


class SignOnFailed(Exception):
    """The login did not happen; the message says why, for the person who tried."""


@dataclass(frozen=True, slots=True)
class Begun:
    """Where to send the browser, and the `state` that must come back by the same browser."""

    url: str
    state: str


def begin(session: Session, config: SingleSignOn, *, redirect_url: str, at: datetime) -> Begun:
    """Remember an attempt. Raises SignOnFailed if the provider cannot be asked."""
    from authlib.integrations.httpx_client import OAuth2Client  # not loaded where nobody signs on so

    endpoints = _endpoints(config)
    state, verifier, nonce = (secrets.token_urlsafe(48) for _ in range(3))
    client = OAuth2Client(
        config.client_id, redirect_uri=redirect_url, scope=SCOPES, code_challenge_method="S256", timeout=_TIMEOUT_S
    )
    url, _ = client.create_authorization_url(
        endpoints["authorization_endpoint"], state=state, code_verifier=verifier, nonce=nonce
    )
    session.execute(delete(SingleSignOnAttempt).where(SingleSignOnAttempt.created_at < at - ATTEMPT_LIFETIME))
    session.add(SingleSignOnAttempt(state=_hash(state), verifier=verifier, nonce=nonce, created_at=at))
    session.flush()
    return Begun(url, state)


def take_attempt(session: Session, *, state: str, at: datetime) -> SingleSignOnAttempt | None:
    """The attempt of that state, for the only time; to be committed before the provider is asked."""
    where = SingleSignOnAttempt.state == _hash(state)
    found = session.scalar(select(SingleSignOnAttempt).where(where).with_for_update())
    if found is None:
        return None
    session.delete(found)
    session.flush()
    return found if found.created_at >= at - ATTEMPT_LIFETIME else None


def claims_of(config: SingleSignOn, attempt: SingleSignOnAttempt, *, code: str, redirect_url: str) -> Mapping[str, Any]:
    """The verified claims of the ID token that the provider gives for `code`. Raises SignOnFailed."""
    from authlib.integrations.httpx_client import OAuth2Client

    endpoints = _endpoints(config)
    secret = config.client_secret.value if config.client_secret else None
    method = "client_secret_basic" if secret else "none"
    client = OAuth2Client(
        config.client_id, secret, redirect_uri=redirect_url, token_endpoint_auth_method=method, timeout=_TIMEOUT_S
    )
    token = _asked(lambda: client.fetch_token(endpoints["token_endpoint"], code=code, code_verifier=attempt.verifier))
    keys = _asked(lambda: _fetch(endpoints["jwks_uri"]))
    claims = _verified(config, token.get("id_token"), keys)
    if not secrets.compare_digest(str(claims.get("nonce", "")).encode(), attempt.nonce.encode()):
        raise SignOnFailed("The provider's answer belongs to another login. Try again.")
    return claims


def account_of(session: Session, config: SingleSignOn, claims: Mapping[str, Any], *, at: datetime) -> User:
    """The account of these claims, made at its first login; role and team follow the claims each time.

    Raises SignOnFailed (no role, disabled, no usable name) and Conflict (the name is a password account's).
    """
    role = _role(config, claims)
    if role is None:
        raise SignOnFailed("Your account at the provider has no role here. Ask an admin for one.")
    subject = f"{config.issuer} {claims['sub']}"[:512]
    user = session.scalar(select(User).where(User.single_sign_on == subject))
    if user is None:
        user = _new_user(session, subject, claims, role, at)
    if user.disabled_at is not None:
        raise SignOnFailed("Your account is disabled. Ask an admin.")
    if config.roles:
        user.role = str(role)
    if config.team_claim and (team := _text(claims.get(config.team_claim))):
        user.team_id = team if find_team(session, team) else user.team_id
    session.flush()
    return user


def _new_user(session: Session, subject: str, claims: Mapping[str, Any], role: Role, at: datetime) -> User:
    names = (claims.get("preferred_username"), claims.get("email"), claims.get("sub"))
    name = next((name for name in map(_text, names) if name and not checks.identity("name", name)), None)
    if name is None:
        raise SignOnFailed("The provider gave no user name that can be used here (letters, digits, . _ @ + -).")
    if find_user(session, name) is not None:
        raise Conflict(f"The user name '{name}' belongs to another account here. Ask an admin.")
    user = User(id=name, password_hash=NO_PASSWORD, role=str(role), created_at=at, single_sign_on=subject)
    session.add(user)
    return user


def _role(config: SingleSignOn, claims: Mapping[str, Any]) -> Role | None:
    value = claims.get(config.roles_claim)
    groups = value if isinstance(value, list) else [value]
    found = {config.roles[group] for group in groups if isinstance(group, str) and group in config.roles}
    for role in _RANK:
        if role in found:
            return role
    return Role(config.default_role) if config.default_role else None


def _endpoints(config: SingleSignOn) -> Mapping[str, str]:
    """What the provider says of itself; its issuer must be the one that was configured."""
    found = _asked(lambda: _fetch(f"{config.issuer}/.well-known/openid-configuration"))
    if str(found.get("issuer", "")).rstrip("/") != config.issuer:
        raise SignOnFailed("The provider calls itself by another name than TOKEN_TRACKER_OIDC_ISSUER.")
    missing = {"authorization_endpoint", "token_endpoint", "jwks_uri"} - found.keys()
    if missing:
        raise SignOnFailed(f"The provider does not name its {', '.join(sorted(missing))}.")
    return found


def _verified(config: SingleSignOn, id_token: object, keys: Mapping[str, Any]) -> Mapping[str, Any]:
    import jwt

    try:
        header = jwt.get_unverified_header(str(id_token))
        key = next(key for key in jwt.PyJWKSet.from_dict(dict(keys)).keys if key.key_id in (header.get("kid"), None))
        claims: dict[str, Any] = jwt.decode(
            str(id_token),
            key,
            algorithms=_SIGNATURES,
            audience=config.client_id,
            issuer=[config.issuer, config.issuer + "/"],
            options={"require": ["sub", "iss", "aud", "exp", "iat"]},
            leeway=30,
        )
    except (jwt.PyJWTError, StopIteration) as error:
        raise SignOnFailed(f"The provider's ID token cannot be trusted ({type(error).__name__}).") from None
    return claims


def _asked(ask: Callable[[], Any]) -> Mapping[str, Any]:
    import httpx
    from authlib.common.errors import AuthlibBaseError

    try:
        answer = ask()
    except (httpx.HTTPError, ValueError, AuthlibBaseError) as error:
        raise SignOnFailed(f"The provider did not answer as expected ({type(error).__name__}). Try again.") from None
    if not isinstance(answer, dict):
        raise SignOnFailed("The provider did not answer with a JSON object.")
    return answer


def _fetch(url: str) -> Any:
    import httpx

    answer: httpx.Response = httpx.get(url, timeout=_TIMEOUT_S, follow_redirects=False)
    return answer.raise_for_status().json()


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _hash(state: str) -> str:
    return hashlib.sha256(state.encode("utf-8", "surrogatepass")).hexdigest()
