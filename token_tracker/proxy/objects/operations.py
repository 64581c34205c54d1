"""The routes for stored objects as data."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

from token_tracker.proxy.dialects.base import Dialect, Uncounted
from token_tracker.proxy.objects.readings import StoredResponse, Unread

_FREE, _CONTENT = Unread(Uncounted.FREE), Unread(Uncounted.FREE, is_content=True)
# What a batch costs stands in its results, which nobody has to fetch through the gateway: never taken for free.
_BATCH = Unread(Uncounted.UNKNOWN)
METERED, UNMETERED = StoredResponse(is_metered=True), StoredResponse(is_metered=False)


class Effect(Enum):
    """What follows from a success."""

    NONE = "none"
    MAKES = "makes"
    LISTS = "lists"
    SHOWS = "shows"  # the object itself
    DELETES = "deletes"


@dataclass(frozen=True, slots=True)
class Operation:
    """`path` with '{id}' where the object's is; it is also what its rows name as their endpoint."""

    method: str
    path: str
    kind: str  # 'response' | 'file' | 'batch'
    effect: Effect
    dialect: Dialect = field(repr=False, default=_FREE)

    @property
    def has_id(self) -> bool:
        return "{id}" in self.path


OPERATIONS = (
    Operation("GET", "/v1/responses/{id}", "response", Effect.SHOWS, UNMETERED),
    Operation("DELETE", "/v1/responses/{id}", "response", Effect.DELETES),
    Operation("POST", "/v1/responses/{id}/cancel", "response", Effect.SHOWS, UNMETERED),
    Operation("GET", "/v1/responses/{id}/input_items", "response", Effect.NONE),
    Operation("POST", "/v1/files", "file", Effect.MAKES),
    Operation("GET", "/v1/files", "file", Effect.LISTS),
    Operation("GET", "/v1/files/{id}", "file", Effect.SHOWS),
    Operation("GET", "/v1/files/{id}/content", "file", Effect.NONE, _CONTENT),
    Operation("DELETE", "/v1/files/{id}", "file", Effect.DELETES),
    Operation("POST", "/v1/batches", "batch", Effect.MAKES, _BATCH),
    Operation("GET", "/v1/batches", "batch", Effect.LISTS),
    Operation("GET", "/v1/batches/{id}", "batch", Effect.SHOWS),
    Operation("POST", "/v1/batches/{id}/cancel", "batch", Effect.SHOWS),
)
_PATTERNS = tuple((re.compile(re.escape(each.path).replace(r"\{id\}", "([^/]+)")), each) for each in OPERATIONS)
ROOTS = ("/v1/responses/", "/v1/files", "/v1/batches")


def find(method: str, path: str) -> tuple[Operation, str] | None:
    """The operation that a request asks for, and the id of its object ('' if it names none)."""
    if not path.startswith(ROOTS):
        return None
    for pattern, operation in _PATTERNS:
        if operation.method == method and (match := pattern.fullmatch(path)):
            return operation, match[1] if operation.has_id else ""
    return None
