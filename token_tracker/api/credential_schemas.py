"""What the API takes and answers about providers' keys; never the keys themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from token_tracker.api.schemas import Identity, Input, PageQuery
from token_tracker.config.encryption import Keyring
from token_tracker.database.models import ProviderCredential
from token_tracker.services.provider_credentials import KEY_CHARACTERS, public

ProviderName = Annotated[
    str, Meta(min_length=1, max_length=64, description="as in LiteLLM's model names: openai, anthropic, groq, azure")
]
ProviderKey = Annotated[str, Meta(min_length=1, max_length=KEY_CHARACTERS, description="never shown again")]


class CredentialQuery(PageQuery, frozen=True):
    name: Identity | None = None


class CredentialCreate(Input, frozen=True):
    """`name`: what deployments in proxy.yaml call it, as `litellm_credential_name`."""

    name: Identity
    provider: ProviderName
    api_key: ProviderKey


class CredentialChange(Input, frozen=True):
    provider: ProviderName | UnsetType = UNSET
    api_key: ProviderKey | UnsetType = UNSET


class Credential(Struct, frozen=True):
    """`hint`: the key's last characters. `readable`: whether the API's encryption keys decrypt it. `used_by`: models
    with a deployment that uses it."""

    id: str
    name: str
    provider: str
    hint: str
    readable: bool
    used_by: list[str]
    created_at: str
    created_by: str
    updated_at: str | None


class CredentialPage(Struct, frozen=True):
    items: list[Credential]
    next_cursor: str | None


class ReEncrypted(Struct, frozen=True):
    """`re_encrypted`: names of those that stood under another key than the first."""

    re_encrypted: list[str]


def credential_shown(row: ProviderCredential, keyring: Keyring, users: Sequence[str]) -> Credential:
    return Credential(**public(row, keyring, users))
