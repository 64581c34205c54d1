"""How our processes speak to the log: a line an event on stderr, with time, level and logger, as text or JSON."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections import deque
from functools import lru_cache
from typing import TextIO

WAITING_MAX = 5_000  # records of a process that must not wait; what comes on top is dropped
LOOK_S = 0.1
# What moves a terminal's cursor, ends a line or turns text around is shown as an escape: whoever's words are quoted
# writes no lines of their own.
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), 0x200E, 0x200F, 0x2028, 0x2029, *range(0x202A, 0x202F))
_ESCAPES = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in (*_CONTROLS, *range(0x2066, 0x206A))
}
_IN_TRACEBACKS = {code: text for code, text in _ESCAPES.items() if chr(code) not in "\t\n"}


def write_logs(form: str = "text", *, never_wait: bool = False) -> None:
    """Log from INFO on, in `form` 'text' or 'json'; may be called again. `never_wait`: a thread writes, so that nobody
    who logs is held up while stderr is not read."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    handler = Aside() if never_wait else logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it names whole addresses, and a webhook's is a secret


class TextLines(logging.Formatter):
    """`2026-01-31 12:00:00,123 INFO token_tracker.gateway: listening on 127.0.0.1:8000`, in local time."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = record.message.translate(_ESCAPES)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:
        return super().formatException(ei).translate(_IN_TRACEBACKS)  # type: ignore[arg-type]


class JsonLines(logging.Formatter):
    """One object a line: `time` (RFC 3339, UTC), `level`, `logger`, `message`, and `exception` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": rfc3339(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class Aside(logging.Handler):
    """Takes records and has a thread write them. `dropped`: those for which there was no room."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self.dropped = 0
        self._stream = stream or sys.stderr
        self._waiting: deque[logging.LogRecord] = deque()
        self._told_dropped = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if len(self._waiting) < WAITING_MAX:
            self._waiting.append(record)
        else:
            self.dropped += 1

    def flush(self) -> None:
        """Give the thread a moment to write what waits; logging's end calls this."""
        until_s = time.monotonic() + 1
        while self._waiting and self._thread.is_alive() and time.monotonic() < until_s:
            time.sleep(0.01)

    def close(self) -> None:
        """Write what waits, as far as somebody reads it. Idempotent."""
        self._stop.set()
        self._thread.join(1)
        super().close()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            self._write()
        self._write()

    def _write(self) -> None:
        while self._waiting:
            self._put(self.format(self._waiting[0]))
            self._waiting.popleft()
        if (count := self.dropped - self._told_dropped) > 0:
            self._told_dropped += count
            told = f"{count} lines were dropped: nobody read the log"
            self._put(self.format(logging.LogRecord(__name__, logging.WARNING, "", 0, told, None, None)))

    def _put(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # the terminal is gone
            self.dropped += 1


def rfc3339(at_s: float) -> str:
    """Unix seconds as `2026-01-31T12:00:00.123Z`."""
    whole_s = int(at_s)
    return f"{_utc(whole_s)}.{int((at_s - whole_s) * 1000):03d}Z"


def local_time(at_s: float) -> str:
    """Unix seconds as `2026-01-31 12:00:00,123`, as `logging` writes them."""
    whole_s = int(at_s)
    return f"{_local(whole_s)},{int((at_s - whole_s) * 1000):03d}"


@lru_cache(maxsize=8)
def _utc(at_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s))


@lru_cache(maxsize=8)
def _local(at_s: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))
