"""Providers' keys. A change acts on the gateway within two seconds."""

from __future__ import annotations

from sqlalchemy.orm import Session

from token_tracker.api.credential_schemas import (
    Credential,
    CredentialChange,
    CredentialCreate,
    CredentialPage,
    CredentialQuery,
    ReEncrypted,
    credential_shown,
)
from token_tracker.api.routing import Call, Route
from token_tracker.api.schemas import given
from token_tracker.database.models import ProviderCredential
from token_tracker.database.session import reading, transaction
from token_tracker.domain.access import Permission
from token_tracker.services import provider_credentials as credentials


def list_credentials(call: Call, query: CredentialQuery) -> CredentialPage:
    with reading(call.engine) as session:
        page = credentials.list_credentials(session, name=query.name, limit=query.limit, cursor=query.cursor)
        users = credentials.used_by(session, [row.name for row in page.items])
        shown = [credential_shown(row, call.keyring, users[row.name]) for row in page.items]
        return CredentialPage(shown, page.next_cursor)


def create(call: Call, body: CredentialCreate) -> Credential:
    with transaction(call.engine) as session:
        made = credentials.create(
            session,
            name=body.name,
            provider=body.provider,
            api_key=body.api_key,
            keyring=call.keyring,
            created_by=call.caller.user,
            at=call.at,
        )
        shown = _shown(call, session, made)
        call.record(session, "provider_credential.create", made.id, after=shown)
        return shown


def show(call: Call, credential_id: str) -> Credential:
    with reading(call.engine) as session:
        return _shown(call, session, credentials.get(session, credential_id=credential_id))


def change(call: Call, credential_id: str, body: CredentialChange) -> Credential:
    with transaction(call.engine) as session:
        before = _shown(call, session, credentials.get(session, credential_id=credential_id))
        call.expect(before)
        changed = credentials.update(
            session, credential_id=credential_id, keyring=call.keyring, at=call.at, **given(body)
        )
        after = _shown(call, session, changed)
        call.record(session, "provider_credential.update", credential_id, before=before, after=after)
        return after


def delete(call: Call, credential_id: str) -> None:
    with transaction(call.engine) as session:
        before = _shown(call, session, credentials.get(session, credential_id=credential_id))
        call.expect(before)
        credentials.delete(session, credential_id=credential_id)
        call.record(session, "provider_credential.delete", credential_id, before=before)


def re_encrypt(call: Call) -> ReEncrypted:
    with transaction(call.engine) as session:
        done = ReEncrypted(credentials.re_encrypt(session, keyring=call.keyring))
        if done.re_encrypted:
            call.record(session, "provider_credential.re_encrypt", "all", after=done)
        return done


def _shown(call: Call, session: Session, row: ProviderCredential) -> Credential:
    return credential_shown(row, call.keyring, credentials.used_by(session, [row.name])[row.name])


READ, MANAGE = Permission.CREDENTIALS_READ, Permission.CREDENTIALS_MANAGE
PATH = "/api/provider-credentials"
ROUTES = (
    Route("GET", PATH, list_credentials, READ, "Providers' keys, masked", CredentialPage, query=CredentialQuery),
    Route(
        "POST",
        PATH,
        create,
        MANAGE,
        "Keep a provider's key, encrypted",
        Credential,
        201,
        body=CredentialCreate,
        errors=(409,),
    ),
    Route("GET", PATH + "/{credential_id}", show, READ, "One provider's key, masked", Credential),
    Route(
        "PATCH",
        PATH + "/{credential_id}",
        change,
        MANAGE,
        "Give another key",
        Credential,
        body=CredentialChange,
        errors=(409, 412),
    ),
    Route(
        "DELETE",
        PATH + "/{credential_id}",
        delete,
        MANAGE,
        "Delete one that nothing uses",
        status=204,
        errors=(409, 412),
    ),
    Route(
        "POST",
        PATH + "/re-encrypt",
        re_encrypt,
        MANAGE,
        "Encrypt all under the first encryption key",
        ReEncrypted,
        errors=(409,),
    ),
)
