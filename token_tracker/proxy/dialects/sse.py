"""Watching a stream of server-sent events cut at any byte: what it says of usage, and where the client sees its end.

Bytes come out as they went in, in order. An incomplete event goes out at once if its beginning proves that it is
neither the end nor a chunk to be taken out; else it waits for its blank line. Framing: WHATWG HTML, section 9.2.6.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from enum import Enum

from token_tracker.proxy.dialects.base import Cut, Reading

MAX_EVENT_BYTES = 32 << 20  # a longer event is passed on unread
JUDGED_BYTES = 4096  # the beginning of an event that is looked at before it is complete
NOTHING = Cut(b"")

_LINE_END = rb"(?>\r\n|\n|\r)"  # atomic: a CRLF is never read as two line ends
_BLANK_LINE = re.compile(_LINE_END + _LINE_END)
_LINES = re.compile(_LINE_END)
_BOM = b"\xef\xbb\xbf"
# The lines that may stand before the one that decides: blank, comments, and fields other than those named next.
PREAMBLE = rb"(?:\xef\xbb\xbf)?(?:[\r\n]|(?::|id:|retry:)[^\r\n]*[\r\n])*"


class Fate(Enum):
    """What becomes of a complete event."""

    PASS = "pass"  # noqa: S105
    DROP = "drop"
    END = "end"  # what the client takes for the end


class SseObserver(ABC):
    """One answer's stream. A dialect says what an event means (`_take`) and when an incomplete one is harmless."""

    __slots__ = (
        *("_can_skip_lf", "_ended", "_event", "_has_cr", "_is_ordinary", "_is_unread", "_last", "_sent"),
        "reading",
    )

    def __init__(self) -> None:
        self.reading = Reading()
        self._event = bytearray()  # of the event that is not complete yet
        self._sent = 0  # so much of it is out already
        self._is_ordinary = False  # its beginning proved it harmless
        self._is_unread = False  # it is too long to be read
        self._can_skip_lf = False  # the last event ended in CR: a LF that follows is still its own
        self._has_cr = False
        self._last = Fate.PASS
        self._ended = False

    @abstractmethod
    def _take(self, event: bytes) -> Fate:
        """Read a complete event, its blank line included."""

    @abstractmethod
    def _looks_ordinary(self, beginning: bytes) -> bool:
        """Whether an event that begins so can be neither the end nor taken out."""

    def _closed(self, is_clean: bool) -> None:  # noqa: B027 (some have nothing to decide then)
        """The upstream ended; `saw_end` may be decided now."""

    @property
    def is_between_events(self) -> bool:
        return not self._event and not self._ended

    def ending(self, model: str) -> bytes:
        """Events that end the stream here as if its output maximum were reached; b'' where the dialect has none."""
        return b""

    def feed(self, chunk: bytes) -> Cut:
        """The bytes to send at once, and those that wait for the end record: the end, and all after it."""
        if self._ended:
            return Cut(b"", chunk)
        if self._can_skip_lf or b"\r" in chunk:
            return self._pieces(chunk)
        if self._event:
            return self._pieces(chunk) if self._has_cr else self._after_begun(chunk)
        end = chunk.find(b"\n\n") + 2
        if end == 1:
            return self._pieces(chunk)
        if end != len(chunk):
            return self._events(chunk)
        fate = self._take(chunk)  # the usual case: one whole event
        if fate is Fate.PASS:
            return Cut(chunk)
        return NOTHING if fate is Fate.DROP else self._end(b"", chunk)

    def _after_begun(self, chunk: bytes) -> Cut:
        """The event that has begun is pieced together; those behind it lie there whole."""
        is_end = chunk.startswith(b"\n") and self._event.endswith(b"\n")
        end = 1 if is_end else chunk.find(b"\n\n") + 2
        if end == len(chunk) or (end == 1 and not is_end):
            return self._pieces(chunk)
        begun, rest = self._pieces(chunk[:end]), self.feed(chunk[end:])
        return Cut(begun.forward + rest.forward, begun.terminal + rest.terminal)

    def close(self, is_clean: bool = True) -> Cut:
        """The upstream ended (`is_clean`: not by a broken connection): whatever is still held back."""
        rest = NOTHING
        if self._event:
            fate, held = self._judge(bytes(self._event))
            self._event.clear()
            if fate is Fate.END:
                rest = self._end(b"", held)
            elif fate is Fate.PASS:
                rest = Cut(held)
        if not self._ended:
            self._closed(is_clean)
        return rest

    def _end(self, forward: bytes, terminal: bytes) -> Cut:
        self._ended = True
        return Cut(forward, terminal)

    def _skim(self, chunk: bytes, start: int) -> int:
        """Where a run of events ends that could be told without looking at each; `start` if none is there, and -1 if it
        is no use to ask again for this chunk."""
        return -1

    def _events(self, chunk: bytes) -> Cut:
        """Several events, and perhaps the beginning of another. What is not taken out goes on as it lies there."""
        out: list[bytes] = []
        start = kept_from = skimmed = 0
        while True:
            if skimmed >= 0 and (skimmed := self._skim(chunk, start)) > start:
                start = skimmed
            end = chunk.find(b"\n\n", start) + 2
            if end == 1:
                break
            fate = self._take(chunk[start:end])
            if fate is not Fate.PASS:
                out.append(chunk[kept_from:start])
                if fate is Fate.END:
                    return self._end(b"".join(out), chunk[start:])
                kept_from = end
            start = end
        if start == len(chunk) and not kept_from:
            return Cut(chunk)
        out.append(chunk[kept_from:start])
        if start < len(chunk):
            out.append(self._pieces(chunk[start:]).forward)
        return Cut(b"".join(out))

    def _pieces(self, chunk: bytes) -> Cut:
        out: list[bytes] = []
        event = self._event
        if self._can_skip_lf and chunk:
            self._can_skip_lf = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
                if self._last is Fate.PASS:
                    out.append(b"\n")
        search_from = max(0, len(event) - 2)
        event += chunk
        self._has_cr = self._has_cr or b"\r" in chunk
        find = _blank_line if self._has_cr else _plain_blank_line
        while (end := find(event, search_from)) > 0:
            whole = bytes(event[:end])
            del event[:end]
            search_from = 0
            fate, held = self._judge(whole)
            self._last = fate
            if fate is Fate.END:
                rest = held + bytes(event)
                event.clear()
                return self._end(b"".join(out), rest)
            if fate is Fate.PASS:
                out.append(held)
            self._can_skip_lf = not event and whole.endswith(b"\r")
        if event:
            self._let_go(out)
        return Cut(out[0] if len(out) == 1 else b"".join(out))

    def _judge(self, whole: bytes) -> tuple[Fate, bytes]:
        """A complete event's fate, and those of its bytes that are not out yet."""
        fate = Fate.PASS if self._is_unread else self._take(whole)
        held = whole[self._sent :]
        self._sent, self._is_ordinary, self._is_unread = 0, False, False
        return fate, held

    def _let_go(self, out: list[bytes]) -> None:
        """Send what is there of an incomplete event as soon as nothing speaks against it."""
        event = self._event
        if not self._is_ordinary:
            self._is_ordinary = self._looks_ordinary(bytes(event[:JUDGED_BYTES]))
        if len(event) > MAX_EVENT_BYTES:
            self._is_ordinary = self._is_unread = True
        if self._is_ordinary:
            out.append(bytes(event[self._sent :]))
            if self._is_unread:
                del event[:-2]  # enough to recognise its blank line
            self._sent = len(event)


def _plain_blank_line(event: bytearray, start: int) -> int:
    """Where the first event ends, its blank line included, in a stream without CR; 0 if it does not."""
    found = event.find(b"\n\n", start)
    return found + 2 if found >= 0 else 0


def _blank_line(event: bytearray, start: int) -> int:
    match = _BLANK_LINE.search(event, start)
    return match.end() if match else 0


def payload(event: bytes) -> bytes:
    """An event's data: its `data` lines without the name and one space, joined by LF."""
    lines = _LINES.split(event.removeprefix(_BOM))
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))


def name(event: bytes) -> str:
    """An event's `event` field; '' if it has none."""
    for line in reversed(_LINES.split(event.removeprefix(_BOM))):
        if line.startswith(b"event:"):
            return line[6:].removeprefix(b" ").decode("utf-8", "replace")
    return ""
