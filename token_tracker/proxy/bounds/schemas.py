"""Schemas that name parts of themselves: LiteLLM writes each part out wherever it is named for some providers, so that
a kilobyte of them becomes a megabyte of prompt, or all memory that there is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from token_tracker.proxy.dialects.facts import UNREADABLE

WITH_SCHEMAS = ("tools", "functions", "response_format", "text", "output_format", "output_config")
PLACES_MAX = 20_000  # where a part stands, with all written out: nobody's schema has as many

_REF, _DEFINITIONS = "$ref", ("$defs", "definitions")
_MARKS = (b"$ref", b"\\u")  # or a letter of it escaped
_decode = msgspec.json.Decoder().decode


def all_written_out(fields: Mapping[str, bytes]) -> int | None:
    """`written_out` of all schemas of a request."""
    beyond = [written_out(fields[name]) for name in WITH_SCHEMAS if name in fields]
    return None if None in beyond else sum(each for each in beyond if each is not None)


def written_out(raw: bytes) -> int | None:
    """How many bytes more the JSON `raw` has with all that it names of itself written out, but for a part within
    itself; None if that is in more than `PLACES_MAX` places, or it cannot be read."""
    if not any(mark in raw for mark in _MARKS):
        return 0
    try:
        return _beyond(_decode(raw))
    except UNREADABLE:
        return None


def _beyond(value: Any) -> int | None:
    parts: dict[str, tuple[int, list[str]]] = {}  # its size and whom it names; parts of one name are taken together
    for each in _objects(value):
        for key in _DEFINITIONS:
            if type(named := each.get(key)) is dict:
                for name, part in named.items():
                    size, names = parts.get(name, (0, []))
                    parts[name] = (size + len(msgspec.json.encode(part)), names + _names(part))
    total = places = 0
    within: set[str] = set()
    waiting = [(name, False) for name in _names(value)]
    while waiting:
        name, is_done = waiting.pop()
        if is_done:
            within.discard(name)
        elif name in parts and name not in within:
            size, names = parts[name]
            total, places = total + size, places + 1
            if places > PLACES_MAX:
                return None
            within.add(name)
            waiting.append((name, True))
            waiting += [(each, False) for each in names]
    return total


def _names(value: Any) -> list[str]:
    return [each[_REF].rpartition("/")[2] for each in _objects(value) if type(each.get(_REF)) is str]


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """All objects in a value, itself included."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if type(each) is dict:
            yield each
            waiting += each.values()
        elif type(each) is list:
            waiting += each
