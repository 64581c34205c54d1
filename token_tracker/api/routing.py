"""A route as data: address, permission, what it takes and answers; the app and openapi.json are made from it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

import msgspec
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from token_tracker.api.errors import precondition_failed
from token_tracker.api.tokens import AccessTokens
from token_tracker.config.encryption import Keyring
from token_tracker.config.values import SingleSignOn
from token_tracker.domain.access import EVERYTHING, Permission, Role, Scope
from token_tracker.services import audit
from token_tracker.services.audit import Actor


def etag_of(document: msgspec.Struct) -> str:
    """The `ETag` of an object: the same while its document is."""
    return f'"{hashlib.sha256(msgspec.json.encode(document)).hexdigest()[:32]}"'


MAX_BODY_BYTES = 262_144


class Open(Enum):
    """Instead of a permission, for the few routes that need no account."""

    TO_ALL = "open to all"


@dataclass(frozen=True, slots=True)
class Account:
    """Who asks."""

    user: str
    role: Role
    team: str | None
    login: str = ""  # of a person who logged in
    token: str = ""  # the id of a service token
    permissions: frozenset[str] | None = None  # what a service token may; None: all that its account may


@dataclass(frozen=True, slots=True)
class Answer:
    """A document with another status than the route's."""

    document: msgspec.Struct
    status: int


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler works with. `scope` is how far the account may use the route's permission; `at` is now."""

    engine: Engine
    tokens: AccessTokens
    at: datetime
    account: Account | None = None
    scope: Scope = EVERYTHING
    address: str = ""
    request_id: str = ""
    if_match: str = ""
    single_sign_on: SingleSignOn | None = None
    url: str = ""  # of the API, as people reach it
    keyring: Keyring = field(default_factory=Keyring)

    def expect(self, document: msgspec.Struct) -> None:
        """Raises ApiError (412) if the request is about another state of what is to be changed than this one."""
        if self.if_match not in ("", "*") and etag_of(document) not in map(str.strip, self.if_match.split(",")):
            raise precondition_failed()

    @property
    def actor(self) -> Actor:
        """Who asks, as the audit log names it."""
        return Actor(self.caller.user, self.caller.token, self.address, self.request_id)

    def record(
        self,
        session: Session,
        action: str,
        object_id: str,
        *,
        before: msgspec.Struct | None = None,
        after: msgspec.Struct | None = None,
    ) -> None:
        """Into the audit log, in the transaction that changes: what is shown of the object, before and after."""
        shown = [None if each is None else msgspec.to_builtins(each) for each in (before, after)]
        audit.record(session, self.actor, action, object_id, at=self.at, before=shown[0], after=shown[1])

    @property
    def caller(self) -> Account:
        """The account; every route with a permission has one."""
        assert self.account is not None
        return self.account


@dataclass(frozen=True, slots=True)
class Route:
    """`handler(call, **path, query=…, body=…)` returns the document to answer, or a finished response.

    `path` is written as in OpenAPI, `/api/keys/{key_id}`. `query` and `body` are schemas of what is taken. `also` are
    media types of other answers than JSON, `other_statuses` of the same answer, `also_answers` other JSON. A handler
    without `body` may read the request itself: `reads` says what it takes. `errors` are statuses of refusals beyond
    those that follow from the rest of a route (`openapi.py`); with 412 it takes `If-Match`.
    """

    method: str
    path: str
    handler: Callable[..., Any]
    permission: Permission | Open
    summary: str
    answer: type[msgspec.Struct] | None = None
    status: int = 200
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    also: tuple[str, ...] = ()
    max_body_bytes: int = MAX_BODY_BYTES
    other_statuses: tuple[int, ...] = ()
    also_answers: tuple[type[msgspec.Struct], ...] = ()
    reads: str = ""
    errors: tuple[int, ...] = ()
