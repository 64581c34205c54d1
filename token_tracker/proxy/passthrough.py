"""`/pass/{deployment}/…`: any other path of an upstream, for keys with the permission `passthrough`."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from msgspec import structs
from yarl import URL

from token_tracker.config.values import Deployment
from token_tracker.domain.access import KeyPermission
from token_tracker.domain.errors import (
    Refusal,
    invalid_request,
    model_not_allowed,
    not_found,
    permission_required,
)
from token_tracker.proxy.attempts import Asked
from token_tracker.proxy.auth import authenticate
from token_tracker.proxy.body import Receive
from token_tracker.proxy.books.publication import KeyRecord
from token_tracker.proxy.call import Attempt, open_record
from token_tracker.proxy.dialects import ROUTES
from token_tracker.proxy.dialects.base import Dialect, Envelope, Request, Uncounted
from token_tracker.proxy.headers import decodable, split
from token_tracker.proxy.lanes.direct import plain_base
from token_tracker.proxy.lanes.upstream_request import UpstreamRequest
from token_tracker.proxy.objects.calls import Body, sent_headers
from token_tracker.proxy.objects.readings import Unread, plain_request
from token_tracker.proxy.subject import subject_of
from token_tracker.proxy.upload import upload

if TYPE_CHECKING:
    from token_tracker.proxy.admission import Admission

PASS = "/pass/"  # noqa: S105 (a path)
_READING = frozenset(("GET", "HEAD", "OPTIONS", "DELETE"))  # what no provider bills
_WORD = re.compile(r"v\d{1,2}|[a-z_]{1,20}")  # not an id
_LEAVES = re.compile(r"(?:^|/)\.\.?(?:$|/)|\\")  # a step elsewhere, its slashes encoded or not
_ENDPOINT_CHARACTERS = 64


class Passthrough:
    """One worker's. Nothing is edited: a stream is not asked for its usage either."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    async def admit(self, scope: dict[str, Any], receive: Receive, call_id: str) -> tuple[Attempt, Asked]:
        """The attempt, its open record in the journal. Raises Refusal and ClientLeft; then nothing was forwarded."""
        admission = self._admission
        incoming = split(scope["headers"])
        key = authenticate(incoming.own, admission.keys, time.time_ns() // 1000)
        if KeyPermission.PASSTHROUGH not in key.permissions:
            raise permission_required(KeyPermission.PASSTHROUGH)
        raw_path = scope["raw_path"].partition(b"?")[0].decode("latin-1")
        deployment, rest = self._find(key, raw_path.removeprefix(PASS))
        base = plain_base(deployment, admission.upstreams.demo_url)
        if not base:
            raise invalid_request(f"The upstream of '{deployment.name}' has no address that could be passed on to.")
        body = await upload(receive, incoming.own, admission.max_body_bytes, admission.silence_s)
        dialect, request = _reading(scope["method"], rest, body, incoming.content_type, deployment)
        served = _serving(deployment, request)
        target = admission.upstreams.target_at(served, "direct", None, ())
        subject = subject_of(key, incoming.own, request)
        why = "" if scope["method"] in _READING else "a path that is passed on unread"
        permit = await admission.unread_permit(call_id, subject, request, target, why)
        opened = open_record(
            call_id=call_id,
            attempt=1,
            now_us=permit.ask.now_us if permit else time.time_ns() // 1000,
            endpoint=endpoint(scope["method"], rest),
            target=target,
            request=request,
            subject=subject,
            held_nano_usd=permit.held_nano_usd if permit else 0,
            held_tokens=permit.held_tokens if permit else 0,
        )
        if not (request.fields or request.form):  # nobody knows which model was asked for, if any
            opened = structs.replace(opened, requested_model="", model="")
        admission.open(opened, permit)
        attempt = Attempt(opened, dialect, request, target, admission.prices.choice(target), permit=permit)
        headers = sent_headers(incoming, deployment, body)
        headers = [pair for pair in headers if pair[0] != "accept-encoding"]
        headers.append(("accept-encoding", decodable(incoming.own.get(b"accept-encoding", b"identity"))))
        query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
        url = URL(_joined(base, rest) + query, encoded=True)
        return attempt, Asked(UpstreamRequest(scope["method"], url, headers, body), None)

    def _find(self, key: KeyRecord, path: str) -> tuple[Deployment, str]:
        """The deployment that a path begins with (names may contain '/'), and what follows. Raises Refusal."""
        segments = path.split("/")
        if any(_LEAVES.search(unquote(each)) for each in segments):
            raise invalid_request("The path must not contain '.' or '..' as a segment.")
        for count in range(1, len(segments)):
            name = unquote("/".join(segments[:count]))
            if self._admission.upstreams.lacks_credentials(name):
                raise self._admission.upstreams.not_found(name, lambda _: True)
            if found := self._admission.upstreams.deployments(name):
                if not self._admission.allowed(key, name):
                    raise model_not_allowed(name[:256])
                return found[0], "/".join(segments[count:])
        raise not_found(f"{PASS}{path[:256]}")


def _serving(deployment: Deployment, request: Request) -> Deployment:
    """The deployment as it serves the model of the body, whose price may be another than the entry's own."""
    if not (request.fields or request.form) or request.model == deployment.model:
        return deployment
    return replace(deployment, model=request.model, rates=None, base_model=None)


def _joined(base: str, rest: str) -> str:
    """`rest` may repeat the version that the base ends in."""
    version = base.rpartition("/")[2]
    is_repeated = bool(re.fullmatch(r"v\d+", version)) and rest.startswith(version + "/")
    return f"{base.removesuffix('/' + version) if is_repeated else base}/{rest}"


def _reading(method: str, rest: str, body: Body, content_type: str, deployment: Deployment) -> tuple[Dialect, Request]:
    """How the answer is read: as that of the route which the path ends like, if the body is one of it."""
    family = "anthropic" if deployment.provider == "anthropic" else "openai"
    if method in _READING:
        return Unread(Uncounted.FREE, family, is_content=True), plain_request(deployment.name)
    route = next((each for path, each in ROUTES.items() if f"/v1/{rest}".endswith(path.removeprefix("/v1"))), None)
    if method == "POST" and route is not None and isinstance(body, bytes):
        try:
            return route.dialect, route.dialect.read(body, Envelope(content_type, ""))
        except Refusal:
            pass  # only the upstream can judge it
    return Unread(Uncounted.UNKNOWN, family), plain_request(deployment.name)


def endpoint(method: str, rest: str) -> str:
    """The path as rows name it: without ids, so that few different ones exist."""
    words = []
    for segment in rest.split("/")[:4]:
        if not _WORD.fullmatch(segment):
            break
        words.append(segment)
    return "/".join([f"{method[:8]} {PASS}…", *words])[:_ENDPOINT_CHARACTERS]
