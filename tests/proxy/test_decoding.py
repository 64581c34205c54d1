"""Compressed answers are read from a copy, cut anywhere, within bounds."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from token_tracker.proxy.lanes.decoding import decoder_for

LIMIT = 1 << 20
TEXT = b'{"usage": {"prompt_tokens": 3}} ' * 50
ENCODED = {
    "gzip": gzip.compress(TEXT),
    "deflate": zlib.compress(TEXT),
    "br": brotli.compress(TEXT),
    "": TEXT,
}


@pytest.mark.parametrize("encoding", ENCODED)
@given(cut=st.integers(0, 120))
def test_an_answer_cut_anywhere_reads_the_same(encoding: str, cut: int) -> None:
    decoder = decoder_for(encoding)
    data = ENCODED[encoding]
    assert decoder.feed(data[:cut], LIMIT) + decoder.feed(data[cut:], LIMIT) == TEXT


def test_deflate_without_its_wrapper_is_read_too() -> None:
    raw = zlib.compressobj(wbits=-15)
    assert decoder_for("deflate").feed(raw.compress(TEXT) + raw.flush(), LIMIT) == TEXT


def test_several_gzip_members_are_one_text() -> None:
    assert decoder_for("gzip").feed(gzip.compress(b"one ") + gzip.compress(b"two"), LIMIT) == b"one two"


@pytest.mark.parametrize(("encoding", "press"), [("gzip", gzip.compress), ("br", brotli.compress)])
def test_a_bomb_yields_little_more_than_the_limit(encoding: str, press: Callable[[bytes], bytes]) -> None:
    decoder = decoder_for(encoding)
    assert len(decoder.feed(press(bytes(10_000_000)), 1000)) <= 1000 + (64 << 10)
    assert decoder.feed(b"more", 1000) == b""


@pytest.mark.parametrize("encoding", ["zstd", "gzip, br"])
def test_what_cannot_be_read_teaches_nothing(encoding: str) -> None:
    assert decoder_for(encoding).feed(b"anything", LIMIT) == b""


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_garbage_named_so_is_no_exception(encoding: str) -> None:
    decoder = decoder_for(encoding)
    assert decoder.feed(b"\xff is nothing of that kind", LIMIT) == b""
    assert decoder.feed(b"more", LIMIT) == b""
