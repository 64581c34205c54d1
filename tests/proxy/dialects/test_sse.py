"""What holds for every stream, wherever it is cut: the same bytes, the same reading, the same end."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.proxy.dialects.streams import (
    CHAT,
    CHAT_BODY,
    CHAT_USAGE_CHUNK,
    DONE,
    MESSAGES,
    RESPONSES,
    bytewise,
    cut_at,
    data,
    event,
    run,
)
from token_tracker.proxy.dialects import ROUTES, sse
from token_tracker.proxy.dialects.base import StreamObserver

TAIL = b": bye\n\ndata: after the end\n\n"


@dataclass(frozen=True)
class Recorded:
    """A stream by its parts: what goes out at once, what is taken out of it, what waits, as (bytes, is taken out)."""

    path: str
    body: bytes
    before: tuple[tuple[bytes, bool], ...]
    terminal: bytes

    def observer(self) -> StreamObserver:
        dialect = ROUTES[self.path].dialect
        return dialect.observer(dialect.read(self.body))

    def with_line_end(self, line_end: bytes) -> Recorded:
        def convert(part: bytes) -> bytes:
            return part.replace(b"\n", line_end)

        before = tuple((convert(part), is_taken_out) for part, is_taken_out in self.before)
        return Recorded(self.path, self.body, before, convert(self.terminal))

    @property
    def upstream(self) -> bytes:
        return b"".join(part for part, _ in self.before) + self.terminal

    @property
    def expected(self) -> tuple[bytes, bytes]:
        return b"".join(part for part, is_taken_out in self.before if not is_taken_out), self.terminal


def kept(*parts: bytes) -> tuple[tuple[bytes, bool], ...]:
    return tuple((part, False) for part in parts)


NOISE = b"\xef\xbb\xbf: PROCESSING\n\n\nid: 7\nretry: 10\n\n"
ASKED = b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}'
PLAIN = b'{"model":"m","stream":true}'
CHAT_OURS = Recorded("/v1/chat/completions", PLAIN, (*kept(NOISE, *CHAT_BODY), (CHAT_USAGE_CHUNK, True)), DONE + TAIL)
CHAT_THEIRS = Recorded("/v1/chat/completions", ASKED, kept(NOISE, *CHAT[:-1]), DONE + TAIL)
SPREAD = CHAT_BODY[1].replace(b'"choices"', b'\ndata:"choices"')  # one event, its data on two lines
CHAT_SPREAD = Recorded(
    "/v1/chat/completions",
    PLAIN,
    (*kept(SPREAD), (CHAT_USAGE_CHUNK.replace(b'"usage"', b'\ndata: "usage"'), True)),
    b"event: end\ndata:[DONE]\n\n" + TAIL,
)
# The older completions: text in place of deltas, the same usage chunk.
TEXTS = [
    data({"id": "cmpl-7", "object": "text_completion", "choices": [{"index": 0, "text": t}]}) for t in ("Hi ", "ü")
]
COMPLETIONS_OURS = Recorded("/v1/completions", PLAIN, (*kept(NOISE, *TEXTS), (CHAT_USAGE_CHUNK, True)), DONE + TAIL)
ANTHROPIC = Recorded("/v1/messages", PLAIN, kept(NOISE, *MESSAGES[:-1]), MESSAGES[-1] + TAIL)
RESPONDING = Recorded("/v1/responses", PLAIN, kept(NOISE, *RESPONSES[:-1]), RESPONSES[-1] + TAIL)
NAMELESS = Recorded(
    "/v1/responses",
    PLAIN,
    kept(*(part[part.index(b"data:") :] for part in RESPONSES[:-1])),
    RESPONSES[-1][RESPONSES[-1].index(b"data:") :] + TAIL,
)
PICTURE = Recorded(
    "/v1/images/generations",
    PLAIN,
    kept(event("image_generation.partial_image", b64_json="AAAA")),
    event("image_generation.completed", b64_json="A" * 99, usage={"input_tokens": 3, "output_tokens": 9}) + TAIL,
)
RECORDED = {
    "chat": CHAT_OURS,
    "chat, usage asked for": CHAT_THEIRS,
    "chat, data on two lines": CHAT_SPREAD,
    "completions": COMPLETIONS_OURS,
    "messages": ANTHROPIC,
    "responses": RESPONDING,
    "responses without event lines": NAMELESS,
    "images": PICTURE,
}
LINE_ENDS = {"LF": b"\n", "CRLF": b"\r\n", "CR": b"\r"}
streams = pytest.mark.parametrize("recorded", RECORDED.values(), ids=RECORDED)
line_ends = pytest.mark.parametrize("line_end", LINE_ENDS.values(), ids=LINE_ENDS)


@streams
@line_ends
def test_a_stream_cut_in_two_at_every_byte_gives_the_same_bytes_and_reading(
    recorded: Recorded, line_end: bytes
) -> None:
    recorded = recorded.with_line_end(line_end)
    whole = run(recorded.observer(), [recorded.upstream])
    assert whole[:2] == recorded.expected
    assert whole[2].saw_end
    for position in range(len(recorded.upstream) + 1):
        assert run(recorded.observer(), cut_at(recorded.upstream, [position])) == whole, position


@streams
@line_ends
def test_a_stream_that_comes_byte_by_byte_gives_the_same_bytes_and_reading(recorded: Recorded, line_end: bytes) -> None:
    recorded = recorded.with_line_end(line_end)
    whole = run(recorded.observer(), [recorded.upstream])
    assert run(recorded.observer(), bytewise(recorded.upstream)) == whole


@given(st.data())
def test_however_a_stream_is_cut_and_its_lines_end_it_gives_the_same_bytes_and_reading(draw: st.DataObject) -> None:
    recorded = draw.draw(st.sampled_from(list(RECORDED.values())))
    recorded = recorded.with_line_end(draw.draw(st.sampled_from(list(LINE_ENDS.values()))))
    cuts = draw.draw(st.lists(st.integers(0, len(recorded.upstream)), max_size=12))
    whole = run(recorded.observer(), [recorded.upstream])
    assert run(recorded.observer(), cut_at(recorded.upstream, cuts)) == whole


@streams
def test_the_line_end_makes_no_difference_to_the_reading(recorded: Recorded) -> None:
    readings = [run((each := recorded.with_line_end(end)).observer(), [each.upstream])[2] for end in LINE_ENDS.values()]
    assert readings[0] == readings[1] == readings[2]


@streams
def test_one_event_a_chunk_is_passed_on_with_that_chunk(recorded: Recorded) -> None:
    observer = recorded.observer()
    for part, is_taken_out in recorded.before:
        cut = observer.feed(part)
        assert (cut.forward, cut.terminal) == (b"" if is_taken_out else part, b"")
    assert observer.feed(recorded.terminal).terminal == recorded.terminal


@given(
    st.sampled_from(["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/embeddings"]),
    st.lists(
        st.binary(max_size=9)
        | st.sampled_from(
            [b"\n", b"\r", b"\r\n", b"data:", b"data: {", b"event: ", b"}", b":", b"\xef\xbb\xbf", b"[DONE]"]
        )
        | st.sampled_from([b"message_stop", b'{"type":"message_stop"}', b'"choices":[{', b'{"choices":[],"usage":{}}']),
        max_size=20,
    ),
)
def test_what_is_no_stream_at_all_comes_out_as_it_went_in_however_it_is_cut(path: str, pieces: list[bytes]) -> None:
    dialect = ROUTES[path].dialect
    request = dialect.read(ASKED)
    rubbish = b"".join(pieces)
    before, after, reading = run(dialect.observer(request), [rubbish])
    assert before + after == rubbish
    cut_before, cut_after, cut_reading = run(dialect.observer(request), pieces)
    assert (cut_before + cut_after, cut_reading) == (rubbish, reading)


@pytest.mark.parametrize(
    ("recorded", "beginning"),
    [
        (CHAT_OURS, CHAT_BODY[1][: CHAT_BODY[1].index(b'"choices":[{') + 12]),
        (CHAT_THEIRS, b"data: {"),
        (ANTHROPIC, b"event: content_block_delta\n"),
        (RESPONDING, b"event: response.output_text.delta\n"),
        (NAMELESS, b'data: {"type":"response.output_text.delta"'),
    ],
)
def test_an_event_goes_out_before_it_is_complete_once_it_cannot_be_the_end(
    recorded: Recorded, beginning: bytes
) -> None:
    observer = recorded.observer()
    assert observer.feed(beginning[:-1]).forward == b""
    assert observer.feed(beginning[-1:]).forward == beginning
    assert observer.feed(b'"more').forward == b'"more'


@pytest.mark.parametrize(
    ("recorded", "beginning"),
    [
        (CHAT_OURS, b'data: {"id":"x","choices":[],"usage":{"prompt_tok'),
        (CHAT_OURS, b'data: {"x":{"choices":[{}]},"choices":[],"usage":{"prompt_tok'),
        (CHAT_OURS, b"data: [DON"),
        (CHAT_THEIRS, b"data: [DONE]\n"),
        (CHAT_THEIRS, b": ping\ndata:\ndata: "),
        (ANTHROPIC, b"event: message_stop\nda"),
        (ANTHROPIC, b'event: message\ndata: {"type":"mess'),
        (RESPONDING, b'event: response.completed\ndata: {"type":"response.completed","response":{"output":['),
        (NAMELESS, b'data: {"response":{"output":['),
    ],
)
def test_an_event_that_may_still_be_the_end_or_the_usage_waits(recorded: Recorded, beginning: bytes) -> None:
    observer = recorded.observer()
    assert observer.feed(beginning).forward == b""
    cut = observer.close()
    assert cut.forward + cut.terminal == beginning


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_an_event_beyond_the_bound_is_passed_on_unread_and_the_next_is_read_again(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 2000)
    recorded = {"/v1/chat/completions": CHAT_OURS, "/v1/messages": ANTHROPIC, "/v1/responses": RESPONDING}[path]
    long = b"data: [" + b"1," * 4000 + b"1]\n\n"
    observer = recorded.observer()
    chunks = cut_at(long, range(0, len(long), 100))
    sent = [observer.feed(chunk).forward for chunk in chunks]
    assert b"".join(sent) == long
    assert max(map(len, sent)) <= 2100, "no more than the bound was held"
    assert run(observer, [recorded.upstream])[:2] == recorded.expected
