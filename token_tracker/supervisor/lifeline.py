"""Children end when their supervisor is gone, however it went: a pipe whose writing end only the supervisor holds."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping

VARIABLE = "TT_LIFELINE"  # the descriptor of the reading end, in a child
PATIENCE_S = 35.0  # for an orderly end after the supervisor's; above gateway.shutdown_s's default


class Lifeline:
    """The supervisor's side. Children are given `descriptor` and `environment`; nothing is ever written."""

    def __init__(self) -> None:
        self.descriptor, self._writing_end = os.pipe()

    @property
    def environment(self) -> Mapping[str, str]:
        return {VARIABLE: str(self.descriptor)}


def hold() -> None:
    """In a child: from now on the supervisor's end is a SIGTERM, and a SIGKILL if that does not help.

    Does nothing in a process that was not started by a supervisor.
    """
    text = os.environ.pop(VARIABLE, "")
    if text:
        descriptor = int(text)
        os.set_inheritable(descriptor, False)
        threading.Thread(target=_watch, args=(descriptor,), name="lifeline", daemon=True).start()


def _watch(descriptor: int) -> None:
    os.read(descriptor, 1)  # returns when no process holds the writing end any more
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE_S)
    os.kill(os.getpid(), signal.SIGKILL)
