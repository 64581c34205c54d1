"""Knows who owns which stored object: writes down what is made here, and finds it again in the local index."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from msgspec import structs

from token_tracker.proxy.books.journal import JournalUnavailable
from token_tracker.proxy.books.object_index import SYNCED_TO, ObjectIndex
from token_tracker.proxy.books.publication import KeyRecord
from token_tracker.proxy.books.records import Stored, owner_of
from token_tracker.proxy.call import Attempt
from token_tracker.proxy.objects.refusals import object_not_found, objects_unavailable

log = logging.getLogger("token_tracker.gateway")

ID_CHARACTERS = 255
REMEMBERED = 10_000  # what the index could not take, until the recorder can
_Result = TypeVar("_Result")


class ObjectJournal(Protocol):
    def stored(self, record: Stored) -> None: ...


class Desk:
    """One worker's. The index is asked in a thread of its own, so that the event loop waits for no disk."""

    def __init__(self, journal: ObjectJournal, index: ObjectIndex) -> None:
        self._journal, self._index = journal, index
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="objects")
        self._unwritten: OrderedDict[tuple[str, str], Stored] = OrderedDict()
        self._is_synced = False

    async def keep(self, *records: Stored) -> None:
        """Write down who owns what, before the client learns of it. Raises JournalUnavailable."""
        for record in records:
            self._journal.stored(record)
        try:
            await self._asked(lambda: self._index.put(records))
        except sqlite3.Error as error:
            log.error("the index of stored objects cannot be written (%s); the journal has them", error)
            for record in records:
                self._unwritten[record.kind, record.id] = record
            while len(self._unwritten) > REMEMBERED:
                self._unwritten.popitem(last=False)

    async def owned(self, kind: str, identity: str, key: KeyRecord, param: str = "id") -> Stored:
        """The object, if it is of the key's team. Raises Refusal: one 404 for all else."""
        owner = owner_of(key.team, key.user)
        mine = [each for each in await self._known(kind, identity) if each.owner == owner]
        if not mine:
            raise object_not_found(kind, identity, param)
        return max(mine, key=lambda each: each.at_us)

    async def check_not_others(self, kind: str, identities: Iterable[str], key: KeyRecord, param: str) -> None:
        """Raises Refusal, the same 404, where one is known and not the key's team's. What nobody made here passes."""
        owner = owner_of(key.team, key.user)
        for identity in identities:
            found = await self._known(kind, identity)
            if found and not any(each.owner == owner for each in found):
                raise object_not_found(kind, identity, param)

    async def all_owned(self, kind: str, identities: list[str], key: KeyRecord, account: str) -> set[str]:
        """Those of the ids in an account that are the key's team's. Raises sqlite3.Error."""
        owner = owner_of(key.team, key.user)
        found = await self._asked(lambda: self._index.owned(kind, identities, owner, account))
        kept = [self._unwritten.get((kind, each)) for each in identities]
        return found | {each.id for each in kept if each and each.owner == owner and each.account == account}

    async def claim(self, stored: Stored, call_id: str) -> bool:
        """Whether this call books the usage of a background response: the first one that saw it does."""
        try:
            if not await self._asked(lambda: self._index.claim(stored, call_id)):
                return False
        except sqlite3.Error as error:
            log.error("a background response stays unmetered, for the index cannot be written: %s", error)
            return False
        try:
            self._journal.stored(structs.replace(stored, metered_by=call_id))
        except JournalUnavailable:
            log.error("other gateways do not learn that the response %s is metered: no room", stored.id)
        return True

    def close(self) -> None:
        self._thread.shutdown()
        self._index.close()

    async def _known(self, kind: str, identity: str) -> list[Stored]:
        """The live objects of that id, whosever they are. Raises Refusal (503) while nobody can tell."""
        try:
            found = await self._asked(lambda: self._index.find(kind, identity))
            found += [each for each in (self._unwritten.get((kind, identity)),) if each and not each.is_deleted]
            if not found and not self._is_synced:
                self._is_synced = bool(await self._asked(lambda: self._index.fact(SYNCED_TO)))
        except sqlite3.Error as error:
            log.error("the index of stored objects cannot be read: %s", error)
            raise objects_unavailable() from None
        if not found and not self._is_synced:
            raise objects_unavailable()
        return found

    async def _asked(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def made_by(attempt: Attempt, kind: str, account: str, *, is_background: bool = False) -> Stored:
    """What an attempt is about to make; its id is still to come."""
    opened = attempt.opened
    return Stored(
        kind=kind,
        id="",
        account=account,
        deployment=attempt.target.deployment.name,
        provider=opened.provider,
        model=opened.model,
        team=opened.subject.team,
        user=opened.subject.user,
        key_id=opened.subject.key_id,
        call_id=opened.call_id,
        at_us=time.time_ns() // 1000,
        is_background=is_background,
    )
