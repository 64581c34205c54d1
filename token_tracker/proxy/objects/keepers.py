"""What is done with an answer about stored objects before the client gets it."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec
from msgspec import structs

from token_tracker.proxy.books.publication import KeyRecord
from token_tracker.proxy.books.records import Stored
from token_tracker.proxy.call import Attempt
from token_tracker.proxy.dialects.facts import UNREADABLE, facts
from token_tracker.proxy.lanes.failures import UnreadableAnswer
from token_tracker.proxy.objects.desk import ID_CHARACTERS, Desk

_split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_OUTPUTS = ("output_file_id", "error_file_id")


class Maker:
    """Notes whose it is what the answer names. `is_whole`: no answer of this kind is streamed.

    A background response is pending until its usage is told: by its own stream, or by a later retrieval.
    """

    def __init__(self, desk: Desk, attempt: Attempt, stored: Stored, *, is_whole: bool) -> None:
        self.is_whole = is_whole
        self._desk, self._stored = desk, stored
        attempt.is_pending = stored.is_background

    async def heard(self, attempt: Attempt, body: bytes) -> bytes:
        reading, stored = attempt.reading, self._stored
        if not stored.id and reading.upstream_id and len(reading.upstream_id) <= ID_CHARACTERS:
            stored = self._stored = structs.replace(stored, id=reading.upstream_id)
            await self._desk.keep(stored)
        if attempt.is_pending and reading.usage is not None and reading.is_final:
            attempt.is_pending = bool(stored.id) and not await self._desk.claim(stored, attempt.id)
        return body


class Meter:
    """Books the usage of a background response with the first retrieval that shows it, and with no other."""

    is_whole = False

    def __init__(self, desk: Desk, stored: Stored) -> None:
        self._desk, self._stored, self._has_asked = desk, stored, False

    async def heard(self, attempt: Attempt, body: bytes) -> bytes:
        reading = attempt.reading
        if reading.usage is not None and reading.is_final and not self._has_asked:
            self._has_asked = True
            if not await self._desk.claim(self._stored, attempt.id):
                reading.usage, reading.is_final = None, False
        return body


class Remover:
    """Forgets what the upstream has deleted."""

    is_whole = True

    def __init__(self, desk: Desk, stored: Stored) -> None:
        self._desk, self._stored = desk, stored

    async def heard(self, attempt: Attempt, body: bytes) -> bytes:
        await self._desk.keep(structs.replace(self._stored, is_deleted=True, at_us=attempt.opened.timestamp_us))
        return body


class Outputs:
    """The files that a batch writes belong to whom the batch belongs to."""

    is_whole = True

    def __init__(self, desk: Desk, batch: Stored) -> None:
        self._desk, self._batch = desk, batch

    async def heard(self, attempt: Attempt, body: bytes) -> bytes:
        named = facts(body, *_OUTPUTS).values()
        files = [name for name in named if isinstance(name, str) and 0 < len(name) <= ID_CHARACTERS]
        if files:
            made = structs.replace(self._batch, kind="file", is_background=False, metered_by="")
            await self._desk.keep(*(structs.replace(made, id=name) for name in files))
        return body


class OwnItems:
    """Takes out of a list what is others'. `limit`: how many the client asked for, where the upstream was asked for
    more; None: as many as there are."""

    is_whole = True

    def __init__(self, desk: Desk, key: KeyRecord, kind: str, account: str, limit: int | None) -> None:
        self._desk, self._key, self._kind, self._account, self._limit = desk, key, kind, account, limit

    async def heard(self, attempt: Attempt, body: bytes) -> bytes:
        try:
            fields = _split(body)
            items = _items(fields["data"])
        except (KeyError, *UNREADABLE):
            raise UnreadableAnswer("a list of objects that cannot be read") from None
        named = [(str(facts(bytes(item), "id").get("id")), item) for item in items]
        try:
            own = await self._desk.all_owned(self._kind, [name for name, _ in named], self._key, self._account)
        except sqlite3.Error:
            raise UnreadableAnswer("nobody knows whose the objects are") from None
        mine = [pair for pair in named if pair[0] in own]
        return self._told(fields, mine[: self._limit], len(mine))

    def _told(self, fields: dict[str, Any], shown: list[tuple[str, msgspec.Raw]], count: int) -> bytes:
        told: dict[str, Any] = {**fields, "data": [item for _, item in shown]}
        has_more = bytes(fields.get("has_more", b"false")) == b"true"
        if "has_more" in fields:
            told["has_more"] = has_more or count > len(shown)
        if "first_id" in fields:
            told["first_id"] = shown[0][0] if shown else None
        if "last_id" in fields and (shown or not has_more):  # else where the next page begins
            told["last_id"] = shown[-1][0] if shown else None
        return msgspec.json.encode(told)
