"""Signals that wake a loop instead of interrupting it."""

from __future__ import annotations

import os
import select
import signal
from dataclasses import dataclass, field
from types import FrameType


@dataclass(slots=True)
class Signals:
    """SIGINT and SIGTERM are kept in `came` until somebody looks, so is a SIGHUP by which a terminal says that it is
    gone; others are counted in `hangups`. A child's end wakes only."""

    came: list[int] = field(default_factory=list)
    hangups: int = 0
    _had_terminal: bool = False
    _reading_end: int = -1

    def install(self) -> None:
        self._had_terminal = has_terminal()
        self._reading_end, writing_end = os.pipe()
        for end in (self._reading_end, writing_end):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(writing_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, self._note)
        for sent in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sent, self._note)

    def _note(self, sent: int, _frame: FrameType | None) -> None:
        if sent == signal.SIGHUP and not (self._had_terminal and not has_terminal()):
            self.hangups += 1
        elif sent != signal.SIGCHLD:
            self.came.append(sent)

    def wait(self, timeout_s: float | None) -> None:
        """Until a signal comes, at most `timeout_s`."""
        ready, _, _ = select.select([self._reading_end], [], [], timeout_s)
        if ready:
            os.read(self._reading_end, 4096)


def has_terminal() -> bool:
    """Whether a terminal controls this process; one that was closed does not any more."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
