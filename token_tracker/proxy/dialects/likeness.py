"""Events of a stream that differ from an earlier one in their text alone, told at a fraction of the cost of reading
them: most of a chat stream is one event over and over with another word in it."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import NamedTuple

import msgspec

from token_tracker.proxy.dialects.facts import UNREADABLE, text_bytes

LESSONS = 8  # so many in a row that nothing was like: then it is not worth the trouble
_CONTENT = re.compile(rb'"content"\s*:\s*"')
_PADDING = re.compile(rb'"obfuscation"\s*:\s*"')  # OpenAI's, of random length, so that lengths tell nothing
_text = msgspec.json.Decoder(str).decode


class Run(NamedTuple):
    """Events like the one that was learnt, one behind the other: where they end, how many have a text, and how much."""

    end: int
    with_text: int
    text_bytes: int


class Likeness:
    """What the last event that was read looks like around its `content`. It is forgotten whenever another is read: so
    whatever is like it says once more what was said last, and adds nothing to a reading but its text."""

    __slots__ = ("_after", "_before", "_end", "_lessons", "_start")

    def __init__(self) -> None:
        self._before = self._after = self._end = b""
        self._start = 0
        self._lessons = LESSONS

    def text_bytes(self, event: bytes) -> int | None:
        """The UTF-8 length of the event's text; None if it is not like the one that was learnt."""
        if not self._before or not event.startswith(self._before) or not event.endswith(self._end):
            return None
        text, found, padding = event[self._start : len(event) - len(self._end)].partition(self._after)
        if not found or b'"' in padding or b"\\" in padding:
            return None
        self._lessons = LESSONS
        if b'"' not in text and b"\\" not in text:
            return len(text)
        try:
            return text_bytes(_text(b'"%s"' % text))
        except UNREADABLE:  # it ends elsewhere
            return None

    def run(self, chunk: bytes, start: int) -> Run | None:
        """The like events that begin at `start`, perhaps none; None if they have to be looked at one by one."""
        before, after = self._before, self._after
        if not before or not chunk.startswith(before, start):
            return Run(start, 0, 0)
        if self._end:
            return None
        texts = _between(chunk[start:], before, after)
        together = b"".join(texts)
        end = start + len(texts) * (len(before) + len(after)) + len(together)
        if not texts or b'"' in together or b"\\" in together:
            return None
        self._lessons = LESSONS
        return Run(end, len(texts) - texts.count(b""), len(together))

    @property
    def can_learn(self) -> bool:
        return self._lessons > 0

    def forget(self) -> None:
        self._before = b""

    def learn(self, event: bytes) -> None:
        """An event whose only text is a string named `content` in its one choice, and that tells nothing else."""
        self.forget()
        self._lessons -= 1
        places = [match.end() for match in _CONTENT.finditer(event)]
        if len(places) != 1:  # a quote within a text is escaped: what matches is a name
            return
        start = places[0]
        end = event.find(b'"', start)
        if event[end - 1 : end] == b"\\":  # perhaps a quote within the text
            return
        before, rest = event[:start], event[end:]
        padding = _PADDING.search(rest)
        if padding is None:
            self._after, self._end = rest, b""
        else:
            closing = rest.find(b'"', padding.end())
            self._after, self._end = rest[: padding.end()], rest[closing:]
        self._before, self._start = before, start


def _between(chunk: bytes, before: bytes, after: bytes) -> list[bytes]:
    """The texts of `before`, a text, `after`, once more `before` and so on, as far as that goes."""
    *pieces, _ = chunk.split(after)  # a short separator is found faster than all that lies between texts
    size = len(before)
    texts = [piece[size:] for piece in pieces if piece.startswith(before)]
    if len(texts) == len(pieces):
        return texts
    return [piece[size:] for piece in takewhile(lambda piece: piece.startswith(before), pieces)]
