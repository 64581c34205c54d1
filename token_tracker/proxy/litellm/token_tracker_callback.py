"""For people who run a LiteLLM proxy of their own: delivers what LiteLLM measured to Token Tracker's ingest route.

Copy this one file beside LiteLLM's config.yaml, name it there, and set two variables where LiteLLM runs:

    litellm_settings: {callbacks: ["token_tracker_callback.token_tracker"]}

    TT_GATEWAY_URL    the gateway's address, http://gateway:8000
    TT_GATEWAY_KEY    a virtual key with the permission 'ingest'
    TT_GATEWAY_SPOOL  a file for events not delivered yet (token-tracker-events.sqlite3 in the working directory)

It needs nothing but LiteLLM and the standard library, and stays one file, because LiteLLM loads one. Counts, costs and
names are sent, never prompts or answers. A call costs LiteLLM a few microseconds: events go through a spool on disk in
threads of their own, are sent in batches until the gateway has them, and survive the death of either side. The gateway
books each id once, so nothing is doubled.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import queue
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

log = logging.getLogger("token_tracker.callback")

QUEUE_EVENTS = 10_000  # between LiteLLM's event loop and the spool
SPOOL_EVENTS = 100_000  # about 100 MB; beyond, new events are dropped and counted in the log
BATCH_EVENTS = 200
SEND_TIMEOUT_S = 10.0
BACK_OFF_S, BACK_OFF_MAX_S = 0.5, 30.0
LOOK_S = 2.0  # for what another process of the same proxy left in the spool
CLOSE_S = 5.0
SPOOL_FILE = "token-tracker-events.sqlite3"


class TokenTrackerCallback(CustomLogger):  # type: ignore[misc]  # LiteLLM's class is untyped
    """LiteLLM's callback. Its hooks never raise and never wait. Sync and async hooks of one call give the same event
    id, so it does not matter which of them fire."""

    def __init__(self, url: str, key: str, spool: str = SPOOL_FILE) -> None:
        super().__init__()
        self.delivery = Delivery(url, key, spool)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """LiteLLM calls these by keyword: the four names are part of its interface."""
        self._take(kwargs, is_failure=False)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._take(kwargs, is_failure=True)

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._take(kwargs, is_failure=False)

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._take(kwargs, is_failure=True)

    def _take(self, kwargs: Any, *, is_failure: bool) -> None:
        try:
            event = read_event(kwargs, is_failure=is_failure)
            if event is not None:
                self.delivery.put(event)
        except Exception as error:  # the user's proxy goes on whatever happens here
            log.warning("a call could not be reported: %s", type(error).__name__)


def read_event(kwargs: Any, *, is_failure: bool) -> dict[str, Any] | None:
    """The event of a call, or of a failed attempt; None for what reached no provider: refusals of LiteLLM's own, and
    answers from its cache."""
    payload = _mapping(kwargs.get("standard_logging_object"))
    call_id = _text(kwargs.get("litellm_call_id")) or _text(payload.get("litellm_call_id"))
    provider, model = _text(payload.get("custom_llm_provider"))[:64], _text(payload.get("model"))
    if not call_id or not model or not provider or payload.get("cache_hit") is True:
        return None
    if is_failure and not payload.get("api_base") and not payload.get("completion_tokens"):
        return None  # refused before anything was asked
    started_s, ended_s = _number(payload.get("startTime")), _number(payload.get("endTime"))
    metadata = _mapping(payload.get("metadata"))
    upstream_id = _text(payload.get("id"))
    event = {
        "id": _event_id(call_id, payload, is_failure),
        "timestamp": datetime.fromtimestamp(started_s, timezone.utc).isoformat(),  # noqa: UP017 (LiteLLM also runs on older Pythons)
        "model": model.removeprefix(f"{provider}/")[:255],
        "provider": provider,
        "requested_model": (_text(payload.get("model_group")) or model)[:255],
        "stream": payload.get("stream") is True,
        "latency_ms": max(0.0, round((ended_s - started_s) * 1000, 3)),
        "upstream_id": "" if upstream_id == call_id else upstream_id[:255],
        "session": _text(payload.get("session_id"))[:255],
        "end_user": _text(payload.get("end_user"))[:255],
        "tags": _tags(payload.get("request_tags")),
        "metadata": _names(metadata),
    }
    if (route := _text(metadata.get("user_api_key_request_route"))).startswith("/"):
        event["endpoint"] = route[:64]
    if (user := _text(metadata.get("user_api_key_user_id"))) != "default_user_id":
        event["user"] = user[:255]
    return event | _ending(payload, is_failure) | _counts(payload, metadata) | _cost(payload)


def _event_id(call_id: str, payload: Mapping[str, Any], is_failure: bool) -> str:
    """A client may choose the call id, and so use one twice: the start tells such calls apart. A failed attempt may be
    followed by a retry or a fallback under the same id."""
    name = f"{call_id[:100]}:{int(_number(payload.get('startTime')) * 1_000_000)}"
    return f"{name}:failed:{_text(payload.get('model_id'))[:70]}" if is_failure else name


def _ending(payload: Mapping[str, Any], is_failure: bool) -> dict[str, Any]:
    error = _mapping(payload.get("error_information"))
    code = _text(error.get("error_code"))
    if not is_failure:  # 499: LiteLLM's word for a client that left, with what it counted until then
        return {"end_reason": "client_disconnect", "usage_source": "estimated"} if code == "499" else {}
    is_answered = code.isdigit() and 400 <= int(code) <= 599  # a connection that broke has no code
    reason = "upstream_error" if is_answered and not payload.get("completion_tokens") else "upstream_disconnect"
    if _text(error.get("error_class")) == "Timeout":
        reason = "timeout"
    return {"status_code": int(code) if is_answered else 502, "end_reason": reason, "usage_source": "estimated"}


_SIDES = ("prompt", "completion")


def _counts(payload: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """As LiteLLM counts: like OpenAI, cache reads and writes within the prompt. Nothing where it counted nothing."""
    counted = _mapping(metadata.get("usage_object"))
    prompt = _count(counted.get("prompt_tokens")) or _count(payload.get("prompt_tokens"))
    completion = _count(counted.get("completion_tokens")) or _count(payload.get("completion_tokens"))
    if not prompt + completion:
        return {"usage_source": "none"}
    details = {f"{name}_tokens_details": dict(_mapping(counted.get(f"{name}_tokens_details"))) for name in _SIDES}
    made = details["completion_tokens_details"]
    if "image_generation" in _text(payload.get("call_type")) and not made.get("image_tokens"):
        made["image_tokens"] = completion  # these models make nothing else
    return {"prompt_tokens": prompt, "completion_tokens": completion, **details}


def _cost(payload: Mapping[str, Any]) -> dict[str, Any]:
    """LiteLLM says 0 for a price it does not know as well as for a free model: that proves nothing."""
    cost = payload.get("response_cost")
    known = isinstance(cost, (int, float)) and not isinstance(cost, bool) and 0 < cost <= 1_000_000
    return {"cost_usd": repr(cost), "cost_source": "litellm"} if known else {}


def _tags(tags: Any) -> list[str]:
    """Those that somebody chose: LiteLLM adds the client's name as tags of its own."""
    chosen = [tag for tag in tags or () if isinstance(tag, str) and not tag.startswith("User-Agent: ")]
    return [tag[:128] for tag in chosen[:32]]


def _names(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Who it was for LiteLLM, by the names its administrator gave."""
    names = {"litellm_key": "user_api_key_alias", "litellm_team": "user_api_key_team_alias"}
    return {name: _text(metadata.get(field))[:255] for name, field in names.items() if metadata.get(field)}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 10**9 else 0


class Spool:
    """Events not delivered yet, in one SQLite file that all workers of a proxy share. For several threads."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY, id TEXT UNIQUE, body TEXT NOT NULL)"
        )

    def add(self, events: Sequence[Mapping[str, Any]]) -> int:
        """Keep them; how many there was no room for. Raises sqlite3.Error."""
        with self._lock:
            [(held,)] = self._connection.execute("SELECT count(*) FROM events")
            room = max(0, SPOOL_EVENTS - held)
            rows = [(event["id"], json.dumps(event)) for event in events[:room]]
            self._connection.executemany("INSERT OR IGNORE INTO events (id, body) VALUES (?, ?)", rows)
            return len(events) - len(rows)

    def oldest(self, limit: int) -> list[tuple[int, str]]:
        with self._lock:
            return list(self._connection.execute("SELECT number, body FROM events ORDER BY number LIMIT ?", (limit,)))

    def remove(self, numbers: Sequence[int]) -> None:
        with self._lock:
            self._connection.executemany("DELETE FROM events WHERE number = ?", [(number,) for number in numbers])


def open_spool(path: str) -> Spool:
    """In memory where the file cannot be had: then only what was delivered survives the proxy's death."""
    try:
        return Spool(path)
    except sqlite3.Error as error:
        log.warning("the spool %s cannot be used (%s): events wait in memory. Set TT_GATEWAY_SPOOL.", path, error)
        return Spool(":memory:")


class Delivery:
    """Two daemon threads: one keeps events in the spool, one sends what is there."""

    def __init__(self, url: str, key: str, spool: str) -> None:
        self._sender = Sender(url, key)
        self._spool = open_spool(spool)
        self._queue: queue.Queue[Mapping[str, Any]] = queue.Queue(QUEUE_EVENTS)
        self._kept = threading.Event()  # there is something to send
        self._closing = threading.Event()
        self.dropped = 0
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._keep_all, self._send_all)]
        for thread in self._threads:
            thread.start()
        atexit.register(self.close)

    def put(self, event: Mapping[str, Any]) -> None:
        """Never waits; what comes after `close` goes straight to the spool and is sent by the next start."""
        if self._closing.is_set():
            self._keep([event])
            return
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self._drop(1)

    def close(self) -> None:
        """Send what can be sent within a few seconds; the rest stays in the spool."""
        self._closing.set()
        self._kept.set()
        until = time.monotonic() + CLOSE_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _keep_all(self) -> None:
        while not (self._closing.is_set() and self._queue.empty()):
            try:
                events = [self._queue.get(timeout=0.2)]
            except queue.Empty:
                continue
            while len(events) < BATCH_EVENTS and not self._queue.empty():
                events.append(self._queue.get_nowait())
            while not self._keep(events) and not self._closing.wait(1):
                pass

    def _keep(self, events: Sequence[Mapping[str, Any]]) -> bool:
        try:
            self._drop(self._spool.add(events))
        except sqlite3.Error as error:
            log.error("events cannot be written to the spool: %s", error)
            return False
        self._kept.set()
        return True

    def _send_all(self) -> None:
        wait_s = 0.0
        while True:
            is_closing = self._closing.is_set()
            try:
                sent, wait_s = self._send_batch(wait_s)
            except Exception as error:  # a thread that dies would be silent for ever
                log.error("events cannot be sent: %s", type(error).__name__)
                sent, wait_s = 0, BACK_OFF_MAX_S
            if is_closing and not self._threads[0].is_alive() and not sent:
                return
            if wait_s:
                self._closing.wait(0.05 if is_closing else wait_s)
                time.sleep(0.05 if is_closing else 0)
            elif not sent:
                self._kept.wait(0.05 if is_closing else LOOK_S)
                self._kept.clear()

    def _send_batch(self, waited_s: float) -> tuple[int, float]:
        """How many events left the spool, and how long to wait before the next try."""
        batch = self._spool.oldest(self._sender.batch_events)
        if not batch:
            return 0, 0.0
        try:
            done = self._sender.send([body for _, body in batch])
        except Undelivered as problem:
            if not waited_s:
                log.warning("events wait in the spool: %s", problem)
            return 0, problem.retry_after_s or min(max(BACK_OFF_S, waited_s * 2), BACK_OFF_MAX_S)
        self._spool.remove([number for number, _ in batch[:done]])
        return done, 0.0

    def _drop(self, count: int) -> None:
        if count:
            self.dropped += count
            log.error("no room for %d events of calls, %d so far: they are lost", count, self.dropped)


class Undelivered(Exception):
    """The gateway does not have these events now; the text says why."""

    def __init__(self, text: str, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the key to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Sender:
    """Posts batches. A batch that is refused as a whole is halved, so that one bad event stops no other."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url.rstrip("/").removesuffix("/v1") + "/v1/usage/events"
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        self._opener = urllib.request.build_opener(_NoRedirect)
        self.batch_events = BATCH_EVENTS

    def send(self, bodies: Sequence[str]) -> int:
        """How many of the first events are done with. Raises Undelivered."""
        body = f"[{','.join(bodies)}]".encode()
        request = urllib.request.Request(self._url, body, self._headers, method="POST")  # noqa: S310 (see _is_http)
        try:
            with self._opener.open(request, timeout=SEND_TIMEOUT_S) as answer:
                results = json.loads(answer.read())["results"]
        except urllib.error.HTTPError as error:
            with error:
                return self._refused(error, bodies)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Undelivered(f"no answer from {self._url} ({type(error).__name__})") from None
        for result in results:
            if result.get("status") == "rejected":
                log.error("Token Tracker rejected the event %s: %s", result.get("id"), result.get("reason"))
        self.batch_events = min(BATCH_EVENTS, self.batch_events * 2)
        return len(bodies)

    def _refused(self, error: urllib.error.HTTPError, bodies: Sequence[str]) -> int:
        if error.code in (400, 413):
            if len(bodies) > 1:
                self.batch_events = len(bodies) // 2
                return self.send(bodies[: self.batch_events])
            log.error("Token Tracker refused an event (HTTP %d): it is dropped", error.code)
            return 1
        if error.code in (401, 403):
            raise Undelivered(f"HTTP {error.code}: TT_GATEWAY_KEY must be a key with the permission 'ingest'")
        told = error.headers.get("retry-after", "")
        raise Undelivered(f"HTTP {error.code} from {self._url}", min(float(told), 60.0) if told.isdigit() else 0.0)


def _is_http(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def from_environment() -> TokenTrackerCallback | None:
    """The callback that TT_GATEWAY_URL and TT_GATEWAY_KEY describe; None, and a line in the log, without them."""
    url, key = os.environ.get("TT_GATEWAY_URL", ""), os.environ.get("TT_GATEWAY_KEY", "")
    if not _is_http(url) or not key:
        log.error("calls are not reported to Token Tracker: set TT_GATEWAY_URL (http://…) and TT_GATEWAY_KEY")
        return None
    return TokenTrackerCallback(url, key, os.environ.get("TT_GATEWAY_SPOOL", "") or SPOOL_FILE)


# Made when LiteLLM asks for it by name, not when somebody imports the module.
def __getattr__(name: str) -> Any:
    if name != "token_tracker":
        raise AttributeError(name)
    made = globals()["token_tracker"] = from_environment() or CustomLogger()
    return made
