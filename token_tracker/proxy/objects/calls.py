"""Calls for stored objects: whose they are, where they lie, and what is sent there."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode

import msgspec
from msgspec import structs
from yarl import URL

from token_tracker.config.values import Deployment
from token_tracker.domain.errors import invalid_request, model_not_allowed
from token_tracker.domain.pricing import Choice as PriceChoice
from token_tracker.domain.pricing import CostSource
from token_tracker.proxy.attempts import Asked
from token_tracker.proxy.auth import authenticate, may_use
from token_tracker.proxy.body import Receive, read_body
from token_tracker.proxy.books.publication import KeyRecord
from token_tracker.proxy.books.records import Stored, Subject
from token_tracker.proxy.call import Attempt, Keeper, open_record
from token_tracker.proxy.dialects.base import Dialect, Request, Uncounted
from token_tracker.proxy.dialects.facts import facts
from token_tracker.proxy.headers import Incoming, split
from token_tracker.proxy.lanes.upstream_request import Upload, UpstreamRequest
from token_tracker.proxy.objects.accounts import FILES, account_headers, versioned_base, with_version
from token_tracker.proxy.objects.desk import Desk, made_by
from token_tracker.proxy.objects.keepers import Maker, Meter, Outputs, OwnItems, Remover
from token_tracker.proxy.objects.mentions import files_named
from token_tracker.proxy.objects.operations import METERED, Effect, Operation
from token_tracker.proxy.objects.readings import plain_request
from token_tracker.proxy.objects.refusals import (
    ambiguous_account,
    batches_need_all_models,
    deployment_gone,
    other_account,
)
from token_tracker.proxy.permits.permit import Permit
from token_tracker.proxy.plan import Group
from token_tracker.proxy.subject import subject_of
from token_tracker.proxy.upload import upload
from token_tracker.proxy.upstreams import Choice, Target

if TYPE_CHECKING:
    from token_tracker.proxy.admission import Admission

CHOOSER = "x-tt-model"
BATCH_BYTES = 1 << 20  # of the request that makes one
_PAGES = {"file": 10_000, "batch": 100}  # the longest that upstreams give
_ANTHROPIC_PAGE = 1000
_DEFAULT_PAGES = {"batch": 20}
_NO_PRICE = PriceChoice(CostSource.UNPRICED)
Body = bytes | Upload | None


@dataclass(slots=True)
class _Visit:
    """One request on its way. `stored`: what it is about."""

    operation: Operation
    scope: dict[str, Any]
    incoming: Incoming
    key: KeyRecord
    call_id: str
    stored: Stored | None = None
    query: bytes = b""
    limit: int | None = None
    body: Body = None


class ObjectCalls:
    """Stored objects for one worker; `admission` decides of keys and names."""

    def __init__(self, admission: Admission, desk: Desk) -> None:
        self._admission, self._desk = admission, desk

    async def admit(
        self, operation: Operation, identity: str, query: bytes, scope: dict[str, Any], receive: Receive, call_id: str
    ) -> tuple[Attempt, Asked]:
        """The attempt, its open record in the journal. Raises Refusal and ClientLeft; then nothing was forwarded."""
        admission = self._admission
        incoming = split(scope["headers"])
        key = authenticate(incoming.own, admission.keys, time.time_ns() // 1000)
        visit = _Visit(operation, scope, incoming, key, call_id, query=query)
        if operation.has_id:
            visit.stored = await self._desk.owned(operation.kind, identity, key)
        await self._read(visit, receive)
        deployment, account = self._place(visit)
        self._shape_list(visit, deployment)
        attempt = await self._begin(visit, deployment)
        attempt.keeper = self._keeper(visit, attempt, account)
        return attempt, Asked(self._request(visit, deployment, identity), None)

    async def tied(self, choice: Choice, request: Request, key: KeyRecord) -> Choice:
        """See `admission.StoredObjects`."""
        raw = request.fields.get("previous_response_id")
        if raw is None or raw == b"null":
            return choice
        try:
            identity = msgspec.json.decode(raw, type=str)
        except msgspec.MsgspecError:
            raise invalid_request("'previous_response_id' must be a text.", "previous_response_id") from None
        stored = await self._desk.owned("response", identity, key, "previous_response_id")
        accounts = self._admission.upstreams.accounts
        home = accounts.deployment(stored)
        if home is None:
            raise deployment_gone("response", identity, stored.deployment)
        place = accounts.of(home)
        for target in choice.group.targets:
            if accounts.of(target.deployment) == place:
                return Choice(Group(choice.group.name, (target,), 0), (), target)
        raise other_account(identity, request.model)

    async def check_files(self, request: Request, key: KeyRecord) -> None:
        """See `admission.StoredObjects`."""
        if request.form is None:
            await self._desk.check_not_others("file", files_named(request.original), key, "file_id")

    def watch(self, attempt: Attempt) -> None:
        """See `admission.StoredObjects`."""
        deployment, fields = attempt.target.deployment, attempt.request.fields
        accounts = self._admission.upstreams.accounts
        if fields.get("store") == b"false" or not accounts.keeps_responses(deployment, attempt.target.lane):
            return
        is_background = fields.get("background") == b"true"
        stored = made_by(attempt, "response", accounts.of(deployment), is_background=is_background)
        attempt.keeper = Maker(self._desk, attempt, stored, is_whole=False)

    async def _read(self, visit: _Visit, receive: Receive) -> None:
        """The body; a new batch lies where its input lies, which must be the team's."""
        admission, own = self._admission, visit.incoming.own
        if visit.operation.effect is not Effect.MAKES or visit.operation.kind == "batch":
            limit = min(admission.max_body_bytes, BATCH_BYTES)
            body = await read_body(receive, own, limit, admission.silence_s)
            visit.body = body or None
            if visit.operation.effect is Effect.MAKES:
                await self._read_batch(visit, body)
        else:
            visit.body = await upload(receive, own, admission.max_body_bytes, admission.silence_s)

    async def _read_batch(self, visit: _Visit, body: bytes) -> None:
        if "*" not in visit.key.models:
            raise batches_need_all_models()
        named = facts(body, "input_file_id").get("input_file_id")
        if not isinstance(named, str):
            raise invalid_request("'input_file_id' must name a file.", "input_file_id")
        visit.stored = await self._desk.owned("file", named, visit.key, "input_file_id")

    def _place(self, visit: _Visit) -> tuple[Deployment, str]:
        """Where the call goes, and the account's name. Raises Refusal."""
        accounts, stored = self._admission.upstreams.accounts, visit.stored
        if stored is None:
            deployment = self._chosen(visit)
            return deployment, accounts.of(deployment)
        found = accounts.deployment(stored)
        if found is None:
            raise deployment_gone(stored.kind, stored.id, stored.deployment)
        return found, stored.account

    def _chosen(self, visit: _Visit) -> Deployment:
        """The account that the client names by a model, else the only one there is."""
        visit.query, asked = _without_chooser(visit.query)
        name = visit.incoming.own.get(CHOOSER.encode(), b"").decode("utf-8", "replace") or asked
        admission = self._admission
        if name:
            if not (found := admission.upstreams.deployments(name)):
                raise admission.upstreams.not_found(name, lambda _: True)
            if not admission.allowed(visit.key, name):
                raise model_not_allowed(name[:256])
            usable = [each for each in found if versioned_base(each, admission.upstreams.demo_url)]
            if not usable:
                raise ambiguous_account([])
            return usable[0]
        is_anthropic = any(header == "anthropic-version" for header, _ in visit.incoming.forward)
        providers = frozenset(("anthropic",)) if is_anthropic else FILES
        places = [
            allowed
            for group in admission.upstreams.accounts.every(providers).values()
            if (allowed := [each for each in group if _may_use(visit.key, each)])
        ]
        if len(places) != 1:
            raise ambiguous_account([group[0].name for group in places])
        return places[0][0]

    def _shape_list(self, visit: _Visit, deployment: Deployment) -> None:
        """Ask for the longest page: others' objects are taken out of it."""
        kind = visit.operation.kind
        if visit.operation.effect is not Effect.LISTS:
            return
        pairs = parse_qsl(visit.query.decode("latin-1"), keep_blank_values=True)
        asked = next((value for name, value in pairs if name == "limit"), "")
        if asked and not (asked.isdecimal() and 0 < int(asked) <= _PAGES[kind]):
            return  # the upstream says what is wrong with it
        visit.limit = int(asked) if asked else _DEFAULT_PAGES.get(kind)
        longest = _ANTHROPIC_PAGE if deployment.provider == "anthropic" else _PAGES[kind]
        if visit.limit is not None:
            pairs = [pair for pair in pairs if pair[0] != "limit"] + [("limit", str(longest))]
            visit.query = urlencode(pairs).encode()

    async def _begin(self, visit: _Visit, deployment: Deployment) -> Attempt:
        """The attempt, once its open record is in the journal. Raises Refusal."""
        admission, operation, stored = self._admission, visit.operation, visit.stored
        dialect: Dialect = operation.dialect
        if stored is not None and stored.is_background and not stored.metered_by and operation.effect is Effect.SHOWS:
            dialect = METERED
        model = stored.model if stored is not None and operation.has_id else ""
        made_for = replace(deployment, model=model) if model else deployment
        target = admission.upstreams.target_at(made_for, "direct", None, ())
        stream = operation.method == "GET" and b"stream=true" in visit.query.split(b"&")
        request = plain_request(model or deployment.name, stream=stream)
        why = "a batch, whose calls are made later" if operation.kind == "batch" and _makes(operation) else ""
        subject = subject_of(visit.key, visit.incoming.own, request)
        permit = await admission.unread_permit(visit.call_id, subject, request, target, why)
        opened = _opened(visit, target, request, model, subject, permit)
        admission.open(opened, permit)
        is_billed = dialect is METERED or dialect.uncounted is not Uncounted.FREE
        price = admission.prices.choice(target) if is_billed else _NO_PRICE
        return Attempt(opened, dialect, request, target, price, permit=permit)

    def _keeper(self, visit: _Visit, attempt: Attempt, account: str) -> Keeper | None:
        effect, stored, desk = visit.operation.effect, visit.stored, self._desk
        if effect is Effect.MAKES:
            made = made_by(attempt, visit.operation.kind, account)
            return Maker(desk, attempt, made, is_whole=True)
        if effect is Effect.LISTS:
            return OwnItems(desk, visit.key, visit.operation.kind, account, visit.limit)
        if stored is None or effect is Effect.NONE:
            return None
        if effect is Effect.DELETES:
            return Remover(desk, stored)
        if stored.kind == "batch":
            return Outputs(desk, stored)
        return Meter(desk, stored) if attempt.dialect is METERED else None

    def _request(self, visit: _Visit, deployment: Deployment, identity: str) -> UpstreamRequest:
        path = visit.operation.path.removeprefix("/v1").replace("{id}", quote(identity, safe=""))
        base = versioned_base(deployment, self._admission.upstreams.demo_url)
        query = f"?{visit.query.decode('latin-1')}" if visit.query else ""
        return UpstreamRequest(
            visit.operation.method,
            URL(base + path + query, encoded=True),
            sent_headers(visit.incoming, deployment, visit.body),
            visit.body,
        )


def sent_headers(incoming: Incoming, deployment: Deployment, body: Body) -> list[tuple[str, str]]:
    """The client's headers with the deployment's credentials; the answer must be readable."""
    headers = [*incoming.forward, *account_headers(deployment), ("accept-encoding", "identity")]
    if body is not None and not isinstance(body, bytes) and b"content-length" in incoming.own:
        headers.append(("content-length", incoming.own[b"content-length"].decode("latin-1")))
    return with_version(headers, deployment)


def _makes(operation: Operation) -> bool:
    return operation.effect is Effect.MAKES


def _opened(
    visit: _Visit, target: Target, request: Request, model: str, subject: Subject, permit: Permit | None
) -> Any:
    operation = visit.operation
    opened = open_record(
        call_id=visit.call_id,
        attempt=1,
        now_us=permit.ask.now_us if permit else time.time_ns() // 1000,
        endpoint=f"{operation.method} {operation.path}",
        target=target,
        request=request,
        subject=subject,
        held_nano_usd=permit.held_nano_usd if permit else 0,
        held_tokens=permit.held_tokens if permit else 0,
    )
    return structs.replace(opened, requested_model="", model=model)


def _may_use(key: KeyRecord, deployment: Deployment) -> bool:
    return may_use(key.models, deployment.name)


def _without_chooser(query: bytes) -> tuple[bytes, str]:
    kept, name = [], ""
    for pair in query.split(b"&") if query else []:
        if pair.partition(b"=")[0] == CHOOSER.encode():
            name = name or dict(parse_qsl(pair.decode("latin-1"))).get(CHOOSER, "")
        else:
            kept.append(pair)
    return b"&".join(kept), name
