"""A stream whose events have names, by their `event` field and the `type` of their data: Anthropic's and Responses'."""

from __future__ import annotations

import re
from abc import abstractmethod
from typing import Any

import msgspec

from token_tracker.proxy.dialects.facts import UNREADABLE, facts
from token_tracker.proxy.dialects.sse import PREAMBLE, Fate, SseObserver, name, payload

_BEGINNING = re.compile(
    PREAMBLE + rb'(?:event:[ ]?([^\r\n]*)[\r\n]+)?(?:data:[ ]*\{\s*"type"\s*:\s*"([^"\\]*)")?', re.DOTALL
)


class _Event(msgspec.Struct, gc=False):
    type: Any = None
    delta: Any = None


_decode = msgspec.json.Decoder(_Event).decode


class NamedObserver(SseObserver):
    """`ends` are the names that end a stream; `ordinary` are beginnings of names that prove an event harmless before
    its data is there. A name that the dialect does not know proves nothing: the data's `type` decides."""

    __slots__ = ("_ends", "_ordinary")

    def __init__(self, ends: frozenset[str], ordinary: tuple[str, ...]) -> None:
        super().__init__()
        self._ends, self._ordinary = ends, ordinary

    @abstractmethod
    def _read(self, kind: str, delta: Any, data: bytes) -> None:
        """Learn from an event; `delta` is the data's member of that name, `data` its JSON."""

    def _looks_ordinary(self, beginning: bytes) -> bool:
        match = _BEGINNING.match(beginning)
        if match is None:
            return False
        kind = (match[2] or match[1] or b"").decode("utf-8", "replace")
        return kind not in self._ends and (match[2] is not None or kind.startswith(self._ordinary))

    def _take(self, event: bytes) -> Fate:
        start = 0 if event.startswith(b"data:") else event.find(b"\ndata:") + 1
        data = event[start + 5 :]
        known = _known(data) if start or event.startswith(b"data:") else None
        if known is None:
            data = payload(event)
            known = _known(data)
        if known is None:
            return Fate.PASS  # no data, or unreadable, perhaps cut off: no client takes it for the end
        kind = known.type if type(known.type) is str else name(event)
        self._read(kind, known.delta, data)
        if kind not in self._ends:
            return Fate.PASS
        self.reading.saw_end = True
        return Fate.END


def _known(data: bytes) -> _Event | None:
    try:
        return _decode(data)
    except UNREADABLE:
        said = facts(data, "type", "delta")
        return _Event(**said) if said else None
