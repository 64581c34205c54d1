"""From a request's bytes to an attempt that may go upstream: the refusals, in the contract's order, then the record."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from yarl import URL

from token_tracker.config.values import Deployment
from token_tracker.domain.errors import journal_unavailable, model_not_allowed, not_spoken
from token_tracker.domain.providers import PROVIDERS, UNTRANSLATED, WireFormat
from token_tracker.proxy.attempts import Asked, Attempts
from token_tracker.proxy.auth import Keys, authenticate, may_use
from token_tracker.proxy.body import Receive, read_body
from token_tracker.proxy.books.journal import JournalUnavailable
from token_tracker.proxy.books.publication import KeyRecord
from token_tracker.proxy.books.records import Subject
from token_tracker.proxy.call import Attempt, Journal, open_record, sent_id
from token_tracker.proxy.dialects import AZURE
from token_tracker.proxy.dialects.base import Envelope, Request, Route
from token_tracker.proxy.headers import Incoming, decodable, split
from token_tracker.proxy.lanes.direct import request_headers
from token_tracker.proxy.lanes.shaper import Shaper
from token_tracker.proxy.lanes.upstream_request import UpstreamRequest
from token_tracker.proxy.plan import steps
from token_tracker.proxy.prices import PriceBook
from token_tracker.proxy.subject import subject_of
from token_tracker.proxy.upstreams import Choice, Target, Upstreams

ASKED_FOR_USAGE = (WireFormat.CHAT, WireFormat.COMPLETIONS)


class Translation(Protocol):
    """The translated lane, as far as a call needs it."""

    def prepare(self, call_id: str, path: str, request: Request, deployment: Deployment) -> UpstreamRequest: ...

    def restorer(self, wire: WireFormat, deployment: Deployment, request: Request) -> Shaper: ...


class StoredResponses(Protocol):
    """What is known of the responses that providers keep."""

    async def tied(self, choice: Choice, request: Request, key: KeyRecord) -> Choice:
        """Where a call goes that follows a stored response: to what made it, and nowhere else. Raises Refusal."""

    def watch(self, attempt: Attempt) -> None:
        """Note whose the response of an attempt is, if the provider keeps it."""


@dataclass(slots=True)
class Call:
    """What all attempts of a call have in common."""

    route: Route
    query: bytes
    incoming: Incoming
    request: Request
    subject: Subject
    id: str


@dataclass(frozen=True, slots=True)
class Admission:
    """What decides whether a call may go, and where. `translation` None: no configured model needs LiteLLM."""

    keys: Keys
    upstreams: Upstreams
    prices: PriceBook
    journal: Journal
    translation: Translation | None
    max_body_bytes: int
    silence_s: float
    stored: StoredResponses | None = None

    async def admit(
        self, route: Route, model: str, scope: dict[str, Any], receive: Receive, call_id: str
    ) -> tuple[Attempt, Asked] | Attempts:
        """A call whose first attempt's open record is in the journal; `Attempts` where others may follow it.

        `model`: what the path names ('' if it does not). Raises Refusal and ClientLeft; then nothing was forwarded.
        """
        incoming = split(scope["headers"])
        now_us = time.time_ns() // 1000
        key = authenticate(incoming.own, self.keys, now_us)
        body = await read_body(receive, incoming.own, self.max_body_bytes, self.silence_s)
        request = route.dialect.read(body, Envelope(incoming.content_type, model))
        choice = self._choice(key, request.model, route.dialect.wire)
        if route.keeps and self.stored is not None:
            choice = await self.stored.tied(choice, request, key)
        call = Call(route, query_of(scope), incoming, request, subject_of(key, incoming.own, request), call_id)
        # The gate's place: it holds the worst case of the call here, or refuses it.
        try:
            if choice.only is None:
                return self._attempts(key, call, choice)
            asked = self._ask(call, choice.only, 1)
            return self._begin(call, choice.only, 1, now_us=now_us), asked
        except JournalUnavailable:
            raise journal_unavailable() from None

    def allowed(self, key: KeyRecord, name: str) -> bool:
        """Whether a key's models cover a name or what it is an alias of."""
        return may_use(key.models, name, self.upstreams.alias_of(name))

    def _choice(self, key: KeyRecord, model: str, wire: WireFormat) -> Choice:
        choice = self.upstreams.choice(model, wire)
        if choice is None:
            raise self.upstreams.not_found(model, lambda name: self.allowed(key, name))
        if not self.allowed(key, model):
            raise model_not_allowed(model[:256])
        return choice

    def _attempts(self, key: KeyRecord, call: Call, choice: Choice) -> Attempts:
        wire = call.route.dialect.wire
        names = [name for name in choice.fallbacks if self.allowed(key, name)]
        others = [other.group for name in names if (other := self.upstreams.choice(name, wire)) is not None]
        return Attempts(
            choice.group.name,
            steps([choice.group, *others], time.monotonic),
            partial(self._ask, call),
            partial(self._begin, call),
            self.upstreams.retry_after_s,
        )

    def _ask(self, call: Call, target: Target, number: int) -> Asked:
        """The request of a call's attempt (from 1) to its target. Raises Refusal."""
        route, request = call.route, call.request
        if target.lane == "direct":
            return Asked(direct_request(route, call.query, call.incoming, request, target), None)
        if self.translation is None or route.dialect.wire in UNTRANSLATED:
            raise not_spoken(request.model, route.path)
        upstream = self.translation.prepare(sent_id(call.id, number), route.path, request, target.deployment)
        return Asked(upstream, self.translation.restorer(route.dialect.wire, target.deployment, request))

    def _begin(self, call: Call, target: Target, number: int, other_model: str = "", now_us: int = 0) -> Attempt:
        """The attempt, once its open record is in the journal. Raises JournalUnavailable."""
        opened = open_record(
            call_id=call.id,
            attempt=number,
            now_us=now_us or time.time_ns() // 1000,
            endpoint=call.route.path,
            target=target,
            request=call.request,
            subject=call.subject,
        )
        self.journal.open(opened)
        price = self.prices.choice(target)
        attempt = Attempt(opened, call.route.dialect, call.request, target, price, other_model=other_model)
        if call.route.keeps and self.stored is not None:
            self.stored.watch(attempt)
        return attempt


def query_of(scope: dict[str, Any]) -> bytes:
    """The query for the upstream: the client's own, without the version that belongs to Azure's style of paths."""
    query: bytes = scope["query_string"]
    if not query or not scope["path"].startswith(AZURE):
        return query
    return b"&".join(pair for pair in query.split(b"&") if pair.partition(b"=")[0] != b"api-version")


def direct_request(route: Route, query: bytes, incoming: Incoming, request: Request, target: Target) -> UpstreamRequest:
    """The client's request with the contract's changes: headers, the model's name, the usage option on streams."""
    dialect = route.dialect
    provider = PROVIDERS.get(target.deployment.provider)
    meter_stream = request.stream and not (provider and provider.rejects_usage_option)
    body = dialect.outgoing(request, model=target.deployment.model, meter_stream=meter_stream)
    encoding: str | None = None
    if request.stream and not request.wants_usage and dialect.wire in ASKED_FOR_USAGE:
        encoding = "identity"  # the usage chunk that we ask for is taken out of the stream again
    elif b"accept-encoding" in incoming.own:
        encoding = decodable(incoming.own[b"accept-encoding"])
    assert target.url is not None
    url = URL(f"{target.url}?{query.decode('latin-1')}", encoded=True) if query else target.url
    headers = request_headers(incoming.forward, dialect.wire, target.credentials, encoding)
    return UpstreamRequest("POST", url, headers, body)
