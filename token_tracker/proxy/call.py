"""One attempt from its open record to its one row: who, what, when, and on which evidence it is booked."""

from __future__ import annotations

import itertools
import random
import time
from dataclasses import dataclass, field, replace
from typing import Protocol

from token_tracker.domain.extras import Extras
from token_tracker.domain.pricing import Choice, Cost, CostSource, cost_of
from token_tracker.domain.providers import PROVIDERS
from token_tracker.domain.usage import NO_USAGE, EndReason, Usage, UsageSource
from token_tracker.proxy.books.records import Awaiting, End, Open, Subject, earlier_id
from token_tracker.proxy.dialects.base import Dialect, Reading, Request, Uncounted
from token_tracker.proxy.permits.permit import Permit
from token_tracker.proxy.subject import NAME_CHARACTERS, clean
from token_tracker.proxy.upstreams import Target

PROVIDER_CHARACTERS = 64
BYTES_PER_TOKEN = 4  # the estimate where no provider counted


class CallIds:
    """`x-tt-request-id`s: 12 hex digits of Unix ms, 00 (see `earlier_id`), 10 of a counter that starts anywhere, the
    worker's 8."""

    def __init__(self, incarnation: str) -> None:
        self._counter = itertools.count(random.SystemRandom().getrandbits(40))
        self._incarnation = incarnation

    def next(self, now_us: int) -> str:
        return f"{now_us // 1000:012x}{next(self._counter) & 0xFFFFFFFFFF:012x}{self._incarnation}"


class Journal(Protocol):
    """What the gateway asks of the books; each call raises `JournalUnavailable` if the record cannot be kept."""

    def open(self, record: Open) -> None: ...

    def end(self, record: End) -> None: ...

    def awaiting(self, record: Awaiting) -> None: ...


class Keeper(Protocol):
    """What is done with an answer about something that the provider keeps. `is_whole`: it is never streamed on."""

    is_whole: bool

    async def heard(self, attempt: Attempt, body: bytes) -> bytes:
        """Called with what was read so far before the client gets it, and with a whole answer's body, of which it gives
        what the client gets. Raises JournalUnavailable and UnreadableAnswer: then the client gets nothing."""


@dataclass(slots=True)
class Attempt:
    """One attempt at an upstream. What is learnt on the way is written here; `end_record` makes the row of it."""

    opened: Open
    dialect: Dialect
    request: Request
    target: Target
    price: Choice
    started_s: float = field(default_factory=time.perf_counter)
    reading: Reading = field(default_factory=Reading)
    was_sent: bool = False  # False: provably nothing left for the upstream
    request_bytes: int = 0  # of the body, as far as it was sent
    response_bytes: int = 0  # of the answer's body, as far as it was read
    status: int = 0
    ttft_ms: float | None = None
    upstream_request_id: str = ""
    is_booked: bool = False
    latency_ms: float | None = None  # set where the attempt ended before it is booked
    other_model: str = ""  # the name of the fallback that is asked, '' for the client's own model
    permit: Permit | None = None  # what the gate granted; None where no rule counts the call
    keeper: Keeper | None = None
    is_pending: bool = False  # the provider works on in the background, and tells the usage later

    @property
    def id(self) -> str:
        return self.opened.id

    @property
    def sent_id(self) -> str:
        return sent_id(self.opened.call_id, self.opened.attempt)

    def elapsed_ms(self) -> float:
        return round((time.perf_counter() - self.started_s) * 1000, 3)

    def saw_first_token(self) -> None:
        if self.ttft_ms is None:
            self.ttft_ms = self.elapsed_ms()

    @property
    def is_free(self) -> bool:
        """Nothing was consumed that anybody bills: not sent, not served (an error inside a 200 is not either), or a
        route without a price (but for usage that it tells of something earlier)."""
        reading = self.reading
        failed = reading.error and reading.usage is None and not reading.output_bytes
        unbilled = self.dialect.uncounted is Uncounted.FREE and not (reading.usage is not None and reading.is_final)
        return not self.was_sent or self.status >= 300 or failed or unbilled

    def evidence(self) -> tuple[Usage, UsageSource]:
        """What the attempt consumed and on whose word; the provider's own count wherever there is one."""
        if self.is_free or self.is_pending:
            return NO_USAGE, UsageSource.NONE
        reading = self.reading
        if reading.usage is not None and reading.is_final:
            return reading.usage, UsageSource.ESTIMATED if reading.is_estimate else UsageSource.PROVIDER
        seen_tokens = -(-reading.output_bytes // BYTES_PER_TOKEN)
        if reading.usage is not None:
            unseen = max(0, seen_tokens - reading.usage.completion_tokens)
            usage = reading.usage._replace(output_tokens=reading.usage.output_tokens + unseen)
            return usage, UsageSource.PROVIDER_PARTIAL
        if self.dialect.uncounted is Uncounted.UNKNOWN:
            return NO_USAGE, UsageSource.NONE
        input_tokens = self.dialect.estimate_input_tokens(self.request)
        return Usage(input_tokens=input_tokens, output_tokens=seen_tokens), UsageSource.ESTIMATED

    def end_record(self, reason: EndReason, status: int) -> End:
        usage, source = self.evidence()
        return self.row(reason, status, usage, source, self.cost(usage, source))

    def cost(self, usage: Usage, source: UsageSource) -> Cost:
        if source is UsageSource.NONE and self.is_free:
            return no_cost(self.price)
        extras = self.extras(source)
        if source is UsageSource.NONE and not extras.has_units:
            return uncounted_cost(self.price)
        return cost_of(usage, self.price, extras)

    def extras(self, source: UsageSource) -> Extras:
        """What is billed beside the tokens; a bill only from a provider that is known to send one, with its last
        count."""
        extras, characters = self.reading.extras, self.request.characters
        if characters:
            extras = replace(extras, characters=characters)
        if extras.cost_usd is None:
            return extras
        provider = PROVIDERS.get(self.target.deployment.provider)
        is_bill = source is UsageSource.PROVIDER and provider is not None and provider.reports_cost
        return extras if is_bill else replace(extras, cost_usd=None)

    def row(self, reason: EndReason, status: int, usage: Usage, source: UsageSource, cost: Cost) -> End:
        return End(
            opened=self.opened,
            end_reason=reason.value,
            status_code=status,
            tokens=usage,
            usage_source=source.value,
            cost_nano_usd=cost.nano_usd,
            cost_source=cost.source.value,
            price_version=cost.version,
            latency_ms=self.elapsed_ms() if self.latency_ms is None else self.latency_ms,
            ttft_ms=self.ttft_ms,
            upstream_id=clean(self.reading.upstream_id, NAME_CHARACTERS),
            upstream_request_id=self.upstream_request_id,
            request_bytes=self.request_bytes,
            response_bytes=self.response_bytes,
        )


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt after which another may be made. `status`: the upstream's, 0 if it gave none; and its Retry-After.
    `is_ambiguous`: it may have been billed."""

    status: int = 0
    retry_after_s: float | None = None
    is_ambiguous: bool = False


def sent_id(call_id: str, attempt: int) -> str:
    """By which LiteLLM knows an attempt: late evidence of one is never taken for another's."""
    return call_id if attempt == 1 else earlier_id(call_id, attempt)


def no_cost(price: Choice) -> Cost:
    """Nothing was consumed, so the amount is known to be 0, even where no price is."""
    source = CostSource.PRICED if price.cost_source is CostSource.UNPRICED else price.cost_source
    return Cost(0, source, price.price.version if price.price else "")


def uncounted_cost(price: Choice) -> Cost:
    """Something was consumed that nobody counted: no count is not a count of zero, so the amount is known only where
    every rate is 0."""
    if price.price is None or not any(price.price.rates.values()):
        return cost_of(NO_USAGE, price)
    return Cost(None, CostSource.UNPRICED)


def open_record(
    *,
    call_id: str,
    attempt: int,
    now_us: int,
    endpoint: str,
    target: Target,
    request: Request,
    subject: Subject,
    held_nano_usd: int = 0,
    held_tokens: int = 0,
) -> Open:
    """What is known before anything is sent: enough to book a `crash` row if nothing else follows."""
    deployment = target.deployment
    return Open(
        id=call_id,
        call_id=call_id,
        attempt=attempt,
        timestamp_us=now_us,
        endpoint=endpoint,
        lane=target.lane,
        stream=request.stream,
        requested_model=clean(request.model, NAME_CHARACTERS),
        model=clean(deployment.model, NAME_CHARACTERS),
        provider=deployment.provider[:PROVIDER_CHARACTERS],
        subject=subject,
        model_group=clean(deployment.name, NAME_CHARACTERS),
        held_nano_usd=held_nano_usd,
        held_tokens=held_tokens,
    )
