"""Signals that wake a loop instead of interrupting it."""

from __future__ import annotations

import os
import select
import signal
from dataclasses import dataclass, field
from types import FrameType


@dataclass(slots=True)
class Signals:
    """SIGINT, SIGTERM and SIGHUP are kept in `came` until somebody looks; a child's end wakes only."""

    came: list[int] = field(default_factory=list)
    _reading_end: int = -1

    def install(self) -> None:
        self._reading_end, writing_end = os.pipe()
        for end in (self._reading_end, writing_end):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(writing_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, self._note)
        for sent in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(sent, self._note)

    def _note(self, sent: int, _frame: FrameType | None) -> None:
        if sent != signal.SIGCHLD:
            self.came.append(sent)

    def wait(self, timeout_s: float | None) -> None:
        """Until a signal comes, at most `timeout_s`."""
        ready, _, _ = select.select([self._reading_end], [], [], timeout_s)
        if ready:
            os.read(self._reading_end, 4096)
