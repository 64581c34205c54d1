"""`credentials`: providers' keys in the database. They are read from stdin or asked for, never words of a command."""

from __future__ import annotations

from typing import Any

import click
from sqlalchemy.orm import Session

from token_tracker.cli import shown
from token_tracker.cli.context import COMMAND_LINE, actor, books, keyring, now, say, secret
from token_tracker.cli.keys import every
from token_tracker.cli.options import as_json
from token_tracker.config.encryption import Keyring
from token_tracker.config.load import load_settings
from token_tracker.database.models import ProviderCredential
from token_tracker.database.session import reading, transaction
from token_tracker.services import audit
from token_tracker.services import provider_credentials as service
from token_tracker.services.pages import MAX_LIMIT

_COLUMNS = ("id", "name", "provider", "hint", "readable", "used_by", "created_at", "updated_at")
_ASKED = "The provider's key"


@click.group(no_args_is_help=True)
def credentials() -> None:
    """Providers' keys, encrypted in the database: create, list, change, delete."""


@credentials.command("list")
@as_json
def list_(as_json: bool) -> None:
    """List them by their names and last characters, newest first."""
    ring = keyring(load_settings())
    with books() as engine, reading(engine) as session:
        found = list(every(lambda cursor: service.list_credentials(session, limit=MAX_LIMIT, cursor=cursor)))
        items = [_document(session, row, ring) for row in found]
    shown.listed(items, _COLUMNS, as_json)


@credentials.command()
@click.argument("name")
@click.argument("provider")
@as_json
def create(name: str, provider: str, as_json: bool) -> None:
    """Keep a PROVIDER's key, which is asked for or read from stdin, under the NAME that proxy.yaml calls it by."""
    ring, at, api_key = keyring(load_settings()), now(), secret(_ASKED)
    with books() as engine, transaction(engine) as session:
        made = service.create(
            session, name=name, provider=provider, api_key=api_key, keyring=ring, created_by=COMMAND_LINE, at=at
        )
        document = _document(session, made, ring)
        audit.record(session, actor(), "provider_credential.create", made.id, at=at, after=document)
    _tell(document, "is kept", as_json)


@credentials.command()
@click.argument("name")
@click.option("--provider", help="Correct whose key it is; the key itself stays.")
@as_json
def change(name: str, provider: str | None, as_json: bool) -> None:
    """Give a credential, by name or id, another key, which is asked for or read from stdin."""
    ring, at = keyring(load_settings()), now()
    changes: dict[str, Any] = {"api_key": secret(_ASKED)} if provider is None else {"provider": provider}
    with books() as engine, transaction(engine) as session:
        row = service.named(session, name)
        before = _document(session, row, ring)
        service.update(session, credential_id=row.id, keyring=ring, at=at, **changes)
        document = _document(session, row, ring)
        audit.record(session, actor(), "provider_credential.update", row.id, at=at, before=before, after=document)
    _tell(document, "is changed", as_json)


@credentials.command()
@click.argument("name")
def delete(name: str) -> None:
    """Delete a credential, by name or id, that no model uses."""
    ring, at = keyring(load_settings()), now()
    with books() as engine, transaction(engine) as session:
        row = service.named(session, name)
        before = _document(session, row, ring)
        service.delete(session, credential_id=row.id)
        audit.record(session, actor(), "provider_credential.delete", row.id, at=at, before=before)
    say(f"The credential '{before['name']}' is deleted.")


def _document(session: Session, row: ProviderCredential, ring: Keyring) -> dict[str, Any]:
    return service.public(row, ring, service.used_by(session, [row.name])[row.name])


def _tell(document: dict[str, Any], done: str, as_json: bool) -> None:
    if as_json:
        shown.document(document)
    else:
        say(f"The credential '{document['name']}' ({document['id']}) {done}; gateways follow within seconds.")
