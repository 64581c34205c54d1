"""Values from outside into schemas: every problem at once, each naming its field."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_origin

import msgspec
from flask import Request
from msgspec import inspect
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import RequestEntityTooLarge

from token_tracker.api.errors import ApiError
from token_tracker.domain.problems import Invalid

Schema = TypeVar("Schema", bound=msgspec.Struct)
# An unescaped '+' in an address arrives as a space: 2026-01-01T00:00:00+02:00.
_LOST_PLUS = re.compile(r"(T[0-9:.]+) ([0-9]{2}:[0-9]{2})")
_WHOLE = re.compile(r"-?[0-9]{1,20}")
_PATH_IN_MESSAGE = re.compile(r" - at `\$(?:\.?(.*))`$")
_STEP = re.compile(r"\w+|\[[^]]*\]")


def read_body(request: Request, schema: type[Schema]) -> Schema:
    """The JSON body as `schema`. Raises ApiError (415, 400) and Invalid; 413 comes from reading the request."""
    if request.mimetype != "application/json":
        raise ApiError(415, "unsupported_media_type", "Send the body as JSON, with 'Content-Type: application/json'.")
    raw = request.get_data(cache=False)
    if len(raw) >= (request.max_content_length or 0):  # a body of no stated length is cut there without a word
        raise RequestEntityTooLarge
    try:
        values = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ApiError(400, "invalid_json", f"The body is not valid JSON: {error}.") from None
    if not isinstance(values, dict):
        raise ApiError(400, "invalid_json", "The body must be a JSON object.")
    return validated(schema, values, strict=True)


def read_query(arguments: MultiDict[str, str], schema: type[Schema]) -> Schema:
    """The query string as `schema`, numbers read from their text. Raises Invalid."""
    repeated = [(name, "is given more than once") for name in arguments if len(arguments.getlist(name)) > 1]
    if repeated:
        raise Invalid(repeated)
    values = {name: _LOST_PLUS.sub(r"\1+\2", value) for name, value in arguments.items()}
    return validated(schema, values, strict=False)


def validated(schema: type[Schema], values: Mapping[str, Any], *, strict: bool) -> Schema:
    """`values` as `schema`; raises Invalid with one problem for each field that has one."""
    problems: list[tuple[str, str]] = []
    accepted: dict[str, Any] = {}
    known = _fields(schema)
    problems += [(name, f"is not known; known are {', '.join(known)}") for name in values if name not in known]
    for name, field in known.items():
        if name not in values:
            problems += [(name, "is required")] if field.required else []
            continue
        wanted = field.type if strict else _given(field.type)
        try:
            accepted[name] = msgspec.convert(
                values[name], wanted, strict=strict or not _is_read_from(wanted, values[name])
            )
            problems += [(name, text) for text in _unstorable(accepted[name])]
        except (msgspec.ValidationError, ValueError, OverflowError) as error:
            problems.append(_readable(name, str(error), wanted))
    if problems:
        raise Invalid(problems)
    return schema(**accepted)


@cache
def _fields(schema: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(schema)}


def _given(wanted: Any) -> Any:
    """The type without None: in a query string 'null' is a text like any other, and what is absent is left out."""
    return wanted.__args__[0] if isinstance(wanted, UnionType) or get_origin(wanted) is Union else wanted


def _is_read_from(wanted: Any, text: str) -> bool:
    """Whether `text` may be read as another type than text: else '0.5' would be a time since 1970, and '1e3' an int."""
    plain = getattr(wanted, "__origin__", wanted)
    return plain is bool or (plain is int and _WHOLE.fullmatch(text) is not None)


def _readable(name: str, message: str, wanted: Any) -> tuple[str, str]:
    """'Expected `int` >= 1 - at `$[0]`' as ('limit[0]', 'expected `int` >= 1'); `wanted`: the type of `name`."""
    match = _PATH_IN_MESSAGE.search(message)
    place = match.group(1) if match else ""
    separator = "." if place and not place.startswith("[") else ""
    text = _PATH_IN_MESSAGE.sub("", message)
    if text.startswith("Invalid enum value"):
        words = _words(inspect.type_info(wanted), _STEP.findall(place))
        text = f"must be one of {', '.join(words)}" if len(words) > 1 else text
    return f"{name}{separator}{place}", text[:1].lower() + text[1:]


def _words(wanted: inspect.Type, place: list[str]) -> list[str]:
    """Those that may stand at `place` (names of fields, and indices in brackets) within a value of that type."""
    match wanted:
        case inspect.Metadata(type=inner):
            return _words(inner, place)
        case inspect.UnionType(types=types):
            return [word for each in types for word in _words(each, place)]
        case inspect.StructType(fields=fields) if place:
            return [word for each in fields if each.encode_name == place[0] for word in _words(each.type, place[1:])]
        case inspect.ListType(item_type=inner) if place:
            return _words(inner, place[1:])
        case inspect.LiteralType(values=values) if not place:
            return [str(each) for each in values]
        case inspect.EnumType(cls=values) if not place:
            return [str(each.value) for each in values]
    return []


def _unstorable(value: Any) -> Iterator[str]:
    """What no database of ours can hold."""
    if isinstance(value, str) and "\x00" in value:
        yield "must not contain the character NUL"
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _unstorable(each)
    elif isinstance(value, datetime):
        try:
            value.astimezone(UTC)
        except OverflowError:
            yield "is out of range"
