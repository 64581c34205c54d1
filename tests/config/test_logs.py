"""Lines of the log: nobody whose words they quote writes lines of their own, and nobody waits for their reader."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import time

from tests.proxy.house import wait_until
from token_tracker.config.logs import WAITING_MAX, Aside, JsonLines, TextLines

EVIL = "x\x1b[2J\n2026-01-01 00:00:00,000 CRITICAL gateway: hacked\u202e\u2028\x9b\x7f"


def record(message: str = "odd: %s", *args: object, failed: bool = False) -> logging.LogRecord:
    failure = None
    if failed:
        try:
            raise ValueError(EVIL)
        except ValueError:
            failure = sys.exc_info()
    return logging.LogRecord("token_tracker.gateway", logging.ERROR, "", 0, message, args, failure)


def test_what_others_wrote_is_one_line_of_printable_characters() -> None:
    text, as_json = TextLines().format(record("odd: %s", EVIL)), JsonLines().format(record("odd: %s", EVIL))
    assert text.isprintable() and text.count("ERROR") == 1 and "hacked" in text
    assert as_json.isprintable() and json.loads(as_json)["message"] == f"odd: {EVIL}"


def test_a_traceback_keeps_its_lines_and_loses_what_moves_a_cursor() -> None:
    text = TextLines().format(record("failed", failed=True))
    assert "Traceback" in text and "\n" in text and "\x1b" not in text and "\x9b" not in text
    assert "ValueError" in json.loads(JsonLines().format(record("failed", failed=True)))["exception"]


class Stuck(io.StringIO):
    """A pipe that nobody reads, until `opened`."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()

    def write(self, text: str) -> int:
        self.opened.wait(20)
        return super().write(text)


def test_a_log_that_nobody_reads_holds_nobody_up_and_says_what_was_dropped() -> None:
    stream = Stuck()
    aside = Aside(stream)
    aside.setFormatter(TextLines())
    began_s = time.monotonic()
    for _ in range(WAITING_MAX + 300):
        aside.handle(record("event"))
    assert time.monotonic() - began_s < 10
    dropped = aside.dropped
    assert dropped in (299, 300)  # one may be in the writer's hands
    stream.opened.set()
    wait_until(lambda: f"{dropped} lines were dropped" in stream.getvalue(), "how many were dropped")
    aside.close()
    assert stream.getvalue().count("event") == WAITING_MAX + 300 - dropped


def test_what_waits_is_written_at_the_end() -> None:
    stream = io.StringIO()
    aside = Aside(stream)
    aside.setFormatter(TextLines())
    aside.handle(record("last words"))
    aside.close()
    assert "last words" in stream.getvalue()
