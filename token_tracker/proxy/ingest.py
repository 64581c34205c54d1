"""`POST /v1/usage/events`: takes usage that was metered elsewhere into the journal, each event once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from token_tracker.domain.access import KeyPermission
from token_tracker.domain.errors import Refusal, invalid_request, permission_required, request_too_large
from token_tracker.domain.pricing import Choice
from token_tracker.proxy.auth import Keys, authenticate
from token_tracker.proxy.body import Receive, read_body
from token_tracker.proxy.books.journal import JournalUnavailable
from token_tracker.proxy.books.publication import KeyRecord
from token_tracker.proxy.books.records import End, Subject
from token_tracker.proxy.events import (
    DAYS_BACK,
    Event,
    Rejected,
    end_record,
    event_id,
    ledger_id,
    read_event,
)
from token_tracker.proxy.headers import split
from token_tracker.proxy.subject import AGENT_CHARACTERS, NAME_CHARACTERS, TAG_CHARACTERS, clean

EVENTS_MAX = 1000
BODY_MAX_BYTES = 4 * 1024 * 1024
REMEMBERED_IDS = 100_000
_AT_ONCE = 4  # events between two turns of the event loop: calls in flight never wait for an array


class Prices(Protocol):
    """What prices an event: the price that holds now for a provider's model."""

    def named(self, provider: str, model: str) -> Choice: ...


class Ends(Protocol):
    """What the journal does for an event."""

    def book(self, record: End) -> None: ...


@dataclass(slots=True)
class Ingest:
    """One worker's intake. Ids beyond the last 100,000, and those of other workers, are recognised by the ledger."""

    keys: Keys
    prices: Prices
    journal: Ends
    max_body_bytes: int
    silence_s: float
    retention_days: int | None = None
    _remembered: dict[str, None] = field(default_factory=dict)
    _members: Mapping[str, frozenset[str]] = field(default_factory=dict)
    _members_of: object = None

    async def take(self, scope: Mapping[str, Any], receive: Receive) -> dict[str, Any]:
        """The answer to a request. Raises Refusal and ClientLeft; what was accepted before a 503 stays accepted, and
        is a `duplicate` when the request comes again."""
        own = split(scope["headers"]).own
        key = authenticate(own, self.keys, time.time_ns() // 1000)
        if KeyPermission.INGEST not in key.permissions:
            raise permission_required(KeyPermission.INGEST)
        body = await read_body(receive, own, min(self.max_body_bytes, BODY_MAX_BYTES), self.silence_s)
        results: list[dict[str, Any]] = []
        for number, raw in enumerate(_events(body), start=1):
            results.append(self._take_one(key, raw))
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        counts = {state: sum(each["status"] == state for each in results) for state in _STATES}
        return counts | {"results": results}

    def _take_one(self, key: KeyRecord, raw: msgspec.Raw) -> dict[str, Any]:
        try:
            known = read_event(raw, datetime.now(UTC), min(DAYS_BACK, self.retention_days or DAYS_BACK))
        except Rejected as reason:
            return {"id": event_id(raw), "status": "rejected", "reason": str(reason)}
        event = known.event
        row_id = ledger_id(f"team:{key.team}" if key.team else f"user:{key.user}", event.id)
        if row_id in self._remembered:
            return {"id": event.id, "status": "duplicate"}
        price = self.prices.named(event.provider, event.model)
        try:
            self.journal.book(end_record(known, self._subject(key, event, known.metadata), row_id, price))
        except JournalUnavailable:
            raise journal_unavailable() from None
        self._remember(row_id)
        return {"id": event.id, "status": "accepted"}

    def _remember(self, row_id: str) -> None:
        self._remembered[row_id] = None
        if len(self._remembered) > REMEMBERED_IDS:
            del self._remembered[next(iter(self._remembered))]

    def _subject(self, key: KeyRecord, event: Event, metadata: str) -> Subject:
        """The team is always the key's. `user` may name the key's own user or one with a live key in its team; any
        other name is what OpenAI's `user` is: the end user."""
        named = clean(event.user, NAME_CHARACTERS)
        is_member = bool(key.team) and named in self._users_of(key.team)
        return Subject(
            key_id=key.id,
            user=named if is_member else key.user,
            team=key.team,
            agent=key.agent or clean(event.agent, AGENT_CHARACTERS),
            session=clean(event.session, NAME_CHARACTERS),
            end_user=clean(event.end_user, NAME_CHARACTERS) or ("" if is_member or named == key.user else named),
            tags=tuple(dict.fromkeys(filter(None, (clean(tag, TAG_CHARACTERS) for tag in event.tags)))),
            metadata=metadata,
        )

    def _users_of(self, team: str) -> frozenset[str]:
        keys = self.keys.keys
        if keys is not self._members_of:  # a new snapshot
            members: dict[str, set[str]] = {}
            for record in keys.values():
                members.setdefault(record.team, set()).add(record.user)
            self._members = {name: frozenset(users) for name, users in members.items()}
            self._members_of = keys
        return self._members.get(team, frozenset())


_STATES = ("accepted", "duplicate", "rejected")


def _events(body: bytes) -> list[msgspec.Raw]:
    """The events of a body, each still as its bytes. Raises Refusal: nothing of it was taken."""
    try:
        if body.lstrip()[:1] == b"[":
            events = msgspec.json.decode(body, type=list[msgspec.Raw])
        else:
            events = [msgspec.json.decode(body, type=msgspec.Raw)]
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise invalid_request("The body is not JSON: send one event, or an array of events.") from None
    if len(events) > EVENTS_MAX:
        raise invalid_request(f"The array has {len(events)} events; at most {EVENTS_MAX} are taken at once.")
    if sum(map(len, map(bytes, events))) > BODY_MAX_BYTES:
        raise request_too_large(BODY_MAX_BYTES)
    return events


def journal_unavailable(retry_after_s: int = 5) -> Refusal:
    return Refusal(
        503,
        "journal_unavailable",
        "An event could not be written to the journal (is the disk full?). Those before it are kept; send all again, "
        "and they are answered as duplicates.",
        retry_after_s,
    )
