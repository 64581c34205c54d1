"""Events that are skimmed add up to the same as events that are read."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.proxy.dialects.streams import CHAT_USAGE, DONE, FINISH, chat_chunk
from token_tracker.proxy.dialects.base import Reading
from token_tracker.proxy.dialects.chat_stream import ChatObserver
from token_tracker.proxy.dialects.likeness import LESSONS, Likeness

HELLO, WORLD = (chat_chunk({"content": text}) for text in ("Hello", " world"))
texts = st.one_of(
    st.text(max_size=8),
    st.sampled_from(['"', "\\", '\\"}', "\n", '"}},"choices":[{', '"},"logprobs":null', '"content":"', "ü€🙂", ""]),
)
deltas: st.SearchStrategy[dict[str, Any]] = st.one_of(
    texts.map(lambda text: {"content": text}),
    texts.map(lambda text: {"role": "assistant", "content": text, "reasoning_content": None}),
    texts.map(lambda text: {"reasoning_content": text}),
    st.builds(lambda text, more: {"content": text, "refusal": more}, texts, texts),
)
members: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.just({}),
    texts.map(lambda text: {"obfuscation": text}),
    st.sampled_from(["flex", "default"]).map(lambda tier: {"service_tier": tier}),
    st.just({"error": {"message": "no"}}),
    st.just({"usage": CHAT_USAGE}),
    st.just({"choices": [FINISH]}),
    st.builds(lambda text: {"choices": [{"index": i, "delta": {"content": text}} for i in (0, 1)]}, texts),
)
events = st.lists(
    st.one_of(
        st.builds(lambda delta, more: chat_chunk(delta, **more), deltas, members),
        st.sampled_from([HELLO, WORLD, b": ping\n\n", b"\n\n", b"\n", b"data: {\n\n", b"data:\n\n"]),
    ),
    max_size=30,
)


class Thorough(Likeness):
    """Finds nothing like anything."""

    __slots__ = ()

    @property
    def can_learn(self) -> bool:
        return False


def reading(chunks: list[bytes], *, skims: bool) -> tuple[bytes, Reading]:
    observer = ChatObserver(keeps_usage=False)
    if not skims:
        observer._likeness = Thorough()
    cuts = [*map(observer.feed, chunks), observer.close()]
    return b"".join(cut.forward + cut.terminal for cut in cuts), observer.reading


@given(events, st.lists(st.integers(0, 4000), max_size=6))
def test_what_is_skimmed_reads_the_same_and_goes_out_the_same(parts: list[bytes], cuts: list[int]) -> None:
    whole = b"".join([HELLO, *parts, DONE])
    places = [0, *sorted(each % len(whole) for each in cuts), len(whole)]
    chunks = [whole[a:b] for a, b in pairwise(places)]
    assert reading(chunks, skims=True) == reading(chunks, skims=False)
    assert reading([whole], skims=True) == reading([whole], skims=False)


@given(st.lists(texts, min_size=1, max_size=20))
def test_one_event_a_chunk_is_skimmed_like_all_in_one(words: list[str]) -> None:
    parts = [HELLO, *(said(text) for text in words)]
    bytes_out, one_by_one = reading(parts, skims=True)
    assert (bytes_out, one_by_one) == reading([b"".join(parts)], skims=True)
    assert one_by_one.output_bytes == len("Hello") + sum(len(text.encode("utf-8", "replace")) for text in words)


def said(text: str, **more: Any) -> bytes:
    return chat_chunk({"content": text}, **more)


def padded(text: str, padding: str, **more: Any) -> bytes:
    """The padding comes last but for a name, so that what stands between is not told by the event's end."""
    return said(text, obfuscation=padding, **more, system_fingerprint="fp")


def noted(note: str) -> bytes:
    return said("a").replace(b'"id"', b'"note":{"content":"%s"},"id"' % note.encode())


@pytest.mark.parametrize(
    "parts",
    [
        [said("a", service_tier="default"), said("", service_tier="flex"), said("b", service_tier="default")],
        [chat_chunk({"content": text, "refusal": "no"}) for text in ("a", "b", "c")],
        [padded("a", "xx"), padded("b", "yyy"), padded("c", "z", usage=CHAT_USAGE, note="x")],
        [padded("a", "xx"), padded("b", 'y"'), padded("c", "\\")],
        [said("a", note={"content": "n"}), said("b", note={"content": "n"}), said("a", note={"content": "many"})],
        [noted("n"), noted("m"), noted("many")],
        [said("a"), said('"'), said("\\"), said("b"), said('}"'), said("c")],
        [said("a"), chat_chunk({}, choices=[FINISH]), said("b")],
        [said("a").replace(b'"a"', b' "a"'), said("b").replace(b'"b"', b' "b"')],
    ],
)
def test_what_comes_between_like_events_counts(parts: list[bytes]) -> None:
    whole = [*parts, chat_chunk(None, usage={**CHAT_USAGE}), DONE]
    for chunks in (whole, [b"".join(whole)], [b"".join(parts), *whole[len(parts) :]]):
        assert reading(chunks, skims=True) == reading(chunks, skims=False)
        assert reading(chunks[:-2], skims=True) == reading(chunks[:-2], skims=False)


def learnt(event: bytes) -> Likeness:
    likeness = Likeness()
    likeness.learn(event)
    return likeness


def test_only_another_text_is_like_the_last_one() -> None:
    likeness = learnt(HELLO)
    assert likeness.text_bytes(WORLD) == 6
    assert likeness.text_bytes(chat_chunk({"content": 'say "ü"\n'})) == len('say "ü"\n'.encode())
    others = [
        chat_chunk({"content": "x"}, usage=CHAT_USAGE),
        chat_chunk({"content": "x", "refusal": "y"}),
        chat_chunk({"content": None}),
        chat_chunk({"content": "x"}, id="another"),
        HELLO.replace(b"Hello", b'Hello","refusal":"no'),
        HELLO.replace(b"Hello", b"Hello\\"),
    ]
    assert [likeness.text_bytes(other) for other in others] == [None] * len(others)


def test_padding_of_any_length_makes_no_difference() -> None:
    likeness = learnt(chat_chunk({"content": "Hello"}, usage=None, obfuscation="a1"))
    assert likeness.text_bytes(chat_chunk({"content": "you"}, usage=None, obfuscation="b2c3d4")) == 3
    assert likeness.text_bytes(chat_chunk({"content": "you"}, usage=CHAT_USAGE, obfuscation="b2c3d4")) is None


def test_a_run_of_like_events_is_told_at_once_and_ends_before_the_first_other() -> None:
    likeness = learnt(HELLO)
    run = likeness.run(WORLD + chat_chunk({"content": ""}) + HELLO + DONE, 0)
    assert run is not None
    assert (WORLD + chat_chunk({"content": ""}) + HELLO + DONE)[run.end :] == DONE
    assert (run.with_text, run.text_bytes) == (2, 11)


def test_what_nothing_is_like_is_given_up() -> None:
    likeness = Likeness()
    for number in range(100):
        if not likeness.can_learn:
            break
        likeness.learn(chat_chunk({"content": "x"}, id=str(number)))
    assert number == LESSONS
