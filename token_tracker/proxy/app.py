"""The gateway as a raw ASGI application: routes, and the few answers that it gives by itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import msgspec

from token_tracker.domain.access import KeyPermission
from token_tracker.domain.errors import Refusal, method_not_allowed, not_found, permission_required
from token_tracker.proxy.admission import ASKED_MODEL, Admission, query_of
from token_tracker.proxy.attempts import Attempts, run_attempts
from token_tracker.proxy.auth import authenticate
from token_tracker.proxy.body import ClientLeft, Receive
from token_tracker.proxy.call import CallIds
from token_tracker.proxy.client import Client
from token_tracker.proxy.dialects import ROUTES, find
from token_tracker.proxy.dialects.base import Route
from token_tracker.proxy.dialects.models import model_body, models_body
from token_tracker.proxy.errors import refuse
from token_tracker.proxy.events import PATH as EVENTS
from token_tracker.proxy.headers import split
from token_tracker.proxy.health import Health
from token_tracker.proxy.ingest import Ingest
from token_tracker.proxy.lanes.exchange import Exchange
from token_tracker.proxy.lanes.floor import Floor
from token_tracker.proxy.objects import operations
from token_tracker.proxy.objects.calls import ObjectCalls
from token_tracker.proxy.passthrough import PASS, Passthrough
from token_tracker.proxy.watch.exposition import CONTENT_TYPE
from token_tracker.proxy.watch.figures import OTHER
from token_tracker.proxy.watch.metrics_port import PATH as METRICS
from token_tracker.proxy.watch.watch import RefusedTo, Watch

log = logging.getLogger("token_tracker.gateway")
Scope = dict[str, Any]
MODELS = "/v1/models"
_INDEX = msgspec.json.encode(
    {
        "service": "Token Tracker gateway",
        "use": "Point an OpenAI client at /v1, or an Anthropic client at this address, with a virtual key (sk-tt-…).",
        "models": MODELS,
        "health": "/health",
    }
)
_PASSED = (*operations.ROOTS, PASS)
_HEALTH = ("/health", "/health/live", "/health/ready")


class Gateway:
    """One worker's application. Everything that lives longer than a call is in `floor`, `admission` and `health`."""

    def __init__(
        self,
        floor: Floor,
        admission: Admission,
        health: Health,
        ids: CallIds,
        ingest: Ingest,
        stored: ObjectCalls | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.floor = floor
        self.stored = stored
        self.watch = watch
        self.metrics: Callable[[], Awaitable[bytes]] | None = None  # of all workers of this node
        self.begin_reload: Callable[[], None] = lambda: None  # reads the configuration again, beside the calls
        self._passthrough = Passthrough(admission)
        self.admission = admission
        self.health = health
        self.ingest = ingest
        self._ids = ids

    async def __call__(self, scope: Scope, receive: Receive, send: Callable[[Any], Awaitable[None]]) -> None:
        if scope["type"] != "http":
            return
        path, model = find(scope["path"])
        client = Client(scope, send, self.floor.options.client_stall_s)
        request_id = self._ids.next(time.time_ns() // 1000)
        route = ROUTES.get(path)
        try:
            if route is not None and scope["method"] == "POST":
                await self._call(route, model, scope, receive, client, request_id)
            elif path == EVENTS and scope["method"] == "POST":
                answer = await self.ingest.take(scope, receive)
                await _send_json(client, 200, msgspec.json.encode(answer), request_id)
            elif path.startswith(_PASSED):
                await self._pass_on(path, scope, receive, client, request_id)
            else:
                await self._answer(path, scope, client, request_id)
        except Refusal as refusal:
            if self.watch is not None:
                self.watch.refused(refusal, path, request_id, self._refused_to(path, scope))
            await refuse(client, family_of(path, scope), refusal, request_id)
        except ClientLeft:
            pass
        except Exception:
            log.exception("call %s failed inside the gateway", request_id)
            if not client.started:
                await refuse(client, family_of(path, scope), internal_error(), request_id)
        finally:
            client.release()

    def take_over(self, fresh: Gateway) -> None:
        """From the next call on all is as in `fresh`; calls in flight end with what they began with."""
        old = self.floor
        self.floor = replace(fresh.floor, in_flight=old.in_flight, background=old.background, complaints=old.complaints)
        self.admission, self.stored, self._passthrough = fresh.admission, fresh.stored, fresh._passthrough
        self.ingest.prices, self.ingest.silence_s = fresh.ingest.prices, fresh.ingest.silence_s
        self.health.configuration = fresh.health.configuration
        self.health.child = fresh.health.child.after(self.health.child)

    def stop_calls(self) -> None:
        """Cut every call in flight; each still writes its row."""
        for exchange in list(self.floor.in_flight):
            exchange.stop()

    async def _call(
        self, route: Route, model: str, scope: Scope, receive: Receive, client: Client, call_id: str
    ) -> None:
        floor = self.floor  # as the admission is: a changed configuration may come while the body does
        call = await self.admission.admit(route, model, scope, receive, call_id)
        if isinstance(call, Attempts):
            await run_attempts(floor, client, call)
        else:
            attempt, asked = call
            await Exchange(floor, attempt, client, *asked).run()

    async def _pass_on(self, path: str, scope: Scope, receive: Receive, client: Client, call_id: str) -> None:
        """Calls of which little or nothing is read: stored objects, and paths that only the upstream knows."""
        floor = self.floor
        if path.startswith(PASS):
            attempt, asked = await self._passthrough.admit(scope, receive, call_id)
        else:
            found = operations.find(scope["method"], path)
            if found is None or self.stored is None:
                raise not_found(f"{scope['method']} {path[:256]}")
            attempt, asked = await self.stored.admit(*found, query_of(scope), scope, receive, call_id)
        await Exchange(floor, attempt, client, *asked).run()

    async def _answer(self, path: str, scope: Scope, client: Client, request_id: str) -> None:
        """All that is not a call: health, models, and what the gateway does not serve. Raises Refusal."""
        if _is_websocket(scope):
            raise websocket_refused(path)
        is_read = scope["method"] in ("GET", "HEAD")
        if path == "/" and is_read:
            await _send_json(client, 200, _INDEX, request_id)
        elif path in _HEALTH and is_read:
            status, answer = await self.health.answer(path)
            await _send_json(client, status, msgspec.json.encode(answer), request_id)
        elif path == METRICS and is_read and self.metrics is not None:
            self._permit(KeyPermission.METRICS, scope)
            await _send(client, 200, CONTENT_TYPE, await self.metrics(), request_id)
        elif (path == MODELS or path.startswith(MODELS + "/")) and is_read:
            await _send_json(client, 200, self._models(path, scope), request_id)
        elif path in ROUTES or path in _HEALTH or path in (MODELS, EVENTS, METRICS):
            allowed = "POST" if path in ROUTES or path == EVENTS else "GET"
            refusal = method_not_allowed(scope["method"], path, allowed)
            await refuse(client, family_of(path, scope), refusal, request_id, (b"allow", allowed.encode()))
        else:
            raise not_found(path[:256])

    def _refused_to(self, path: str, scope: Scope) -> RefusedTo:
        """Whose call it was and what it asked for, as far as anybody knows, by names that are configured."""
        try:
            key = authenticate(split(scope["headers"]).own, self.admission.keys, time.time_ns() // 1000)
        except Refusal:
            return RefusedTo()
        asked = scope.get(ASKED_MODEL, "")
        found = self.admission.upstreams.deployments(asked) if asked else ()
        return RefusedTo(key.id, key.user, key.team, found[0].name if found else asked and OTHER)

    def _permit(self, permission: KeyPermission, scope: Scope) -> None:
        """Raises Refusal where the request's key does not have the permission."""
        key = authenticate(split(scope["headers"]).own, self.admission.keys, time.time_ns() // 1000)
        if permission not in key.permissions:
            raise permission_required(permission)

    def _models(self, path: str, scope: Scope) -> bytes:
        """All models that the key may use (names behind a wildcard are served, but cannot be listed), or one."""
        admission, upstreams = self.admission, self.admission.upstreams
        key = authenticate(split(scope["headers"]).own, admission.keys, time.time_ns() // 1000)
        family = family_of(path, scope)

        def allowed(each: str) -> bool:
            return admission.allowed(key, each)

        name = path[len(MODELS) + 1 :]
        if not name:
            return models_body(
                family, [(each, upstreams.provider(each)) for each in upstreams.names() if allowed(each)]
            )
        if not upstreams.deployments(name) or not allowed(name):
            raise upstreams.not_found(name, allowed)
        return model_body(family, name, upstreams.provider(name))


def family_of(path: str, scope: Scope) -> str:
    """In whose words a refusal is said: the route's, else Anthropic's to those who speak like it."""
    route = ROUTES.get(path)
    if route is not None:
        return route.dialect.family
    is_anthropic = path.startswith("/v1/messages") or any(name == b"anthropic-version" for name, _ in scope["headers"])
    return "anthropic" if is_anthropic else "openai"


def _is_websocket(scope: Scope) -> bool:
    return any(name == b"upgrade" and value.lower() == b"websocket" for name, value in scope["headers"])


async def _send_json(client: Client, status: int, body: bytes, request_id: str) -> None:
    await _send(client, status, b"application/json", body, request_id)


async def _send(client: Client, status: int, content_type: bytes, body: bytes, request_id: str) -> None:
    headers = [
        (b"x-tt-request-id", request_id.encode()),
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
    ]
    await client.answer(status, headers, body)


def websocket_refused(path: str) -> Refusal:
    return Refusal(
        501,
        "websocket_unsupported",
        f"The gateway does not carry WebSockets yet, so {path[:256]} was refused and nothing was forwarded. "
        "Use the HTTP routes.",
    )


def internal_error() -> Refusal:
    return Refusal(
        500,
        "internal_error",
        "The gateway failed to handle this call; its log says why. If it had been sent, it is in the ledger.",
    )
