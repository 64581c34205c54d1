"""The three shapes of an answer on its way to the client: a stream of events, a whole JSON body, anything else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiohttp

from token_tracker.domain.money import format_usd
from token_tracker.domain.usage import EndReason
from token_tracker.proxy import headers as passing
from token_tracker.proxy.books.journal import JournalUnavailable
from token_tracker.proxy.books.records import End
from token_tracker.proxy.call import Attempt, Failed
from token_tracker.proxy.dialects.base import Cut, StreamObserver
from token_tracker.proxy.lanes.decoding import Decoder, Plain, Unreadable, decoder_for
from token_tracker.proxy.lanes.failures import UnreadableAnswer
from token_tracker.proxy.permits.cutoff import watch
from token_tracker.proxy.subject import NAME_CHARACTERS, clean

if TYPE_CHECKING:
    from token_tracker.proxy.lanes.exchange import Exchange
    from token_tracker.proxy.lanes.shaper import Shaper

WHOLE_BYTES = 1 << 20  # a JSON answer up to this size is read before its headers go, so that they can name its cost
COPY_BYTES = 64 << 20  # of a longer one so much is kept for reading its usage
_REQUEST_IDS = (b"x-request-id", b"request-id")
_WITHOUT_BODY = (204, 304)
_UNNAMED_JSON = ("", "text/plain", "text/json")  # how some servers label a whole JSON answer
Headers = list[tuple[bytes, bytes]]


async def answer(exchange: Exchange, response: aiohttp.ClientResponse) -> None:
    """Pass an upstream's answer on. Raises what reading it raises, and `JournalUnavailable`."""
    attempt = exchange.attempt
    if not 200 <= response.status <= 599:  # 101 was never asked for, and other numbers are no answer to HTTP
        raise aiohttp.ClientPayloadError(f"status {response.status}")
    attempt.status, headers = _head(exchange, response)
    attempt.upstream_request_id = _request_id(headers)
    if attempt.status == 429 or attempt.status >= 500:
        exchange.unbilled = _unbilled(exchange, response, headers)
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    is_json = kind == "application/json" or kind.endswith("+json")
    is_json = is_json or (kind in _UNNAMED_JSON and not attempt.request.stream)
    decoder = decoder_for(response.headers.get("Content-Encoding", ""))
    is_kept_whole = attempt.keeper is not None and attempt.keeper.is_whole
    if attempt.status >= 400 or is_kept_whole or (is_json and kind != "text/event-stream"):
        await _whole(exchange, response, headers, decoder)
    elif isinstance(decoder, Unreadable):  # nobody asked for it, and nobody can tell where it ends but at its end
        await _rest(exchange, response, headers, [], None)
    elif kind == "text/event-stream" or (attempt.request.stream and not _is_plain(attempt, kind)):
        await _stream(exchange, response, headers, decoder)
    else:
        await _rest(exchange, response, headers, [], None)


def _is_plain(attempt: Attempt, kind: str) -> bool:
    """Whether an answer of this type is no stream, although one was asked for: sound, pictures, transcripts as text."""
    return kind.startswith(("audio/", "image/")) or attempt.request.form is not None


def _head(exchange: Exchange, response: aiohttp.ClientResponse) -> tuple[int, Headers]:
    request_id, raw, shaper = exchange.attempt.id.encode(), response.raw_headers, exchange.shaper
    status = response.status if shaper is None else shaper.answer_status(response.status, raw)
    headers = passing.down(raw if shaper is None else shaper.answer_headers(raw), request_id)
    if status in _WITHOUT_BODY:  # what it says of its length is that of another answer
        headers = passing.without(headers, b"content-length")
    if exchange.attempt.permit is not None:
        headers = exchange.attempt.permit.marked(headers, exchange.attempt.target)
    if exchange.attempt.other_model:
        headers.append((b"x-tt-model", header_value(exchange.attempt.other_model)))
    return status, headers


def header_value(text: str) -> bytes:
    """A model's name in a header, where only visible ASCII is safe."""
    return quote(text, safe=" !\"#$&'()*+,/:;<=>?@[]^`{|}~").encode()


def _unbilled(exchange: Exchange, response: aiohttp.ClientResponse, headers: Headers) -> Failed | None:
    """The upstream's own 429 or 5xx; not one that LiteLLM made up, as nobody knows what was billed then."""
    if exchange.shaper is not None and not exchange.shaper.is_unbilled(response.raw_headers):
        return None
    return Failed(exchange.attempt.status, _retry_after_s(headers))


def _retry_after_s(headers: Headers) -> float | None:
    for wanted, unit_s in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        for name, value in headers:
            if name == wanted and re.fullmatch(rb"\d{1,9}(\.\d{1,9})?", value):
                return float(value) * unit_s
    return None


def _request_id(headers: Headers) -> str:
    found = [value for wanted in _REQUEST_IDS for name, value in headers if name == wanted and value]
    return clean(found[0].decode("latin-1"), NAME_CHARACTERS) if found else ""


async def _stream(exchange: Exchange, response: aiohttp.ClientResponse, headers: Headers, decoder: Decoder) -> None:
    """Events go out as they come; the end, and all after it, once the row is written."""
    attempt, client = exchange.attempt, exchange.client
    observer = exchange.observer = attempt.dialect.observer(attempt.request)
    attempt.reading = observer.reading
    is_plain = isinstance(decoder, Plain)
    if is_plain:  # an event may be taken out
        headers = passing.without(headers, b"content-length")
    watched = watch(attempt) if attempt.permit is not None and attempt.status < 300 else None
    if not exchange.has_more(response):
        await client.start(attempt.status, headers)
    last = b""
    while chunk := await exchange.read(response):
        attempt.saw_first_token()
        if is_plain:
            cut = observer.feed(chunk if exchange.shaper is None else exchange.shaper.feed(chunk))
            data, is_end = cut.forward + cut.terminal, bool(cut.terminal)
        else:
            is_end = bool(observer.feed(decoder.feed(chunk, COPY_BYTES)).terminal)
            data = chunk
        if attempt.keeper is not None:
            await _heard(exchange, b"")
        if is_end:
            exchange.book(exchange.ended(saw_end=True))
        if not client.started:
            await client.start(attempt.status, headers, is_followed=bool(data))
        if not is_end and watched is not None and observer.is_between_events and watched.is_past(attempt.reading):
            exchange.book(EndReason.BUDGET_CUTOFF)
            await client.finish(data + (observer.ending(attempt.request.model) if is_plain else b""))
            return
        if response.content.at_eof():
            last = data
            break
        await client.write(data)
    rest = remainder(observer, exchange.shaper, is_clean=True)
    if attempt.keeper is not None:
        await _heard(exchange, b"")
    exchange.book(exchange.ended(observer.reading.saw_end))
    await client.finish(last + rest if is_plain else last)


def remainder(observer: StreamObserver, shaper: Shaper | None, *, is_clean: bool) -> bytes:
    """What is still held back of a stream that ended (`is_clean`: not by a broken connection)."""
    held = observer.feed(shaper.close()) if shaper else Cut(b"")
    rest = observer.close(is_clean)
    return held.forward + held.terminal + rest.forward + rest.terminal


async def _whole(exchange: Exchange, response: aiohttp.ClientResponse, headers: Headers, decoder: Decoder) -> None:
    """A JSON answer of ordinary size, or any error: read whole, booked, then sent with what it cost."""
    attempt, client = exchange.attempt, exchange.client
    chunks: list[bytes] = []
    size = 0
    while chunk := await exchange.read(response):
        chunks.append(chunk)
        size += len(chunk)
        if size > (WHOLE_BYTES if attempt.keeper is None or attempt.status >= 400 else COPY_BYTES):
            if attempt.keeper is not None and attempt.keeper.is_whole and attempt.status < 300:
                raise UnreadableAnswer("it is too long to be looked through")
            await _rest(exchange, response, headers, chunks, decoder)
            return
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    body = _shaped_error(exchange, response, body) if attempt.status >= 400 else _read(exchange, body, decoder)
    if attempt.keeper is not None and attempt.status < 300:
        body = await _heard(exchange, body)
    if client.has_body and attempt.status not in _WITHOUT_BODY:
        headers = passing.without(headers, b"content-length")
        headers.append((b"content-length", b"%d" % len(body)))

    async def say(end: End | None) -> None:
        if end is not None and end.cost_nano_usd is not None:
            headers.append((b"x-tt-cost-usd", format_usd(end.cost_nano_usd).encode()))
        await client.answer(attempt.status, headers, body)

    await exchange.conclude(exchange.ended(saw_end=True), say, failed=exchange.unbilled)


async def _heard(exchange: Exchange, body: bytes) -> bytes:
    """Let an attempt's keeper learn from the answer. What the journal cannot keep ends the call, with its row."""
    attempt = exchange.attempt
    assert attempt.keeper is not None
    try:
        return await attempt.keeper.heard(attempt, body)
    except JournalUnavailable:
        exchange.book(exchange.ended(saw_end=False), 503)
        raise


def _shaped_error(exchange: Exchange, response: aiohttp.ClientResponse, body: bytes) -> bytes:
    attempt = exchange.attempt
    if exchange.shaper is None:
        return body
    family = attempt.dialect.family
    return exchange.shaper.reshape_error(family, attempt.status, response.raw_headers, body, attempt.id)


def _read(exchange: Exchange, body: bytes, decoder: Decoder) -> bytes:
    """Learn the usage of a whole answer; the body as the client gets it."""
    attempt = exchange.attempt
    if exchange.shaper is not None:  # before reading: LiteLLM wraps ids and makes up a usage of zeros for images
        body = exchange.shaper.answer_body(body)
    attempt.reading = attempt.dialect.read_body(decoder.feed(body, COPY_BYTES))
    return body


async def _rest(
    exchange: Exchange, response: aiohttp.ClientResponse, headers: Headers, chunks: list[bytes], decoder: Decoder | None
) -> None:
    """A long or binary answer: forwarded as it comes but for its last bytes, which wait for the row."""
    attempt, client = exchange.attempt, exchange.client
    copy = bytearray().join(chunks) if decoder else bytearray()
    await client.start(attempt.status, headers)
    last = b"".join(chunks)
    while chunk := await exchange.read(response):
        await client.write(last)
        last = chunk
        if decoder is not None and len(copy) <= COPY_BYTES:
            copy += chunk
    if decoder is not None and attempt.status < 400:
        _learn(attempt, bytes(copy), decoder)
    exchange.book(exchange.ended(saw_end=True))
    await client.finish(last)


def _learn(attempt: Attempt, body: bytes, decoder: Decoder) -> None:
    attempt.reading = attempt.dialect.read_body(decoder.feed(body, COPY_BYTES))
