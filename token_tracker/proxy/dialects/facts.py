"""Reading what an upstream said: only the named fields, fast where it is JSON, lenient where it nearly is, and never
with an exception."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec

from token_tracker.domain.extras import NO_EXTRAS, Extras
from token_tracker.domain.usage import Usage
from token_tracker.proxy.dialects.base import Reading

LENIENT_BYTES = 1 << 20  # what is not quite JSON (NaN in logprobs, say) is read the slow way up to this size
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)
UNREAD = msgspec.UNSET  # neither an object nor a list, a text, a number or None

_split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_any = msgspec.json.Decoder().decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


def facts(raw: bytes, *names: str) -> dict[str, Any]:
    """Those of `names` that the JSON object `raw` has, decoded; everything else is skipped. {} if it is no object.
    `UNREAD` for a value that is there and cannot be read."""
    try:
        known = msgspec.structs.asdict(_reader(names)(raw))
    except UNREADABLE:
        return _one_by_one(raw, names)
    return {name: value for name, value in known.items() if value is not msgspec.UNSET}


@cache
def _reader(names: tuple[str, ...]) -> Callable[[bytes], msgspec.Struct]:
    fields = [(name, Any, msgspec.UNSET) for name in names]
    return msgspec.json.Decoder(msgspec.defstruct("Facts", fields, gc=False)).decode


def _one_by_one(raw: bytes, names: tuple[str, ...]) -> dict[str, Any]:
    """What cannot be read at once: a part of it may be readable, or all of it in the slow way."""
    try:
        fields = _split(raw)
    except UNREADABLE:
        value = _lenient(raw)
        return {name: value[name] for name in names if name in value} if isinstance(value, dict) else {}
    return {name: _value(bytes(fields[name])) for name in names if name in fields}


def _value(raw: bytes) -> Any:
    try:
        return _any(raw)
    except UNREADABLE:
        return _lenient(raw)


def _lenient(raw: bytes) -> Any:
    """The value of what is not quite JSON (NaN, an infinite number, bytes that are no UTF-8); else `UNREAD`."""
    if len(raw) > LENIENT_BYTES:
        return UNREAD
    try:
        return json.loads(raw.decode("utf-8-sig", "replace"), strict=False)
    except UNREADABLE:
        return UNREAD


def items(raw: bytes, name: str) -> int:
    """How long the list `name` of the JSON object `raw` is, whatever is in it; 0 if it is none."""
    try:
        return len(_items(_split(raw)[name]))
    except (KeyError, *UNREADABLE):
        return 0


def text_bytes(*values: Any) -> int:
    """The UTF-8 length of those values that are strings."""
    total = 0
    for value in values:
        if type(value) is str:
            total += len(value) if value.isascii() else len(value.encode("utf-8", "replace"))
    return total


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a JSON list; [] if it is none."""
    return [item for item in value if type(item) is dict] if type(value) is list else []


def whole_answer(known: dict[str, Any], usage: Usage | None, extras: Extras = NO_EXTRAS) -> Reading:
    """The reading of a body whose `id` and `error` are in `known`; an empty one if nothing of it could be read."""
    error = known.get("error") is not None
    upstream_id = identifier(known.get("id"))
    return Reading(usage, usage is not None, upstream_id, saw_end=bool(known), error=error, extras=extras)


def identifier(value: Any) -> str:
    return value if type(value) is str else ""
