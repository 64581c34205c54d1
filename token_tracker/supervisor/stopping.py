"""How all end together: first who takes calls, then who writes them down; within bounds."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from time import monotonic

from token_tracker.supervisor.child import Child

# The gateway itself cuts its calls 3 s after a SIGINT; all together is to be done within 5 s.
_GATEWAY_S, _ALL_S = 4.2, 4.7
_CUT_S = 5.0  # what a patient stop gives the gateway after its shutdown_s, and the recorder after that
_LAST = ("recorder", "litellm", "demo")  # what the gateway's last calls still need


class Stop:
    """A stop under way. `shutdown_s`: how long calls may go on (SIGTERM); None: 3 s (Ctrl-C)."""

    def __init__(self, children: Mapping[str, Child], shutdown_s: float | None) -> None:
        started_at_s = monotonic()
        gateway_s = _GATEWAY_S if shutdown_s is None else shutdown_s + _CUT_S
        self._gateway_until_s = started_at_s + gateway_s
        self._until_s = started_at_s + (_ALL_S if shutdown_s is None else gateway_s + _CUT_S)
        self._children = children
        self._gateways = {name: child for name, child in children.items() if name.startswith("gateway")}
        self._last_told = False
        self.killed: list[str] = []
        for name, child in children.items():
            child.restart_at_s = None
            if name not in _LAST:
                first = signal.SIGINT if name in self._gateways and shutdown_s is None else signal.SIGTERM
                child.send(first)

    def hurry(self) -> None:
        """A second Ctrl-C: calls that are still open are cut, and booked as such."""
        for gateway in self._gateways.values():
            gateway.send(signal.SIGINT)

    def done(self, now_s: float) -> bool:
        """Look at who has ended, tell the next, kill who takes too long; True once all have ended."""
        running = {name: child for name, child in self._children.items() if child.process and child.ended() is None}
        if now_s >= self._until_s:
            self._kill(running)
        elif now_s >= self._gateway_until_s:
            self._kill({name: child for name, child in running.items() if name in self._gateways})
        if not self._has_gateways() and not self._last_told:
            self._last_told = True
            for name in _LAST:
                if name in running:
                    running[name].send(signal.SIGTERM)
        return not any(child.process for child in self._children.values())

    def until_next_s(self, now_s: float) -> float:
        return max(0.0, (self._gateway_until_s if self._has_gateways() else self._until_s) - now_s)

    def _has_gateways(self) -> bool:
        return any(child.process is not None for child in self._gateways.values())

    def _kill(self, children: Mapping[str, Child]) -> None:
        for name, child in children.items():
            child.kill()
            self.killed.append(name)
