"""The attempts of a call that may have several: another deployment, the same one again, or a fallback, where the last
one provably was not billed."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

from token_tracker.domain.errors import Refusal
from token_tracker.domain.usage import EndReason
from token_tracker.proxy.call import Attempt, Failed
from token_tracker.proxy.client import Client
from token_tracker.proxy.lanes.exchange import Exchange
from token_tracker.proxy.lanes.floor import Floor
from token_tracker.proxy.lanes.shaper import Shaper
from token_tracker.proxy.lanes.upstream_request import UpstreamRequest
from token_tracker.proxy.plan import Step
from token_tracker.proxy.upstreams import Target

log = logging.getLogger("token_tracker.gateway")

ATTEMPTS_MAX = 100
# Waits before a deployment is asked again, as LiteLLM has them: what the upstream asks for, else doubling up to 8 s.
ASKED_MAX_S, FIRST_S, LONGEST_S, JITTER_S = 60.0, 0.5, 8.0, 0.75
_UNWELL = (EndReason.UPSTREAM_ERROR, EndReason.UPSTREAM_DISCONNECT, EndReason.TIMEOUT)
_WELL = (EndReason.COMPLETE, EndReason.CLIENT_DISCONNECT)


class Asked(NamedTuple):
    """A request as one deployment gets it."""

    upstream: UpstreamRequest
    shaper: Shaper | None


class Attempts:
    """The attempts of one call. `ask` prepares a target's request (or raises `Refusal`), by the attempt's number;
    `begin` writes an attempt's open record, by target, number and the fallback's name ('' for the client's own model);
    `hold` asks the gate for another hold, for the attempt of that number.
    """

    def __init__(
        self,
        model: str,
        steps: Iterator[Step],
        ask: Callable[[Target, int], Asked],
        begin: Callable[[Target, int, str], Attempt],
        retry_after_s: float,
        now_s: Callable[[], float] = time.monotonic,
        hold: Callable[[int], Awaitable[bool]] | None = None,
    ) -> None:
        self._hold = hold
        self._model, self._steps, self._ask, self._begin = model, steps, ask, begin
        self._retry_after_s, self._now_s = retry_after_s, now_s
        self._number = 0
        self._asked_s: dict[int, float | None] = {}  # by target: its last Retry-After
        self._has_child = True
        self._step, self.asked = self._next()
        self.attempt = begin(self._step.target, self._number, self._other_model())

    def another(self, attempt: Attempt, failed: Failed) -> float | None:
        """Seconds until the next attempt may begin; None if there is none."""
        self._note_failure(attempt, failed)
        self._asked_s[id(attempt.target)] = failed.retry_after_s
        self._has_child = self._has_child and not _is_our_process(attempt)
        try:
            self._step, self.asked = self._next()
        except (Refusal, StopIteration):
            return None
        return self._wait_s(self._step)

    async def hold_again(self, failed: Failed) -> bool:
        """Whether there is room for the next attempt beside one that may have been billed."""
        return not failed.is_ambiguous or self._hold is None or await self._hold(self._number)

    def open(self) -> None:
        """Begin the attempt that `another` promised. Raises `JournalUnavailable`: then there is none."""
        self.attempt = self._begin(self._step.target, self._number, self._other_model())

    def ended(self, attempt: Attempt, reason: EndReason | None) -> None:
        """An attempt that no other will follow, and that `another` was not asked about."""
        health = attempt.target.health
        if health is None:
            return
        if reason in _WELL and attempt.status < 400:
            health.succeeded(self._now_s())
        elif reason in _UNWELL and (attempt.status in (401, 402, 429) or not 400 <= attempt.status < 500):
            self._note_failure(attempt, Failed(attempt.status))

    def _other_model(self) -> str:
        return "" if self._step.name == self._model else self._step.name

    def _next(self) -> tuple[Step, Asked]:
        """The next step whose request can be made. Raises StopIteration, or the Refusal of the last that could not."""
        refused: Refusal | None = None
        if self._number >= ATTEMPTS_MAX:
            raise StopIteration
        for step in self._steps:
            if step.target.lane == "litellm" and not self._has_child:
                continue
            try:
                asked = self._ask(step.target, self._number + 1)
            except Refusal as refusal:
                refused = refused or refusal
                continue
            self._number += 1
            return step, asked
        raise refused or StopIteration

    def _wait_s(self, step: Step) -> float:
        if not step.repeats:
            return 0.0
        asked_s = self._asked_s.get(id(step.target))
        jitter_s = JITTER_S * random.random()  # noqa: S311 (spreads load, no secret)
        if asked_s is not None and 0 < asked_s <= ASKED_MAX_S:
            return asked_s + jitter_s
        doubling_s = min(FIRST_S * 2.0 ** (step.repeats - 1), LONGEST_S)
        return max(doubling_s, min(self._retry_after_s, ASKED_MAX_S)) + jitter_s

    def _note_failure(self, attempt: Attempt, failed: Failed) -> None:
        target = attempt.target
        if target.health is None or _is_our_process(attempt):
            return
        rest_s = target.health.failed(self._now_s(), failed.status, failed.retry_after_s)
        if rest_s:
            name, provider = target.deployment.name, target.deployment.provider
            log.warning("a deployment of '%s' (%s) fails; it rests for %g s", name, provider, rest_s)


def _is_our_process(attempt: Attempt) -> bool:
    """What could not be reached is the LiteLLM child: no fault of the deployment, and the same for all behind it."""
    return attempt.target.lane == "litellm" and not attempt.was_sent


async def run_attempts(floor: Floor, client: Client, attempts: Attempts) -> None:
    """Make attempts until one's answer is the client's."""
    while True:
        exchange = Exchange(floor, attempts.attempt, client, *attempts.asked, attempts)
        if not await exchange.run():
            break
    if exchange.held is None:
        attempts.ended(exchange.attempt, exchange.reason)
