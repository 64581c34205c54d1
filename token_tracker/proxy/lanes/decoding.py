"""Reading a compressed answer's copy while its own bytes go to the client as they came."""

from __future__ import annotations

import zlib
from typing import Protocol

import brotli


class Decoder(Protocol):
    """Turns an answer's bytes into plain ones for reading; nothing more once it can no longer read them."""

    def feed(self, data: bytes, limit_bytes: int) -> bytes: ...


class Plain:
    def feed(self, data: bytes, limit_bytes: int) -> bytes:
        return data


class Unreadable:
    """An encoding that the gateway cannot read (it asked for others): nothing is learnt from the body."""

    def feed(self, data: bytes, limit_bytes: int) -> bytes:
        return b""


class Inflate:
    """gzip and deflate (zlib-wrapped or raw); at most `limit_bytes` come out of one feed, the rest is dropped."""

    def __init__(self, window_bits: int) -> None:
        self._window_bits = window_bits
        self._inflate = zlib.decompressobj(window_bits)
        self._is_broken = self._has_begun = False

    def feed(self, data: bytes, limit_bytes: int) -> bytes:
        if self._is_broken or not data:
            return b""
        try:
            plain = self._start(data, limit_bytes) if not self._has_begun else self._more(data, limit_bytes)
        except zlib.error:
            self._is_broken = True
            return b""
        self._is_broken = bool(self._inflate.unconsumed_tail)
        return plain

    def _start(self, data: bytes, limit_bytes: int) -> bytes:
        self._has_begun = True
        try:
            return self._more(data, limit_bytes)
        except zlib.error:
            if self._window_bits != zlib.MAX_WBITS:
                raise
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)  # some servers send deflate without its wrapper
            return self._more(data, limit_bytes)

    def _more(self, data: bytes, limit_bytes: int) -> bytes:
        plain = self._inflate.decompress(data, limit_bytes)
        while self._inflate.eof and self._inflate.unused_data and len(plain) < limit_bytes:
            data = self._inflate.unused_data  # a gzip file may have several members
            self._inflate = zlib.decompressobj(self._window_bits)
            plain += self._inflate.decompress(data, limit_bytes - len(plain))
        return plain


class Brotli:
    """At most some 32 kB more than `limit_bytes` come out of one feed, and nothing after that."""

    def __init__(self) -> None:
        self._decompress = brotli.Decompressor()
        self._is_broken = False

    def feed(self, data: bytes, limit_bytes: int) -> bytes:
        if self._is_broken or not data:
            return b""
        try:
            plain: bytes = self._decompress.process(data, output_buffer_limit=limit_bytes)
        except brotli.error:
            self._is_broken = True
            return b""
        self._is_broken = not self._decompress.can_accept_more_data()
        return plain


def decoder_for(content_encoding: str) -> Decoder:
    """The reader of an answer by its `content-encoding` ('' or 'identity': plain)."""
    match content_encoding.strip().lower():
        case "" | "identity":
            return Plain()
        case "gzip" | "x-gzip":
            return Inflate(zlib.MAX_WBITS | 16)
        case "deflate":
            return Inflate(zlib.MAX_WBITS)
        case "br":
            return Brotli()
        case _:
            return Unreadable()
