"""When a deployment that fails is left alone for a while, as LiteLLM's router does it."""

from __future__ import annotations

from dataclasses import dataclass

MINUTE_S = 60.0
FEW_CALLS = 5  # so many in a minute say something of the share that fails
ASKED_MAX_S = 3600.0  # an upstream's Retry-After is believed up to here
# At once, where others can serve: it has had enough, its key is wrong, its account is empty.
_AT_ONCE = frozenset((401, 402, 429))


@dataclass(slots=True)
class Health:
    """One deployment's failures of the last minute, and until when it rests (seconds of the caller's clock).

    It rests after more than `allowed_fails` failures in a minute. If that is None: at once after a 401, 402 or 429,
    and when more than half of at least 5 calls in a minute failed; but never where it `is_alone`.
    How long: the entry's own `cooldown_time_s`, else what the upstream asks for, else `default_s`.
    """

    allowed_fails: int | None
    cooldown_time_s: float | None
    default_s: float
    is_alone: bool
    rests_until_s: float = float("-inf")
    _minute_s: float = float("-inf")
    _calls: int = 0
    _fails: int = 0

    def rests(self, now_s: float) -> bool:
        return now_s < self.rests_until_s

    def succeeded(self, now_s: float) -> None:
        self._count(now_s)

    def failed(self, now_s: float, status: int, asked_s: float | None) -> float:
        """The upstream's status (0: none came) and its Retry-After. How long the deployment rests now, 0 if not."""
        self._count(now_s)
        self._fails += 1
        rest_s = self._rest_s(asked_s) if self._is_too_much(status) else 0.0
        if rest_s > 0:
            self.rests_until_s = now_s + rest_s
            self._calls = self._fails = 0
        return rest_s

    def _count(self, now_s: float) -> None:
        if now_s - self._minute_s >= MINUTE_S:
            self._minute_s, self._calls, self._fails = now_s, 0, 0
        self._calls += 1

    def _is_too_much(self, status: int) -> bool:
        if self.allowed_fails is not None:
            return self._fails > self.allowed_fails
        if self.is_alone:
            return False
        return status in _AT_ONCE or (self._calls >= FEW_CALLS and 2 * self._fails > self._calls)

    def _rest_s(self, asked_s: float | None) -> float:
        if self.cooldown_time_s is not None:
            return self.cooldown_time_s
        return self.default_s if asked_s is None else min(asked_s, ASKED_MAX_S)
