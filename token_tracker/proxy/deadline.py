"""One timer for all the bounds of a call: moving it costs an assignment, however many chunks pass."""

from __future__ import annotations

import asyncio
from typing import Literal

Phase = Literal["connect", "first_byte", "idle", "client", "gone", "shutdown"]


class Deadline:
    """Cancels the task that made it when its current phase takes too long; `fired` then names the phase.

    The timer is armed for the earliest bound and looks, when it goes off, how far the bound has moved meanwhile.
    """

    __slots__ = ("_armed_at", "_at", "_handle", "_limit_at", "_limit_phase", "_loop", "_phase", "_task", "fired")

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task: asyncio.Task[None] | None = task
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self._armed_at = self._at = self._limit_at = float("inf")
        self._phase: Phase = "connect"
        self._limit_phase: Phase = "gone"
        self.fired: Phase | None = None

    def enter(self, phase: Phase, bound_s: float) -> None:
        """From now on at most `bound_s` seconds may pass until the next `enter`."""
        self.enter_until(phase, self._loop.time() + bound_s)

    def enter_until(self, phase: Phase, at_s: float) -> None:
        """Like `enter`, until a point on the loop's clock."""
        self._phase, self._at = phase, at_s
        if at_s < self._armed_at:
            self._arm(at_s)

    def relax(self) -> None:
        """Nothing is waited for until the next `enter`; a limit still holds."""
        self._at = float("inf")

    def limit(self, phase: Phase, bound_s: float) -> None:
        """Whatever is entered after this, `phase` fires at the latest in `bound_s` seconds (0: at once)."""
        at = self._loop.time() + bound_s
        if at < self._limit_at:
            self._limit_at, self._limit_phase = at, phase
            if at < self._armed_at:
                self._arm(at)

    def stop(self) -> None:
        """No more bounds. It lets go of its task, whose context may lead back to it: a circle of every call would have
        to be found by the garbage collector, which stops the worker for it."""
        self._task = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._armed_at = float("-inf")  # nothing arms it again

    def take(self) -> Phase | None:
        """The phase that fired, once, with the cancellation that it caused taken back; None if it was not ours."""
        phase, self.fired = self.fired, None
        if phase is not None and self._task is not None:
            self._task.uncancel()
        return phase

    def _arm(self, at: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._armed_at = at
        self._handle = self._loop.call_at(at, self._check)

    def _check(self) -> None:
        self._handle, self._armed_at = None, float("inf")
        bound = min(self._at, self._limit_at)
        if self._loop.time() < bound:
            if bound < float("inf"):
                self._arm(bound)
            return
        self.fired = self._phase if self._at <= self._limit_at else self._limit_phase
        self._at = self._limit_at = float("inf")
        if self._task is not None:
            self._task.cancel()
