"""A multipart form (RFC 7578) read where it lies: parts are found, never decoded; an edit leaves all other bytes alone.

What an upstream could read in two ways (a model named twice, a part without a plain name, a second boundary, one after
half a line break) is refused, so that it cannot act on another model or number than the one that was checked. No client
writes such a form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from token_tracker.domain.errors import Refusal, invalid_request

MAX_PARTS = 1000
MAX_HEADER_BYTES = 16 << 10
TEXT_BYTES = 4096  # of a text field that the gateway reads
_CHARSETS = ("utf-8", "utf8", "us-ascii")

_VALUE = r'[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^;"\s]*))'
_TYPE = re.compile(rf"[^;]*(?:;[ \t]*[^\s=;\"]+{_VALUE}[ \t]*)*;?[ \t]*")
_TYPE_PARAMETER = re.compile(rf";[ \t]*([^\s=;\"]+){_VALUE}")
_BOUNDARY = re.compile(r"[!#-\[\]-~ ]{0,199}[!#-\[\]-~]")  # no quotes, no backslashes: both are read in several ways
_DISPOSITION = re.compile(rb"^content-disposition[ \t]*:(.*)$", re.IGNORECASE | re.MULTILINE)
_PARAMETER = re.compile(rf";[ \t]*([^\s=;\"]+){_VALUE}".encode())
_UNESCAPED = re.compile(rb';[ \t]*([^\s=;"]+)[ \t]*=[ \t]*(?:"[^"]*"|[^;"\s]*)')  # where a backslash is a letter
_HALF_BREAK = re.compile(rb"\r(?!\n)|(?<!\r)\n|\n[ \t]")  # which for some ends a line, or goes on with one


@dataclass(frozen=True, slots=True)
class Part:
    """Offsets into the body: `start` is where its boundary line begins, `value` where its content lies."""

    name: str
    is_file: bool
    start: int
    value_start: int
    value_end: int


@dataclass(frozen=True, slots=True)
class Form:
    """`end`: where the closing boundary line begins."""

    body: bytes
    boundary: bytes
    parts: tuple[Part, ...]
    end: int

    def text(self, name: str) -> str | None:
        """A text field's value; None if it is not there. Raises `Refusal` (400) if it comes twice, is a file, is too
        long or no UTF-8."""
        found = [part for part in self.parts if part.name == name]
        if not found:
            return None
        if len(found) > 1:
            raise invalid_request(f"The form names the field '{name}' {len(found)} times.", name)
        part = found[0]
        raw = self.body[part.value_start : part.value_end]
        if part.is_file or len(raw) > TEXT_BYTES:
            raise invalid_request(f"The form's field '{name}' must be a short text.", name)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise invalid_request(f"The form's field '{name}' is not valid UTF-8.", name) from None

    def hint(self, name: str) -> str:
        """A text field's value, if it is there once and readable; else '': only the upstream can judge it."""
        try:
            return self.text(name) or ""
        except Refusal:
            return ""

    def with_text(self, name: str, value: str) -> bytes:
        """The body with that one field changed in place, or put before all others if it is not there."""
        for part in self.parts:
            if part.name == name:
                return self.body[: part.value_start] + value.encode() + self.body[part.value_end :]
        start = self.parts[0].start if self.parts else self.end
        return self.body[:start] + self._field(name, value) + b"\r\n" + self.body[start:]

    def rebuilt(self, left_out: Iterable[str], added: Iterable[tuple[str, str]]) -> bytes:
        """The form without the parts of those names, and with more text fields: each other part as it is."""
        names = frozenset(left_out)
        ends = [*(part.start for part in self.parts[1:]), self.end]
        pieces = zip(self.parts, ends, strict=False)  # without parts there is one end more
        kept = [self.body[part.start : end] for part, end in pieces if part.name not in names]
        fields = [self._field(name, value) + b"\r\n" for name, value in added]
        return b"".join([*fields, *kept, b"--", self.boundary, b"--\r\n"])

    def _field(self, name: str, value: str) -> bytes:
        head = b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n' % (self.boundary, name.encode())
        return head + value.encode()


def is_form(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


def parse(body: bytes, content_type: str) -> Form:
    """Raises `Refusal` (400) for what is no complete form."""
    boundary = _boundary(content_type)
    lines = _boundary_lines(body, boundary)
    parts = tuple(_part(body, line, following) for line, following in pairwise(lines))
    return Form(body, boundary, parts, lines[-1].start)


def _boundary(content_type: str) -> bytes:
    found = _TYPE_PARAMETER.findall(content_type)
    named: list[str] = [quoted or bare for key, quoted, bare in found if key.lower() == "boundary"]
    if not named or not _BOUNDARY.fullmatch(named[0]):
        raise _broken("its content-type names no boundary")
    keys = [key.lower().partition("*")[0] for key, _, _ in found]
    charsets = [(quoted or bare).lower() for key, quoted, bare in found if key.lower() == "charset"]
    if keys.count("boundary") > 1 or keys.count("charset") > len(charsets) or not _TYPE.fullmatch(content_type):
        raise _broken("its content-type can be read in several ways")
    if any(each not in _CHARSETS for each in charsets):
        raise _broken("the names of its parts are not in UTF-8")
    return named[0].encode()


@dataclass(frozen=True, slots=True)
class _Line:
    """A boundary line: where the content before it ends, where it begins and where what follows begins."""

    content_end: int
    start: int
    after: int


def _boundary_lines(body: bytes, boundary: bytes) -> list[_Line]:
    """All boundary lines, the closing one last; nothing else at a line's beginning looks like one."""
    delimiter = b"--" + boundary
    lines: list[_Line] = []
    is_closed = False
    at = body.find(delimiter)
    while at != -1:
        tail = at + len(delimiter)
        is_close, is_line = body.startswith(b"--", tail), body.startswith(b"\r\n", tail)
        if at == 0 or body.startswith(b"\r\n", at - 2):
            if len(body) - tail < 2:
                break
            if is_closed or not (is_close or is_line):
                raise _broken("its boundary stands where not everybody takes it for one")
            lines.append(_Line(at - 2, at, len(body) if is_close else tail + 2))
            is_closed = is_close
        elif body[at - 1] in b"\r\n":
            raise _broken("its boundary stands behind half a line break")
        if len(lines) > MAX_PARTS:
            raise _broken(f"it has more than {MAX_PARTS} parts")
        at = body.find(delimiter, tail)
    if not is_closed:
        raise _broken("its closing boundary is missing")
    return lines


def _part(body: bytes, line: _Line, following: _Line) -> Part:
    head_end = body.find(b"\r\n\r\n", line.after - 2, min(following.content_end, line.after + MAX_HEADER_BYTES))
    if head_end < 0:
        raise _broken("a part of it has no headers")
    head = body[line.after : head_end]
    dispositions = _DISPOSITION.findall(head) if not _HALF_BREAK.search(head) else []
    pairs = _PARAMETER.findall(dispositions[0]) if len(dispositions) == 1 else []
    parameters = {key.lower(): quoted or bare for key, quoted, bare in pairs}
    name = parameters.get(b"name", b"\\")
    if len(parameters) != len(pairs) or b"\\" in name or any(b"*" in key for key in parameters.keys() - {b"filename*"}):
        raise _broken("a part of it has no plain name")
    if [key for key, _, _ in pairs] != _UNESCAPED.findall(dispositions[0]):
        raise _broken("a part of it has a name that can be read in several ways")
    is_file = b"filename" in parameters or b"filename*" in parameters
    return Part(name.decode("utf-8", "replace"), is_file, line.start, head_end + 4, following.content_end)


def _broken(what: str) -> Refusal:
    return invalid_request(f"The request body is no readable multipart form: {what}.")
