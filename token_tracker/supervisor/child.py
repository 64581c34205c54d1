"""One child process: how it is started, when it is started again, and how it is ended."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from token_tracker.supervisor.lifeline import Lifeline

BACK_OFF_S = 0.2  # before the first restart; doubles with each life that was short
BACK_OFF_MOST_S = 5.0
GOOD_LIFE_S = 5.0  # a life so long forgives what was before


@dataclass(slots=True)
class Child:
    """A process in a session of its own, so that a terminal's Ctrl-C reaches the supervisor alone.

    `command`: program and arguments; `environment`: what it gets beside the supervisor's. Times are monotonic seconds.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    lifeline: Lifeline
    process: subprocess.Popen[bytes] | None = None
    restart_at_s: float | None = None
    _started_at_s: float = 0.0
    _back_off_s: float = field(default=BACK_OFF_S)

    def start(self, now_s: float) -> None:
        self.restart_at_s = None
        self._started_at_s = now_s
        self.process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            self.command,
            env={**os.environ, **self.environment, **self.lifeline.environment},
            stdin=subprocess.DEVNULL,
            pass_fds=(self.lifeline.descriptor,),
            start_new_session=True,
            preexec_fn=_ignore_hangups,
        )

    def ended(self) -> int | None:
        """The exit code (negative: the signal) of a process that has just ended, once; None while it runs."""
        code = self.process.poll() if self.process else None
        if code is not None:
            self._kill_group()  # what it may have left behind, such as gunicorn's workers
            self.process = None
        return code

    def plan_restart(self, now_s: float) -> float:
        """Seconds until it is started again."""
        if now_s - self._started_at_s >= GOOD_LIFE_S:
            self._back_off_s = BACK_OFF_S
        wait_s = self._back_off_s
        self.restart_at_s = now_s + wait_s
        self._back_off_s = min(2 * wait_s, BACK_OFF_MOST_S)
        return wait_s

    def send(self, sent: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(sent)

    def kill(self) -> None:
        """End it and everything it started, at once."""
        if self.process is not None:
            self._kill_group()
            self.process.wait()
            self.process = None

    def _kill_group(self) -> None:
        # Before it is waited for, the number cannot have passed to another process group; after, the group lives on
        # only while one of its members does.
        if self.process is not None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                return


def _ignore_hangups() -> None:
    """A reload may be asked for while a child still imports: it reads what is there then, and must not die of it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def describe(code: int) -> str:
    """`'was ended by SIGKILL'`, `'ended with code 1'`."""
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
