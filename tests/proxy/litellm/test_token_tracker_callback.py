"""The callback in a user's own LiteLLM proxy: what it reads, and how it delivers."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.proxy.house import wait_until
from token_tracker.proxy.events import read_event as taken
from token_tracker.proxy.litellm import token_tracker_callback as callback
from token_tracker.proxy.litellm.payload import read_evidence
from token_tracker.proxy.litellm.token_tracker_callback import TokenTrackerCallback, read_event

PAYLOADS = sorted(Path(__file__).with_name("payloads").glob("*.json"))
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def kwargs_of(path: Path = PAYLOADS[0], **more: Any) -> dict[str, Any]:
    kwargs: dict[str, Any] = json.loads(path.read_text())
    started = NOW.timestamp()
    payload = kwargs["standard_logging_object"]
    payload |= {"startTime": started, "endTime": started + 0.25, "completionStartTime": started + 0.1} | more
    return kwargs


@pytest.mark.parametrize("path", PAYLOADS, ids=lambda path: str(path.stem))
def test_the_gateway_takes_what_litellm_reports_and_counts_it_alike(path: Path) -> None:
    kwargs = kwargs_of(path)
    sent = read_event(kwargs, is_failure=False)
    evidence = read_evidence(kwargs)
    known = taken(json.dumps(sent).encode(), NOW)
    assert evidence is not None
    assert known.usage == evidence.usage
    assert known.cost_usd == evidence.cost_usd
    assert (known.event.model, known.event.provider) == (evidence.model, evidence.provider)
    assert (known.event.latency_ms, known.event.tags, known.event.user) == (250.0, (), "")


def test_sync_and_async_events_of_a_call_are_one_and_a_failed_attempt_is_another() -> None:
    kwargs = kwargs_of()
    success, failure = read_event(kwargs, is_failure=False), read_event(kwargs, is_failure=True)
    assert success is not None and failure is not None
    again = read_event(kwargs_of(), is_failure=False)
    assert again is not None and again["id"] == success["id"] != failure["id"]
    later = read_event(kwargs_of(startTime=NOW.timestamp() + 1), is_failure=False)  # a client may repeat a call id
    assert later is not None and later["id"] != success["id"]


@pytest.mark.parametrize("more", [{"cache_hit": True}, {"custom_llm_provider": None}, {"model": ""}])
def test_what_reached_no_provider_is_no_event(more: dict[str, Any]) -> None:
    assert read_event(kwargs_of(**more), is_failure=False) is None
    assert read_event({}, is_failure=False) is None


def test_a_refusal_of_litellms_own_is_no_event() -> None:
    assert read_event(kwargs_of(api_base="", completion_tokens=0), is_failure=True) is None


class Gateway:
    """Answers as told, `status` by `status`, and keeps what it was sent."""

    def __init__(self) -> None:
        self.batches: list[list[dict[str, Any]]] = []
        self.keys: set[str] = set()
        self.statuses: list[int] = []
        self.largest = 10_000
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                events = json.loads(self.rfile.read(int(self.headers["content-length"])))
                gateway.keys.add(self.headers["authorization"])
                status = gateway.statuses.pop(0) if gateway.statuses else 200
                status = 413 if len(events) > gateway.largest else status
                if status == 200:
                    gateway.batches.append(events)
                body = json.dumps({"results": [{"id": each["id"], "status": "accepted"} for each in events]}).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.send_header("location", "http://127.0.0.1:1/elsewhere")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return None

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def ids(self) -> list[str]:
        return [event["id"] for batch in self.batches for event in batch]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    monkeypatch.setattr(callback, "BACK_OFF_S", 0.01)
    running = Gateway()
    yield running
    running.close()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    made: list[TokenTrackerCallback] = []

    def start(url: str, spool: str = str(tmp_path / "spool")) -> TokenTrackerCallback:
        made.append(TokenTrackerCallback(url, "sk-tt-key", spool))
        return made[-1]

    yield start
    for each in made:
        each.delivery.close()


def calls(taker: TokenTrackerCallback, *numbers: int) -> None:
    """A call each, as LiteLLM reports it: by keyword, and by whichever hooks it likes."""
    for number in numbers:
        event = {"kwargs": kwargs_of(startTime=NOW.timestamp() + number), "response_obj": None}
        times = {"start_time": None, "end_time": None}
        asyncio.run(taker.async_log_success_event(**event, **times))
        taker.log_success_event(**event, **times)


def test_what_a_gateway_cannot_take_now_comes_again_until_it_does(gateway: Gateway, make: Any) -> None:
    gateway.statuses = [503, 500, 302, 401]
    calls(make(gateway.url), 1, 2, 3)
    wait_until(lambda: len(set(gateway.ids)) == 3, "three events")
    assert gateway.keys == {"Bearer sk-tt-key"}


def test_a_batch_that_is_too_large_is_halved(gateway: Gateway, make: Any) -> None:
    gateway.largest = 2
    away = make("http://127.0.0.1:1")
    calls(away, *range(9))
    away.delivery.close()
    make(gateway.url)
    wait_until(lambda: len(gateway.ids) == 9, "nine events")
    assert max(map(len, gateway.batches)) <= 2


def test_what_was_not_delivered_is_sent_by_the_next_process(gateway: Gateway, make: Any) -> None:
    away = make("http://127.0.0.1:1")
    calls(away, 1, 2)
    away.delivery.close()
    calls(away, 3)  # LiteLLM reports its last calls after its own end
    make(gateway.url)
    wait_until(lambda: len(gateway.ids) == 3, "three events")
    assert len(set(gateway.ids)) == 3


def test_a_spool_that_cannot_be_written_is_no_reason_to_lose_calls(gateway: Gateway, make: Any, tmp_path: Path) -> None:
    calls(make(gateway.url, str(tmp_path / "no" / "such" / "folder")), 1)
    wait_until(lambda: len(gateway.ids) == 1, "the event")


def test_a_full_spool_drops_and_says_so(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback, "SPOOL_EVENTS", 2)
    away = make("http://127.0.0.1:1")
    calls(away, 1)
    calls(away, *range(2, 12))
    wait_until(lambda: away.delivery.dropped >= 9, "dropped events")


def test_nothing_that_litellm_may_hand_over_raises(make: Any) -> None:
    taker = make("http://127.0.0.1:1")
    for kwargs in (None, 7, {}, {"standard_logging_object": 7}, kwargs_of(startTime=1e30), kwargs_of(request_tags=5)):
        asyncio.run(taker.async_log_failure_event(kwargs=kwargs, response_obj=None, start_time=None, end_time=None))


def test_without_its_variables_the_callback_is_a_line_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TT_GATEWAY_URL", raising=False)
    assert callback.from_environment() is None
    monkeypatch.setenv("TT_GATEWAY_URL", "file:///etc/passwd")
    monkeypatch.setenv("TT_GATEWAY_KEY", "sk-tt-x")
    assert callback.from_environment() is None
