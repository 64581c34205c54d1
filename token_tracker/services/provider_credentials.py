"""Providers' keys: encrypted before they reach the database, never given out again, used by deployments by name."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker.config.encryption import HOW_TO_MAKE_ONE, CannotDecrypt, Keyring
from token_tracker.database.models import OfferedModel, ProviderCredential
from token_tracker.domain.problems import Conflict, Invalid, NotFound
from token_tracker.services import checks
from token_tracker.services.pages import DEFAULT_LIMIT, Page, newest_first
from token_tracker.services.usage import format_time

KEY_CHARACTERS = 8192
CONFIG = "config"  # only entries of proxy.yaml name credentials
_PROVIDER = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_HINTED_FROM = 16  # characters: of a shorter key the last ones would tell too much
_HINT = 4
_NAMED = 20  # models that a refusal lists


def create(
    session: Session, *, name: str, provider: str, api_key: str, keyring: Keyring, created_by: str, at: datetime
) -> ProviderCredential:
    """Raises Invalid with all problems, Conflict (the name is taken, or there is no key to encrypt with)."""
    problems = checks.identity("name", name) + _provider_problems(provider) + _key_problems(api_key)
    if problems:
        raise Invalid(problems)
    if session.scalar(select(ProviderCredential.id).where(ProviderCredential.name == name)) is not None:
        raise Conflict(f"There is a provider credential '{name}' already: change it, or take another name.")
    made = ProviderCredential(
        id=f"credential_{secrets.token_hex(12)}", name=name, provider=provider, created_at=at, created_by=created_by
    )
    _set_key(made, api_key, keyring)
    session.add(made)
    session.flush()
    return made


def get(session: Session, *, credential_id: str) -> ProviderCredential:
    """Raises NotFound."""
    return _found(session, credential_id)


def named(session: Session, name: str) -> ProviderCredential:
    """By its name or its id. Raises NotFound."""
    if checks.may_be_stored(name):
        found = session.scalar(select(ProviderCredential).where(ProviderCredential.name == name))
        if found is not None:
            return found
    return _found(session, name)


def public(row: ProviderCredential, keyring: Keyring, users: Sequence[str]) -> dict[str, Any]:
    """What may be shown of a credential, as JSON has it: `hint`, the key's last characters; `readable`, whether this
    keyring decrypts it. `users`: as `used_by` has them."""
    return {
        "id": row.id,
        "name": row.name,
        "provider": row.provider,
        "hint": row.hint,
        "readable": readable(row, keyring),
        "used_by": list(users),
        "created_at": format_time(row.created_at),
        "created_by": row.created_by,
        "updated_at": None if row.updated_at is None else format_time(row.updated_at),
    }


def list_credentials(
    session: Session, *, name: str | None = None, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[ProviderCredential]:
    """Newest first. Raises Invalid."""
    statement = select(ProviderCredential)
    if name is not None:
        statement = statement.where(ProviderCredential.name == name)
    return newest_first(session, statement, ProviderCredential, limit=limit, cursor=cursor)


def update(
    session: Session,
    *,
    credential_id: str,
    keyring: Keyring,
    at: datetime,
    provider: str | None = None,
    api_key: str | None = None,
) -> ProviderCredential:
    """Change what is given; the name stays, for deployments use it. Raises NotFound, Invalid, Conflict."""
    found = _found(session, credential_id, locked=True)
    problems = [] if provider is None else _provider_problems(provider)
    problems += [] if api_key is None else _key_problems(api_key)
    if problems:
        raise Invalid(problems)
    found.provider = found.provider if provider is None else provider
    if api_key is not None:
        _set_key(found, api_key, keyring)
    if provider is not None or api_key is not None:
        found.updated_at = at
    session.flush()
    return found


def delete(session: Session, *, credential_id: str) -> ProviderCredential:
    """Raises NotFound, Conflict naming the models that use it."""
    found = _found(session, credential_id, locked=True)
    if users := used_by(session, [found.name])[found.name]:
        named = ", ".join(users[:_NAMED]) + (f" and {len(users) - _NAMED} more" if len(users) > _NAMED else "")
        raise Conflict(
            f"The provider credential '{found.name}' is used by {named}; it was not deleted. Take it out of these "
            "entries of proxy.yaml first, or give it another key."
        )
    session.delete(found)
    session.flush()
    return found


def used_by(session: Session, names: Iterable[str]) -> dict[str, list[str]]:
    """Of each credential, the names of the models with a deployment that uses it, sorted."""
    users: dict[str, set[str]] = {name: set() for name in names}
    named = select(OfferedModel.name, OfferedModel.document).where(OfferedModel.source == CONFIG)
    for model, document in session.execute(named):
        for deployment in document["deployments"]:
            if (credential := deployment.get("credential")) in users:
                users[credential].add(model)
    return {name: sorted(models) for name, models in users.items()}


def unknown_names(session: Session, names: Iterable[str]) -> set[str]:
    """Those of `names` that no credential has."""
    wanted = set(names)
    return wanted - set(session.scalars(select(ProviderCredential.name).where(ProviderCredential.name.in_(wanted))))


def re_encrypt(session: Session, *, keyring: Keyring) -> list[str]:
    """Put all of them under the keyring's first key, so that the others can go; the names of those that were not yet.

    All or none. Raises Conflict naming those that no key decrypts.
    """
    _check(keyring)
    renewed: dict[str, str] = {}
    unreadable: list[str] = []
    rows = session.scalars(select(ProviderCredential).order_by(ProviderCredential.name).with_for_update()).all()
    for row in rows:
        try:
            sealed = keyring.renewed(row.sealed)
        except CannotDecrypt:
            unreadable.append(row.name)
            continue
        if sealed != row.sealed:
            renewed[row.name] = row.sealed = sealed
    if unreadable:
        raise Conflict(
            f"None of the keys in TOKEN_TRACKER_ENCRYPTION_KEY decrypts {', '.join(unreadable[:_NAMED])}; nothing was "
            "changed. Add the key that these were encrypted under, or give them their providers' keys again."
        )
    session.flush()
    return list(renewed)


def readable(row: ProviderCredential, keyring: Keyring) -> bool:
    """Whether a process with this keyring can use it."""
    try:
        keyring.decrypt(row.sealed)
    except CannotDecrypt:
        return False
    return True


def opened(session: Session, keyring: Keyring) -> dict[str, str | None]:
    """Each name and its key in the clear; None where no key of the keyring decrypts it."""
    found: dict[str, str | None] = {}
    for name, sealed in sealed_by_name(session).items():
        try:
            found[name] = keyring.decrypt(sealed)
        except CannotDecrypt:
            found[name] = None
    return found


def sealed_by_name(session: Session) -> Mapping[str, str]:
    """What gateways get: each name and its key, encrypted as it is stored."""
    rows = session.execute(select(ProviderCredential.name, ProviderCredential.sealed).order_by(ProviderCredential.name))
    return {row.name: row.sealed for row in rows}


def _set_key(row: ProviderCredential, api_key: str, keyring: Keyring) -> None:
    _check(keyring)
    row.sealed = keyring.encrypt(api_key)
    row.hint = "…" + (api_key[-_HINT:] if len(api_key) >= _HINTED_FROM else "")


def _check(keyring: Keyring) -> None:
    if not keyring:
        raise Conflict(
            f"There is no key to encrypt providers' keys with, so nothing was stored: {HOW_TO_MAKE_ONE}. Then restart."
        )


def _provider_problems(provider: object) -> checks.Problems:
    if isinstance(provider, str) and _PROVIDER.fullmatch(provider):
        return []
    return [("provider", "must be a provider's name as in LiteLLM's model names: openai, anthropic, groq, azure")]


def _key_problems(api_key: object) -> checks.Problems:
    problems = checks.text("api_key", api_key, at_most=KEY_CHARACTERS)
    if not problems and isinstance(api_key, str) and (not api_key.isascii() or api_key != api_key.strip()):
        return [("api_key", "must be ASCII without spaces around it: it goes into a header")]
    return problems


def _found(session: Session, credential_id: str, *, locked: bool = False) -> ProviderCredential:
    known = checks.may_be_stored(credential_id)
    found = session.get(ProviderCredential, credential_id, with_for_update=locked) if known else None
    if found is None:
        raise NotFound("provider credential", credential_id)
    return found
