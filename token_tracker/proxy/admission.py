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
from token_tracker.domain.rules import BudgetRule
from token_tracker.proxy.attempts import Asked, Attempts
from token_tracker.proxy.auth import Keys, authenticate, may_use
from token_tracker.proxy.body import Receive, read_body
from token_tracker.proxy.books.journal import JournalUnavailable
from token_tracker.proxy.books.publication import KeyRecord
from token_tracker.proxy.books.records import Open, Subject
from token_tracker.proxy.call import Attempt, open_record, sent_id
from token_tracker.proxy.dialects import AZURE
from token_tracker.proxy.dialects.base import Envelope, Request, Route
from token_tracker.proxy.headers import Incoming, decodable, split
from token_tracker.proxy.lanes.direct import request_headers
from token_tracker.proxy.lanes.shaper import Shaper
from token_tracker.proxy.lanes.upstream_request import UpstreamRequest
from token_tracker.proxy.objects.mentions import may_name_files
from token_tracker.proxy.permits.desk import Desk
from token_tracker.proxy.permits.permit import Permit
from token_tracker.proxy.permits.reach import Reach
from token_tracker.proxy.permits.settling import SettlingJournal
from token_tracker.proxy.plan import steps
from token_tracker.proxy.prices import PriceBook
from token_tracker.proxy.subject import subject_of
from token_tracker.proxy.upstreams import Choice, Target, Upstreams

ASKED_MODEL = "tt.model"
ASKED_FOR_USAGE = (WireFormat.CHAT, WireFormat.COMPLETIONS)


class Translation(Protocol):
    """The translated lane, as far as a call needs it."""

    def prepare(self, call_id: str, path: str, request: Request, deployment: Deployment) -> UpstreamRequest: ...

    def restorer(self, wire: WireFormat, deployment: Deployment, request: Request) -> Shaper: ...


class StoredObjects(Protocol):
    """What is known of the responses and files that providers keep."""

    async def tied(self, choice: Choice, request: Request, key: KeyRecord) -> Choice:
        """Where a call goes that follows a stored response: to what made it, and nowhere else. Raises Refusal."""

    async def check_files(self, request: Request, key: KeyRecord) -> None:
        """Raises Refusal where the body names a file that is known to be another team's."""

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
    admitted_us: int  # to which all of its attempts belong, whenever they end
    permit: Permit | None = None

    def asked(self, target: Target) -> Request:
        """The request as the gate has it sent to a target."""
        return self.request if self.permit is None else self.permit.request(self.request, target)


@dataclass(frozen=True, slots=True)
class Admission:
    """What decides whether a call may go, and where. `translation` None: no configured model needs LiteLLM."""

    keys: Keys
    upstreams: Upstreams
    prices: PriceBook
    journal: SettlingJournal
    translation: Translation | None
    max_body_bytes: int
    silence_s: float
    desk: Desk
    stored: StoredObjects | None = None

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
        scope[ASKED_MODEL] = request.model  # for whoever counts the refusals
        wire = route.dialect.wire
        choice = self._choice(key, request.model, wire)
        if route.keeps and self.stored is not None:
            choice = await self.stored.tied(choice, request, key)
        if self.stored is not None and may_name_files(body):
            await self.stored.check_files(request, key)
        subject = subject_of(key, incoming.own, request)
        call = Call(route, query_of(scope), incoming, request, subject, call_id, time.time_ns() // 1000)
        if self.desk.has_rules:
            choice = await self._permit(key, call, choice)
        try:
            return self._started(key, call, choice)
        except BaseException as error:
            if call.permit is not None:
                self.desk.gate.release(call_id)
            if isinstance(error, JournalUnavailable):
                raise journal_unavailable() from None
            raise

    async def unread_permit(
        self, call_id: str, subject: Subject, request: Request, target: Target, why: str
    ) -> Permit | None:
        """For what is passed on as it is; see `Desk.ask_unread`. Raises Refusal."""
        if not self.desk.has_rules:
            return None
        return await self.desk.ask_unread(call_id, time.time_ns() // 1000, subject, request, target, why)

    def open(self, opened: Open, permit: Permit | None) -> None:
        """Write an open record. Raises Refusal where it cannot be kept; then what was held is given back."""
        try:
            self.journal.open(opened)
        except JournalUnavailable:
            if permit is not None:
                self.desk.gate.release(opened.call_id)
            raise journal_unavailable() from None

    def _started(self, key: KeyRecord, call: Call, choice: Choice) -> tuple[Attempt, Asked] | Attempts:
        if choice.only is None:
            return self._attempts(key, call, choice)
        asked = self._ask(call, choice.only, 1)
        other = "" if choice.group.name == call.request.model else choice.group.name
        return self._begin(call, choice.only, 1, other), asked

    async def _permit(self, key: KeyRecord, call: Call, choice: Choice) -> Choice:
        """Where the call may go: the choice itself, or that of the model it is downgraded to. Raises Refusal."""
        desk, wire = self.desk, call.route.dialect.wire
        desk.check_freezes(call.subject, call.request.model, choice.group.targets)
        now_us = call.admitted_us

        async def ask(choice: Choice, may_downgrade: bool) -> Permit | BudgetRule | None:
            reach = Reach(choice, self._others(key, call, choice))
            return await desk.ask(call.id, now_us, call.subject, call.request, wire, reach, may_downgrade=may_downgrade)

        answer = await ask(choice, True)
        if isinstance(answer, BudgetRule):
            choice = self._downgraded(key, call, answer.downgrade_model) or choice
            answer = await ask(choice, False)
            assert not isinstance(answer, BudgetRule)
        call.permit = answer
        return choice

    def _downgraded(self, key: KeyRecord, call: Call, name: str) -> Choice | None:
        """Where a downgraded call goes; None where it may not: then the budget itself decides."""
        choice = self.upstreams.choice(name, call.route.dialect.wire)
        if choice is None or not self.allowed(key, name) or self.desk.is_frozen(call.subject, name, choice):
            return None
        return choice

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

    def _others(self, key: KeyRecord, call: Call, choice: Choice) -> tuple[tuple[str, Choice], ...]:
        """The fallbacks that the key may use, each with where it goes."""
        if not choice.fallbacks:
            return ()
        wire = call.route.dialect.wire
        found = ((name, self.upstreams.choice(name, wire)) for name in choice.fallbacks if self.allowed(key, name))
        return tuple(
            (name, other)
            for name, other in found
            if other is not None and not self.desk.is_frozen(call.subject, name, other)
        )

    def _attempts(self, key: KeyRecord, call: Call, choice: Choice) -> Attempts:
        others = [other.group for _, other in self._others(key, call, choice)]
        return Attempts(
            call.request.model,
            steps([choice.group, *others], time.monotonic),
            partial(self._ask, call),
            partial(self._begin, call),
            self.upstreams.retry_after_s,
            hold=partial(self._hold_again, call) if call.permit else None,
        )

    async def _hold_again(self, call: Call, number: int) -> bool:
        """A hold of its own for an attempt that follows one which may have been billed. Refused, there is none."""
        permit = call.permit
        assert permit is not None
        granted = permit.verdict.output_tokens
        ask = permit.ask._replace(id=sent_id(call.id, number), output_min=granted, output_max=granted)
        verdict = await self.desk.gate.admit(ask, permit.demands)
        if not verdict.is_admitted:
            return False
        self.journal.hold_again(call.id, permit.ask.id, ask.id)
        permit.ask = ask
        return True

    def _ask(self, call: Call, target: Target, number: int) -> Asked:
        """The request of a call's attempt (from 1) to its target. Raises Refusal."""
        route, request = call.route, call.asked(target)
        if target.lane == "direct":
            is_watched = call.permit is not None and call.permit.sets_maximum
            upstream = direct_request(route, call.query, call.incoming, request, target, is_watched=is_watched)
            return Asked(upstream, None)
        if self.translation is None or route.dialect.wire in UNTRANSLATED:
            raise not_spoken(request.model, route.path)
        upstream = self.translation.prepare(sent_id(call.id, number), route.path, request, target.deployment)
        return Asked(upstream, self.translation.restorer(route.dialect.wire, target.deployment, request))

    def _begin(self, call: Call, target: Target, number: int, other_model: str = "") -> Attempt:
        """The attempt, once its open record is in the journal. Raises JournalUnavailable."""
        permit = call.permit
        opened = open_record(
            call_id=call.id,
            attempt=number,
            now_us=call.admitted_us,
            endpoint=call.route.path,
            target=target,
            request=call.request,
            subject=call.subject,
            held_nano_usd=permit.held_nano_usd if permit else 0,
            held_tokens=permit.held_tokens if permit else 0,
        )
        self.journal.open(opened)
        price = self.prices.choice(target)
        attempt = Attempt(
            opened, call.route.dialect, call.request, target, price, other_model=other_model, permit=permit
        )
        if call.route.keeps and self.stored is not None:
            self.stored.watch(attempt)
        return attempt


def query_of(scope: dict[str, Any]) -> bytes:
    """The query for the upstream: the client's own, without the version that belongs to Azure's style of paths."""
    query: bytes = scope["query_string"]
    if not query or not scope["path"].startswith(AZURE):
        return query
    return b"&".join(pair for pair in query.split(b"&") if pair.partition(b"=")[0] != b"api-version")


def direct_request(
    route: Route, query: bytes, incoming: Incoming, request: Request, target: Target, *, is_watched: bool = False
) -> UpstreamRequest:
    """The client's request with the contract's changes: headers, the model's name, the usage option on streams."""
    dialect = route.dialect
    provider = PROVIDERS.get(target.deployment.provider)
    meter_stream = request.stream and not (provider and provider.rejects_usage_option)
    body = dialect.outgoing(request, model=target.deployment.model, meter_stream=meter_stream)
    encoding: str | None = None
    if request.stream and (is_watched or (not request.wants_usage and dialect.wire in ASKED_FOR_USAGE)):
        encoding = "identity"  # the usage chunk that we ask for is taken out again, and an end may have to be put in
    elif b"accept-encoding" in incoming.own:
        encoding = decodable(incoming.own[b"accept-encoding"])
    assert target.url is not None
    url = URL(f"{target.url}?{query.decode('latin-1')}", encoded=True) if query else target.url
    headers = request_headers(incoming.forward, dialect.wire, target.credentials, encoding)
    return UpstreamRequest("POST", url, headers, body)
