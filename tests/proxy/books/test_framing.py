"""Frames: whatever is written is read back, whatever is cut or damaged is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.proxy.books.records_made import an_end, an_open
from token_tracker.proxy.books import framing
from token_tracker.proxy.books.records import Awaiting, End, Open, Record, Subject

texts = st.text(st.characters(codec="utf-8"), max_size=60)
subjects = st.builds(Subject, texts, texts, texts, texts, texts, texts, st.lists(texts, max_size=4).map(tuple), texts)
opens = st.builds(
    Open,
    texts,
    texts,
    st.integers(1, 9),
    st.integers(0, 2**60),
    texts,
    st.sampled_from(["direct", "litellm"]),
    st.booleans(),
    texts,
    texts,
    texts,
    subjects,
)
counts = st.lists(st.integers(0, 2**63 - 1), min_size=10, max_size=10).map(tuple)
ends = st.builds(
    End,
    opens,
    texts,
    st.integers(0, 599),
    counts,
    texts,
    st.none() | st.integers(0, 2**62),
    texts,
    texts,
    st.floats(0, 1e9),
    st.none() | st.floats(0, 1e9),
    texts,
    texts,
)
records = st.one_of(opens, ends, ends.map(Awaiting))


def frame(record: Record) -> bytes:
    buffer = bytearray()
    framing.encode_into(record, buffer)
    return bytes(buffer)


@given(st.lists(records, max_size=5), st.integers(0, 40))
def test_what_is_written_is_read_back_up_to_empty_space(written: list[Record], zeros: int) -> None:
    data = b"".join(frame(record) for record in written)
    found, reach = framing.split(data + bytes(zeros))
    assert [framing.decode(payload) for _, payload in found] == written
    assert reach == len(data) == framing.skip(data + bytes(zeros))


@given(records, records, st.data())
def test_a_damaged_byte_ends_what_is_read_before_its_record(first: Record, second: Record, data: st.DataObject) -> None:
    start, damaged = len(frame(first)), bytearray(frame(first) + frame(second))
    damaged[data.draw(st.integers(start, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    found, reach = framing.split(bytes(damaged))
    assert [framing.decode(payload) for _, payload in found] == [first]
    assert reach == start


def test_a_record_cut_at_any_byte_is_not_read_and_all_before_it_are() -> None:
    first, last = frame(an_open(1)), frame(an_end(an_open(1)))
    for cut in range(len(last.rstrip(b"\0"))):  # zeros at its end are there already: the space is preallocated
        for tail in (b"", bytes(64)):
            found, reach = framing.split(first + last[:cut] + tail)
            assert ([end for end, _ in found], reach) == ([len(first)], len(first)), cut


def test_a_record_beyond_the_bound_is_refused_when_it_is_written() -> None:
    opened = an_open(1)
    subject = structs.replace(opened.subject, metadata="x" * (framing.MAX_RECORD_BYTES + 1))
    with pytest.raises(framing.RecordTooLong, match="at most"):
        frame(structs.replace(opened, subject=subject))
