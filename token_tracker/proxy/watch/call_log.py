"""One line for each call, without a word of its content: put aside by the event loop, written by a thread."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from token_tracker.config.logs import local_time, rfc3339
from token_tracker.domain.usage import TOKEN_CLASSES
from token_tracker.proxy.books.records import End

log = logging.getLogger("token_tracker.gateway")

LOGGER = "token_tracker.calls"
WAITING_MAX = 20_000  # lines that were not written yet; what comes on top is dropped, and that is said
LOOK_S = 0.2
# Between two writes, where the event loop gets its turn: so many lines take some 70 µs.
LINES_AT_ONCE = 8
REFUSALS_A_SECOND = 20  # have lines of their own; a flood is told as a number
_PLAIN = re.compile(r"[\w.:/@+*{} -]*", re.ASCII)
_encode = msgspec.json.Encoder().encode
Line = dict[str, Any]


class CallLog:
    """Writes lines in `form` 'text' or 'json' with `write`, from its own thread. `dropped`: lines that were lost."""

    def __init__(self, form: str, write: Callable[[str], Any] | None = None) -> None:
        self.dropped = 0
        self._lines_of = _as_json if form == "json" else _as_text
        self._write = write or _to_stderr
        self._waiting: deque[tuple[float, End | Line]] = deque()
        self._stop = threading.Event()
        self._said_dropped = 0
        self._second = self._refusals = 0
        self._thread = threading.Thread(target=self._run, name="call-log", daemon=True)
        self._thread.start()

    def put_refusal(self, line: Line) -> None:
        """The fields of a refusal; whoever sends many without a key does not fill the disk."""
        second = int(time.monotonic())
        if second != self._second:
            self._tell_flood()
            self._second = second
        self._refusals += 1
        if self._refusals <= REFUSALS_A_SECOND:
            self.put(line)

    def _tell_flood(self) -> None:
        more, self._refusals = self._refusals - REFUSALS_A_SECOND, 0
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
        self._tell_flood()
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            self._drain()
        self._drain()

    def _drain(self) -> None:
        while self._waiting:
            some = [self._waiting.popleft() for _ in range(min(LINES_AT_ONCE, len(self._waiting)))]
            try:
                self._write("".join(self._lines_of(at_s, _line(what)) for at_s, what in some))
            except (OSError, ValueError):  # nobody reads the log any more: calls go on
                self.dropped += len(some)
        if self.dropped > self._said_dropped:
            log.warning("%d lines of calls were not logged: the log is slower than the calls", self.dropped)
            self._said_dropped = self.dropped


def _to_stderr(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _line(what: End | Line) -> Line:
    if not isinstance(what, End):
        return what
    opened, subject, cost = what.opened, what.opened.subject, what.cost_nano_usd
    line = {
        "request_id": opened.call_id,
        "attempt": opened.attempt,
        "key_id": subject.key_id,
        "user": subject.user,
        "team": subject.team,
        "endpoint": opened.endpoint,
        "stream": opened.stream,
        "requested_model": opened.requested_model,
        "model": opened.model,
        "provider": opened.provider,
        "lane": opened.lane,
        "status": what.status_code,
        "end_reason": what.end_reason,
        "usage_source": what.usage_source,
        **{name: count for name, count in zip(TOKEN_CLASSES, what.tokens, strict=True) if count},
        "cost_usd": None if cost is None else f"{cost // 10**9}.{cost % 10**9:09d}",
        "cost_source": what.cost_source,
        "latency_ms": round(what.latency_ms, 1),
    }
    if what.ttft_ms is not None:
        line["ttft_ms"] = round(what.ttft_ms, 1)
    return line


def _as_json(at_s: float, line: Line) -> str:
    head = {"time": rfc3339(at_s), "level": "INFO", "logger": LOGGER}
    encoded = _encode({**head, **line})
    # Beyond ASCII there are characters that turn text around, or write to a terminal: JSON's escapes show them.
    return (encoded.decode() if encoded.isascii() else json.dumps(json.loads(encoded))) + "\n"


def _as_text(at_s: float, line: Line) -> str:
    told = " ".join([f"{name}={_value(value)}" for name, value in line.items() if value is not None and value != ""])
    return f"{local_time(at_s)} INFO {LOGGER}: {told}\n"


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(value)
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


@lru_cache(maxsize=4096)
def _quoted(text: str) -> str:
    """Quoted as in JSON where it is not plain: control characters never reach a terminal."""
    return text if _PLAIN.fullmatch(text) and " " not in text else json.dumps(text)
