"""One line for each call, without a word of its content: put aside by the event loop, written by a thread."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import msgspec

from token_tracker.config.logs import local_time, rfc3339
from token_tracker.domain.money import format_usd
from token_tracker.domain.usage import TOKEN_CLASSES
from token_tracker.proxy.books.records import End, Open

log = logging.getLogger("token_tracker.gateway")

LOGGER = "token_tracker.calls"
WAITING_MAX = 20_000  # lines that were not written yet; what comes on top is dropped, and that is said
LOOK_S = 0.2
# Between two lots the event loop gets its turn. So many lines take a tenth of a millisecond; taking turns more often
# costs the calls more than the lines do.
LINES_AT_ONCE = 32
# What a pipe takes in one piece (POSIX: PIPE_BUF): the lines of several processes do not get mixed.
WRITE_CHARACTERS = 4096
REFUSALS_A_SECOND = 20  # have lines of their own; a flood is told as a number
_PLAIN = re.compile(r"[\w.:/@+*{} -]*", re.ASCII)
_encode = msgspec.json.Encoder().encode
_TEXT = (
    f"%s INFO {LOGGER}: request_id=%s attempt=%d %s status=%d end_reason=%s usage_source=%s%s cost_usd=%s "
    "cost_source=%s latency_ms=%.1f%s\n"
)
_JSON = (
    f'{{"time":"%s","level":"INFO","logger":"{LOGGER}","request_id":"%s","attempt":%d,%s,"status":%d,"end_reason":"%s",'
    '"usage_source":"%s"%s,"cost_usd":%s,"cost_source":"%s","latency_ms":%.1f%s}\n'
)
Line = dict[str, Any]


class CallLog:
    """Writes lines in `form` 'text' or 'json' with `write`, from its own thread. `dropped`: lines that were lost."""

    def __init__(self, form: str, write: Callable[[str], Any] | None = None) -> None:
        self.dropped = 0
        self._is_json = form == "json"
        self._write = write or _to_stderr
        self._waiting: deque[tuple[float, End | Line]] = deque()
        self._stop = threading.Event()
        self._said_dropped = 0
        self._second = self._refusals = 0
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="call-log", daemon=True)
        self._thread.start()

    def put_refusal(self, line: Line) -> None:
        """The fields of a refusal; whoever sends many without a key does not fill the disk."""
        self._tell_flood()
        with self._counting:
            self._refusals += 1
            has_line = self._refusals <= REFUSALS_A_SECOND
        if has_line:
            self.put(line)

    def _tell_flood(self, *, is_over: bool = False) -> None:
        """Once its second, or all, is over."""
        second, more = int(time.monotonic()), 0
        with self._counting:
            if is_over or second != self._second:
                more, self._refusals, self._second = self._refusals - REFUSALS_A_SECOND, 0, second
        if more > 0:
            log.warning("%d more requests were refused within a second; /api/refusals counts all", more)

    def put(self, what: End | Line) -> None:
        """A call's row, or the fields of a line. Under a microsecond."""
        if len(self._waiting) >= WAITING_MAX:
            self.dropped += 1
        else:
            self._waiting.append((time.time(), what))

    def close(self) -> None:
        """Write what waits. Idempotent."""
        self._tell_flood(is_over=True)
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            self._tell_flood()
            self._drain()
        self._drain()

    def _drain(self) -> None:
        while self._waiting:
            lot = [self._waiting.popleft() for _ in range(min(LINES_AT_ONCE, len(self._waiting)))]
            for text in _pieces([self._told(at_s, what) for at_s, what in lot]):
                try:
                    self._write(text)
                except (OSError, ValueError):  # nobody reads the log any more: calls go on
                    self.dropped += text.count("\n")
        if self.dropped > self._said_dropped:
            log.warning("%d lines of calls were not logged: the log is slower than the calls", self.dropped)
            self._said_dropped = self.dropped

    def _told(self, at_s: float, what: End | Line) -> str:
        if isinstance(what, End):
            return _row_as_json(at_s, what) if self._is_json else _row_as_text(at_s, what)
        return _as_json(at_s, what) if self._is_json else _as_text(at_s, what)


def _pieces(lines: list[str]) -> Iterator[str]:
    """The lines, together as far as they leave in one piece."""
    some: list[str] = []
    room = WRITE_CHARACTERS
    for line in lines:
        room -= len(line)
        if some and room < 0:
            yield "".join(some)
            some, room = [], WRITE_CHARACTERS - len(line)
        some.append(line)
    yield "".join(some)


def _to_stderr(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _row_as_text(at_s: float, end: End) -> str:
    opened, cost = end.opened, end.cost_nano_usd
    return _TEXT % (
        local_time(at_s),
        opened.call_id,
        opened.attempt,
        _text_of_call(*_call_of(opened)),
        end.status_code,
        end.end_reason,
        end.usage_source,
        "".join([f" {name}={count}" for name, count in zip(TOKEN_CLASSES, end.tokens, strict=True) if count]),
        "none" if cost is None else format_usd(cost),
        end.cost_source,
        end.latency_ms,
        "" if end.ttft_ms is None else f" ttft_ms={end.ttft_ms:.1f}",
    )


def _row_as_json(at_s: float, end: End) -> str:
    opened, cost = end.opened, end.cost_nano_usd
    return _JSON % (
        rfc3339(at_s),
        opened.call_id,
        opened.attempt,
        _json_of_call(*_call_of(opened)),
        end.status_code,
        end.end_reason,
        end.usage_source,
        "".join([f',"{name}":{count}' for name, count in zip(TOKEN_CLASSES, end.tokens, strict=True) if count]),
        "null" if cost is None else f'"{format_usd(cost)}"',
        end.cost_source,
        end.latency_ms,
        "" if end.ttft_ms is None else f',"ttft_ms":{end.ttft_ms:.1f}',
    )


def _call_of(opened: Open) -> tuple[Any, ...]:
    """What most calls have in common with others: the values of `_CALL`."""
    subject = opened.subject
    return (
        *(subject.key_id, subject.user, subject.team, opened.endpoint, opened.stream),
        *(opened.requested_model, opened.model, opened.provider, opened.lane),
    )


_CALL = ("key_id", "user", "team", "endpoint", "stream", "requested_model", "model", "provider", "lane")


@lru_cache(maxsize=1024)
def _text_of_call(*values: Any) -> str:
    return _pairs(dict(zip(_CALL, values, strict=True)))


@lru_cache(maxsize=1024)
def _json_of_call(*values: Any) -> str:
    return _ascii_json(dict(zip(_CALL, values, strict=True)))[1:-1]


def _as_json(at_s: float, line: Line) -> str:
    return _ascii_json({"time": rfc3339(at_s), "level": "INFO", "logger": LOGGER, **line}) + "\n"


def _ascii_json(line: Line) -> str:
    """Beyond ASCII there are characters that turn text around, or write to a terminal: JSON's escapes show them."""
    encoded = _encode(line)
    return encoded.decode() if encoded.isascii() else json.dumps(json.loads(encoded), separators=(",", ":"))


def _as_text(at_s: float, line: Line) -> str:
    return f"{local_time(at_s)} INFO {LOGGER}: {_pairs(line)}\n"


def _pairs(line: Line) -> str:
    return " ".join([f"{name}={_value(value)}" for name, value in line.items() if value is not None and value != ""])


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


@lru_cache(maxsize=4096)
def _quoted(text: str) -> str:
    """Quoted as in JSON where it is not plain: control characters never reach a terminal."""
    return text if _PLAIN.fullmatch(text) and " " not in text else json.dumps(text)
