"""A JSON object split at its top level only, so that every value nobody edits stays byte-identical.

Duplicate names: the last one counts, as in nearly every JSON parser; such a body is re-joined without the others before
it is sent, so that the upstream cannot act on another value than the one that was checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from token_tracker.domain.errors import Refusal, invalid_request
from token_tracker.proxy.dialects.base import Request

MODEL_CHARACTERS = 255
METADATA_BYTES = 4096
COMPARED_BYTES = 64 * 1024
_BOM = b"\xef\xbb\xbf"

_split = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text = msgspec.json.Decoder(str).decode
_texts = msgspec.json.Decoder(dict[str, str]).decode
_encode = quoted = msgspec.json.encode
_NAME = re.compile(rb'[ \t\r\n]*"((?:[^"\\]|\\.)*)"[ \t\r\n]*:[ \t\r\n]*')
_AFTER = re.compile(rb"[ \t\r\n]*[,}]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def split(body: bytes, model: str = "") -> tuple[dict[str, bytes], bytes]:
    """The top level of a request body (name → raw JSON), and the bytes to send if nothing is edited: the body itself
    unless it names a field twice, or another model than its path (`model`). Raises `Refusal` (400) for anything but one
    JSON object."""
    try:
        fields = {name: bytes(value) for name, value in _split(body).items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _not_an_object(body, error) from None
    if model and text_of(fields.get("model")) != model:
        fields["model"] = _encode(model)
        return fields, join(fields)
    return fields, body if _names_each_once(body, fields) else join(fields)


def join(fields: Mapping[str, bytes]) -> bytes:
    """The object again, compact, in the order of `fields`; the values as they are."""
    pieces: list[bytes] = []
    for name, value in fields.items():
        pieces += (b",", _encode(name), b":", value)
    if not pieces:
        return b"{}"
    pieces[0] = b"{"
    pieces.append(b"}")
    return b"".join(pieces)


def try_split(raw: bytes) -> dict[str, bytes] | None:
    """The top level of a JSON object, None if `raw` is none."""
    try:
        return {name: bytes(value) for name, value in _split(raw).items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def with_model(request: Request, model: str) -> bytes:
    """The request's body with `model` in it: untouched if that is what it says."""
    return request.original if model == request.model else join({**request.fields, "model": _encode(model)})


def model_of(fields: Mapping[str, bytes]) -> str:
    """Raises `Refusal` (400) unless the model is a non-empty string of at most 255 characters."""
    raw = fields.get("model")
    if raw is None:
        raise invalid_request("The field 'model' is missing: name a model (GET /v1/models lists all).", "model")
    try:
        model = _text(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise invalid_request("The field 'model' must be a string.", "model") from None
    return checked_model(model)


def checked_model(model: str) -> str:
    """Raises `Refusal` (400) for a name that cannot be one."""
    if not model:
        raise invalid_request("The field 'model' is empty: name a model (GET /v1/models lists all).", "model")
    if len(model) > MODEL_CHARACTERS:
        raise invalid_request(f"The field 'model' has more than {MODEL_CHARACTERS} characters.", "model")
    if _CONTROL.search(model):
        raise invalid_request("The field 'model' contains control characters.", "model")
    return model


def stream_of(fields: Mapping[str, bytes]) -> bool:
    """Raises `Refusal` (400) unless `stream` is a boolean, null or absent."""
    raw = fields.get("stream", b"null")
    if raw not in (b"true", b"false", b"null"):
        raise invalid_request("The field 'stream' must be true, false or null.", "stream")
    return raw == b"true"


def text_of(raw: bytes | None) -> str:
    """A string's value; '' for anything else."""
    if raw is None or not raw.startswith(b'"'):
        return ""
    try:
        return _text(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""


def metadata_of(fields: Mapping[str, bytes]) -> str:
    """OpenAI's `metadata` as JSON text; '' unless it is an object of strings of at most 4 KiB."""
    raw = fields.get("metadata", b"")
    if not raw.startswith(b"{") or len(raw) > METADATA_BYTES:
        return ""
    try:
        _texts(raw)
        return raw.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""


def bound_of(fields: Mapping[str, bytes], *names: str) -> int | None:
    """The first of `names` that holds a plain non-negative integer: the client's maximum of output tokens."""
    for name in names:
        raw = fields.get(name, b"")
        if raw.isdigit() and len(raw) < 16:
            return int(raw)
    return None


def _names_each_once(body: bytes, fields: Mapping[str, bytes]) -> bool:
    """A compact body of exactly these fields has exactly this length, and one as Python's `json` writes it exactly this
    text; any other is walked name by name."""
    count = len(fields)
    length = 1 + sum(map(len, fields)) + sum(map(len, fields.values())) + 4 * count
    if len(body) == length:
        return True
    if len(body) == length + 2 * count - 1 < COMPARED_BYTES:
        pairs = [b'"%b": %b' % (name.encode(), value) for name, value in fields.items()]
        if body == b"{%b}" % b", ".join(pairs):
            return True
    return _is_walked(body, fields)


def _is_walked(body: bytes, fields: Mapping[str, bytes]) -> bool:
    position = body.index(b"{") + 1
    for name, value in fields.items():
        match = _NAME.match(body, position)
        if match is None or _text(b'"' + match[1] + b'"') != name or not body.startswith(value, match.end()):
            return False
        after = _AFTER.match(body, match.end() + len(value))
        if after is None:
            return False
        position = after.end()
    return not fields or body[position - 1 : position] == b"}"


def _not_an_object(body: bytes, error: Exception) -> Refusal:
    if not body.strip():
        return invalid_request("The request body is empty: send a JSON object with a 'model'.")
    if body.startswith(_BOM):
        return invalid_request("The request body begins with a byte-order mark: send plain UTF-8 JSON.")
    if isinstance(error, RecursionError):
        return invalid_request("The request body is nested too deeply.")
    if isinstance(error, UnicodeDecodeError):
        return invalid_request("The request body is not valid UTF-8.")
    if isinstance(error, msgspec.ValidationError):
        found = str(error).rpartition("got ")[2].strip("`")
        return invalid_request(f"The request body must be a JSON object, not {found}.")
    return invalid_request(f"The request body is not valid JSON ({error}; NaN and Infinity are no JSON either).")
