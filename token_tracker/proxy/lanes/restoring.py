"""What a translated answer gets back before the client sees it: its model name, its ids, its upstream's headers."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Any

import msgspec

from token_tracker.domain.providers import WireFormat
from token_tracker.proxy.lanes import failures
from token_tracker.proxy.litellm.report import COUNTED_MARK, FAILURE_HEADER, Failure, from_header

EVENT_MAX_BYTES = 16 << 20  # a longer event goes out as it is

_Headers = list[tuple[bytes, bytes]]
_PROVIDER = b"llm_provider-"
_KEPT = frozenset((b"content-type", b"content-encoding", b"cache-control", b"x-accel-buffering"))
_RESTORED = (b"x-request-id", b"request-id", b"retry-after", b"retry-after-ms")
_RESTORED_PREFIXES = (b"x-ratelimit-", b"anthropic-ratelimit-")
_COMPLETIONS = (WireFormat.CHAT, WireFormat.COMPLETIONS)
_IMAGES = (WireFormat.IMAGES, WireFormat.IMAGE_EDITS)
_CHUNKS = (b'"chat.completion.chunk"', b'"text_completion"')
_IDS_OF_LITELLM = b"litellm:custom_llm_provider:"

_encode = msgspec.json.encode
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Restorer:
    """One call's answer. `internal` is the model as LiteLLM was told it, `upstream` as the provider knows it; `hidden`
    are texts that no message may show (keys, addresses). `wants_text`: the client asked for a transcript as plain text,
    which LiteLLM wraps in JSON."""

    def __init__(
        self,
        wire: WireFormat,
        internal: str,
        upstream: str,
        client_model: str,
        hidden: tuple[str, ...],
        wants_text: bool = False,
    ) -> None:
        self._wire = wire
        self._wants_text = wants_text
        self._names = (internal, upstream)
        self._client_model = client_model
        self._hidden = hidden
        self._new_model = _encode(client_model)
        self._old_models = tuple(b'"model":' + _encode(name) for name in self._names)
        self._pending = bytearray()
        self.usage_is_estimate = False  # the stream's usage is LiteLLM's own count

    # Whole answers

    def is_unbilled(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether an error is the upstream's own answer, or the upstream was not reached. Whatever else LiteLLM reports
        as an error may have happened after the upstream had served the call."""
        failure = _failure(headers)
        return failure is not None and failure.kind in ("answered", "unreachable")

    def answer_status(self, status: int, headers: Iterable[tuple[bytes, bytes]] = ()) -> int:
        """The upstream's own status where LiteLLM changed it; a time-out is 504, an upstream not reached 502.

        Raises ConnectionResetError where the connection broke before anything of the answer came, UnreadableAnswer
        where it was a success that LiteLLM could not read: for the books neither is an error answer, as the upstream
        may have billed the call.
        """
        failure = _failure(headers)
        if failure is not None and failure.kind == "broken":
            raise ConnectionResetError("the upstream's connection broke")
        if failure is not None and failure.kind == "unreadable":
            raise failures.UnreadableAnswer
        return failures.status_of(failure, status)

    def answer_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> _Headers:
        """Without LiteLLM's own; the upstream's request id, Retry-After and rate limits under their own names."""
        headers = list(headers)
        failure = _failure(headers)
        restored: dict[bytes, bytes] = {}
        kept: _Headers = []
        for name, value in headers:
            lower = name.lower()
            if lower == b"content-type" and failure is None and self._wants_text:
                kept.append((lower, b"text/plain; charset=utf-8"))
            elif lower in _KEPT:
                kept.append((lower, value))
            elif lower.startswith(_PROVIDER) and _is_restored(lower[len(_PROVIDER) :]):
                restored[lower[len(_PROVIDER) :]] = value
        if failure is not None:
            restored |= {name.encode(): value.encode() for name, value in failure.headers.items()}
        return [*kept, *restored.items()]

    def answer_body(self, body: bytes) -> bytes:
        """A whole JSON answer; anything else comes back as it is."""
        try:
            fields = _fields_decoder.decode(body)
        except msgspec.DecodeError:
            return body
        if self._wants_text and "text" in fields:
            return msgspec.json.decode(fields["text"], type=str).encode()
        self._restore(fields)
        return _encode(fields)

    def reshape_error(
        self, family: str, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, request_id: str
    ) -> bytes:
        """The body of an error in the client's dialect; `headers` as they came from the child."""
        failure = _failure(headers)
        if failure is None:
            failure = failures.from_litellm(body)
        failure = msgspec.structs.replace(failure, message=self._clean(failure.message))
        return failures.error_of(family, status, failure, self._client_model, request_id)

    # Streams

    def feed(self, chunk: bytes) -> bytes:
        """Whole events so far, restored; the rest waits for its end."""
        self._pending += chunk
        end = self._pending.rfind(b"\n\n") + 2
        if end < 2:
            return self.close() if len(self._pending) > EVENT_MAX_BYTES else b""
        whole = bytes(self._pending[: end - 2])
        del self._pending[:end]
        return b"".join(self._event(event) + b"\n\n" for event in whole.split(b"\n\n") if not self._is_extra(event))

    def close(self) -> bytes:
        """The child ended: what is still held back."""
        rest = bytes(self._pending)
        self._pending.clear()
        return rest

    def _is_extra(self, event: bytes) -> bool:
        if event == COUNTED_MARK.strip():
            self.usage_is_estimate = True
            return True
        return self._wire is WireFormat.RESPONSES and event.strip() == b"data: [DONE]"

    def _event(self, event: bytes) -> bytes:
        head, separator, data = event.partition(b"data: ")
        if not separator or not data.startswith(b"{"):
            return event
        if _is_error(head, data):
            return head + separator + self._error_event(data)
        if self._wire is WireFormat.COMPLETIONS and b'"text":' not in data:
            return self._rewritten(head, data)
        if self._wire in _COMPLETIONS and b'"usage":' not in data:
            return head + separator + self._renamed(data)
        if self._wire is WireFormat.MESSAGES and b"message_start" not in head:
            return event
        return self._rewritten(head, data)

    def _renamed(self, data: bytes) -> bytes:
        """The fast way for the many small chunks: their first `"model":` is the chunk's own."""
        for old in self._old_models:
            if old in data:
                return data.replace(old, b'"model":' + self._new_model, 1)
        return data

    def _rewritten(self, head: bytes, data: bytes) -> bytes:
        try:
            fields = _fields_decoder.decode(data)
        except msgspec.DecodeError:
            return head + b"data: " + data
        if self._wire is WireFormat.RESPONSES:
            fields.pop("model", None)  # LiteLLM's addition to each event
            head = head or b"event: " + bytes(fields.get("type", b"")).strip(b'"') + b"\n"
        for inner in ("response", "message"):
            if inner in fields:
                fields[inner] = self._restored_object(fields[inner])
        self._restore(fields)
        return head + b"data: " + _encode(fields)

    def _restored_object(self, raw: msgspec.Raw) -> msgspec.Raw:
        fields = _fields_decoder.decode(raw)
        self._restore(fields)
        return msgspec.Raw(_encode(fields))

    # Shared

    def _restore(self, fields: dict[str, msgspec.Raw]) -> None:
        for name in [name for name in fields if name.startswith("litellm_")]:
            del fields[name]
        if "model" in fields:
            fields["model"] = msgspec.Raw(self._new_model)
        if self._wire is WireFormat.RESPONSES and "id" in fields:
            fields["id"] = msgspec.Raw(_encode(_own_id(msgspec.json.decode(fields["id"]))))
        if "usage" in fields:
            _restore_usage(fields, self._wire)
        if self._wire is WireFormat.COMPLETIONS and "choices" in fields:
            fields["choices"] = _with_texts(fields["choices"])

    def _error_event(self, data: bytes) -> bytes:
        body: Any = msgspec.json.decode(data)
        error = body.get("error", body)
        if isinstance(error, dict) and isinstance(error.get("message"), str):
            error["message"] = self._clean(error["message"]) or failures.BROKEN_STREAM
        return _encode(body)

    def _clean(self, message: str) -> str:
        return failures.clean_message(message, self._names[0], self._client_model, self._hidden)


def _is_error(head: bytes, data: bytes) -> bool:
    return head.startswith(b"event: error") or data.startswith((b'{"error":', b'{"type":"error"', b'{"type": "error"'))


def _is_restored(name: bytes) -> bool:
    return name in _RESTORED or name.startswith(_RESTORED_PREFIXES)


def _failure(headers: Iterable[tuple[bytes, bytes]]) -> Failure | None:
    wanted = FAILURE_HEADER.encode()
    return next((from_header(value) for name, value in headers if name.lower() == wanted), None)


def _own_id(response_id: object) -> object:
    """The provider's own id of a response: LiteLLM wraps it with the names of its deployment."""
    if not isinstance(response_id, str) or not response_id.startswith("resp_"):
        return response_id
    try:
        text = base64.b64decode(response_id.removeprefix("resp_"), validate=True)
    except (binascii.Error, ValueError):
        return response_id
    if not text.startswith(_IDS_OF_LITELLM):
        return response_id
    return text.rpartition(b"response_id:")[2].decode("utf-8", "replace")


def _restore_usage(fields: dict[str, msgspec.Raw], wire: WireFormat) -> None:
    """LiteLLM adds its cost to usage, invents a usage of zeros for images, and puts a choice into the usage chunk."""
    usage: Any = msgspec.json.decode(fields["usage"])
    if not isinstance(usage, dict):
        return
    if wire in _IMAGES and not usage.get("total_tokens"):
        del fields["usage"]
        return
    if usage.pop("cost", None) is not None:
        fields["usage"] = msgspec.Raw(_encode(usage))
    if wire in _COMPLETIONS and _is_empty_chunk(fields):
        fields["choices"] = msgspec.Raw(b"[]")


def _with_texts(raw: msgspec.Raw) -> msgspec.Raw:
    """Where nothing is said, LiteLLM leaves the text out and OpenAI says ''."""
    choices: Any = msgspec.json.decode(raw)
    return msgspec.Raw(_encode([{"text": "", **choice} for choice in choices]))


def _is_empty_chunk(fields: dict[str, msgspec.Raw]) -> bool:
    if bytes(fields.get("object", b"")) not in _CHUNKS or "choices" not in fields:
        return False
    choices: Any = msgspec.json.decode(fields["choices"])
    return not any(choice.get("delta") or choice.get("text") or choice.get("finish_reason") for choice in choices)
