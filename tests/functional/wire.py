"""Requests for every route as bytes, sent by a client that adds and hides nothing."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

SAID = "one two three"
BOUNDARY = "--a boundary/with:odd=characters"
FORM = f'multipart/form-data; boundary="{BOUNDARY}"'
SOUND = bytes(range(256)) + b"\r\n--" + BOUNDARY.encode()[:-1] + b"\r\n"  # nearly a boundary line
STREAMED = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
JSON_ROUTES = (
    *STREAMED,
    "/v1/embeddings",
    "/v1/messages/count_tokens",
    "/v1/audio/speech",
    "/v1/images/generations",
    "/v1/moderations",
    "/v1/rerank",
)
FORM_ROUTES = ("/v1/audio/transcriptions", "/v1/audio/translations", "/v1/images/edits", "/v1/images/variations")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]  # names in lower case
    body: bytes
    is_whole: bool = True

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


def send(url: str, path: str, body: bytes, headers: list[tuple[str, str]]) -> Answer:
    """POST exactly this; an answer that breaks off comes as far as it did."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        connection.putrequest("POST", path, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        got = connection.getresponse()
        named = [(name.lower(), value) for name, value in got.getheaders()]
        try:
            return Answer(got.status, named, got.read())
        except http.client.IncompleteRead as cut:
            return Answer(got.status, named, cut.partial, False)
    finally:
        connection.close()


def json_body(model: str, marker: str, **more: Any) -> bytes:
    """A body that every JSON route understands, laid out as no serialiser of ours would."""
    named = {"user": marker, "metadata": {"user_id": marker}}
    said = {"messages": [{"role": "user", "content": SAID}], "input": SAID, "prompt": SAID, "query": SAID}
    fields = {"model": model, **said, "documents": ["four five", "six"], "max_tokens": 100, **named, **more}
    return json.dumps(fields, indent=3).encode()


def form_body(model: str, marker: str, **more: str) -> bytes:
    """A form with the file before the model, header names in odd cases, a preamble and an epilogue."""
    line = b"--" + BOUNDARY.encode()
    fields = [*{"prompt": SAID, "user": marker, "empty": "", **more}.items(), ("model", model)]
    parts = [b"content-disposition:form-data;name=%s\r\n\r\n%s" % (n.encode(), v.encode()) for n, v in fields]
    for name, kind in (("file", b"audio/wav"), ("image", b"image/png")):
        head = b'Content-Type: %s\r\nContent-Disposition: form-data; filename="a;name=\\"model\\".x"; name="%s"'
        parts.insert(1, head % (kind, name.encode()) + b"\r\n\r\n" + SOUND)
    return b"preamble\r\n" + b"".join(line + b"\r\n" + part + b"\r\n" for part in parts) + line + b"--\r\nepilogue"


def request(path: str, model: str, marker: str, **more: Any) -> tuple[bytes, str]:
    """Body and content type."""
    if path in FORM_ROUTES:
        return form_body(model, marker, **more), FORM
    return json_body(model, marker, **more), "application/json"
