"""What the gate granted to one call: how its requests, its answers and its records show it."""

from __future__ import annotations

from dataclasses import dataclass

from token_tracker.domain.holds import Ask
from token_tracker.domain.providers import WireFormat
from token_tracker.proxy.dialects.base import Request
from token_tracker.proxy.gate.places import Demands
from token_tracker.proxy.gate.store import RateState, Verdict
from token_tracker.proxy.models import ModelFacts
from token_tracker.proxy.permits.maxima import with_maximum
from token_tracker.proxy.upstreams import Target

Headers = list[tuple[bytes, bytes]]
_THEIRS, _MOVED = b"x-ratelimit-", b"x-tt-upstream-ratelimit-"


@dataclass(slots=True)
class Permit:
    """`own_maximum`: the client's; `sets_maximum`: a hard budget bounds the output. `wire`: of its route."""

    ask: Ask
    demands: Demands
    verdict: Verdict
    wire: WireFormat
    own_maximum: int | None
    sets_maximum: bool
    facts: ModelFacts

    @property
    def held_nano_usd(self) -> int:
        return self.verdict.held_nano_usd

    @property
    def held_tokens(self) -> int:
        return self.verdict.held_tokens

    def maximum(self, target: Target) -> int | None:
        """The output maximum that is sent to a target; None: the request stays as it is."""
        if not self.sets_maximum:
            return None
        granted = self.verdict.output_tokens
        if self.own_maximum is not None:
            return granted
        known = self.facts.of(target)
        return granted if known.output_tokens is None else min(granted, known.output_tokens)

    def request(self, request: Request, target: Target) -> Request:
        maximum = self.maximum(target)
        return request if maximum is None else with_maximum(request, target, self.wire, maximum)

    def marked(self, headers: Headers, target: Target) -> Headers:
        """An answer's headers with what the gate did."""
        verdict = self.verdict
        if verdict.requests is not None or verdict.tokens is not None:
            headers = [_moved(*each) if each[0].startswith(_THEIRS) else each for each in headers]
            headers += rate_headers(b"requests", verdict.requests) + rate_headers(b"tokens", verdict.tokens)
        maximum = self.maximum(target)
        if maximum is not None and maximum != self.own_maximum:
            headers.append((b"x-tt-max-output-tokens", b"%d" % maximum))
        return headers


def rate_headers(unit: bytes, state: RateState | None) -> Headers:
    """OpenAI's three headers of a unit; the time as it writes durations."""
    if state is None:
        return []
    return [
        (b"x-ratelimit-limit-" + unit, b"%d" % state.limit),
        (b"x-ratelimit-remaining-" + unit, b"%d" % max(0, state.remaining)),
        (b"x-ratelimit-reset-" + unit, b"%ds" % state.reset_s),
    ]


def _moved(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    return name.replace(_THEIRS, _MOVED, 1), value
