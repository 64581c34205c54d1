"""Every way a call can end, on both lanes: its one row says what the provider's own books say, or that nobody knows.

How each ending comes about in detail is in tests/proxy/test_gateway_endings.py. Here usage, cost and evidence of the
ledger's row are compared with what the provider billed; at the end all rows are judged together.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import struct
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.chaos.judge import Witness, judge
from tests.functional.books import COUNTS, NANO_USD, Ledger, Row, check_complete, entries_of
from tests.functional.house import RATES, UPSTREAM_KEY, marker
from tests.functional.installation import Installation, wait_until
from tests.functional.provider_books import Entry, FakeProvider
from tests.functional.test_translated import child_answers

OPTIONS = {"connect_timeout_s": 0.5, "first_byte_timeout_s": 4, "idle_timeout_s": 1.5, "drain_timeout_s": 10}
LANES = ["direct", "translated"]
FAMILIES = {"direct": "fake", "translated": "claude"}  # both asked for in OpenAI's format
ESTIMATED = ("estimated", "provider_partial")


@dataclass
class Scene:
    """An installation, its ledger, and the calls that were made in it."""

    installation: Installation
    ledger: Ledger
    provider: FakeProvider
    markers: list[str] = field(default_factory=list)
    killed: set[str] = field(default_factory=set)

    def send(self, lane: str, manner: str, *, stream: bool = True, model: str = "") -> tuple[str, Client]:
        """A call on its way, and its marker."""
        name = marker("ending")
        self.markers.append(name)
        body = {"model": model or f"{FAMILIES[lane]}-{manner}", "stream": stream, "user": name}
        body["messages"] = [{"role": "user", "content": name}]
        client = Client(self.installation)
        client.send(body, self.installation.key)
        return name, client

    def row(self, name: str, timeout_s: float = 20) -> Row:
        found: list[Row] = wait_until(lambda: self.ledger.rows(name), timeout_s, f"the row of {name}")
        assert len(found) == 1
        return found[0]

    def entry(self, name: str) -> Entry:
        return self.provider.entry(name)


class Client:
    """One raw call; `read` takes everything, `leave` resets the connection."""

    def __init__(self, installation: Installation) -> None:
        address = urlsplit(installation.proxy_url)
        self.connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
        self.status = 0

    def send(self, body: dict[str, Any], key: str) -> None:
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        self.connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)

    def begin(self) -> http.client.HTTPResponse:
        answer = self.connection.getresponse()
        self.status = answer.status
        return answer

    def read(self) -> bytes:
        with contextlib.closing(self.connection):
            try:
                return self.begin().read()
            except http.client.IncompleteRead as error:
                return error.partial

    def leave(self) -> None:
        assert self.connection.sock is not None
        self.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.sock.close()
        self.connection.close()


@pytest.fixture(scope="module")
def unanswered() -> Iterator[str]:
    """The base URL of a listener whose queue is full: it answers no handshake."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield f"http://127.0.0.1:{full.getsockname()[1]}/v1"


@pytest.fixture(scope="module")
def scene(fake_provider: FakeProvider, unanswered: str) -> Iterator[Scene]:
    def entry(name: str, model: str, base: str) -> dict[str, Any]:
        params = {"model": model, "api_base": base, "api_key": UPSTREAM_KEY, "cooldown_time": 0, **RATES}
        return {"model_name": name, "litellm_params": params}

    config = {
        "model_list": [
            entry("fake-*", "openai/fake-*", fake_provider.openai_base),
            entry("claude-*", "anthropic/fake-*", fake_provider.url),
            entry("far", "openai/far", unanswered),
            entry("nobody", "openai/nobody", "http://127.0.0.1:1/v1"),
        ],
        "gateway": OPTIONS,
    }
    with tempfile.TemporaryDirectory(prefix="tt-") as directory:
        installation = Installation(Path(directory), config)
        with installation.start("proxy"):
            wait_until(lambda: child_answers(installation), 40, "the LiteLLM child")
            ledger = Ledger(f"sqlite:///{installation.data_dir}/token_tracker.db")
            made = Scene(installation, ledger, fake_provider)
            yield made
            wait_until(lambda: len(ledger.rows("ending")) >= len(made.markers), 10, "all rows")
            entries = [each for each in entries_of(fake_provider, "ending") if each["marker"] in made.markers]
            witness = Witness(at_kill=frozenset(made.killed))
            verdict = judge(ledger.table("token_usage"), ledger.table("usage_hourly"), entries, witness)
            assert verdict.problems == [], "never two rows for an attempt, and never none"
            assert len(ledger.rows("ending")) == len(made.markers)


def counts(row: Row) -> dict[str, int]:
    return {name: row[name] for name in COUNTS if row[name]}


def evidence(row: Row) -> tuple[str, str, int]:
    return row["end_reason"], row["usage_source"], row["status_code"]


def check_as_billed(row: Row, entry: Entry) -> None:
    """The provider's own count, and the cost that follows from it."""
    assert row["usage_source"] == "provider"
    assert counts(row) == entry["billed"]
    assert row["cost_source"] == "priced" and row["price_version"]
    assert row["cost_nano_usd"] == sum(count * NANO_USD[name] for name, count in entry["billed"].items())


def check_no_cost(row: Row) -> None:
    assert (counts(row), row["cost_nano_usd"], row["usage_source"]) == ({}, 0, "none")


def check_estimate(row: Row) -> None:
    """Nobody said what it was: an estimate that says so, above nothing, and priced like everything else."""
    assert row["usage_source"] in ESTIMATED
    assert row["input_tokens"] > 0
    assert row["cost_nano_usd"] == sum(count * NANO_USD[name] for name, count in counts(row).items()) > 0


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("stream", [True, False])
def test_a_complete_call_is_what_the_provider_billed(scene: Scene, lane: str, stream: bool) -> None:
    name, client = scene.send(lane, "cached", stream=stream)
    assert client.read() and client.status == 200
    row, entry = scene.row(name), scene.entry(name)
    assert entry["reached_end"]
    check_as_billed(row, entry)
    assert evidence(row) == ("complete", "provider", 200)
    assert row["lane"] == ("direct" if lane == "direct" else "litellm")
    if lane == "direct":
        check_complete(row, entry)


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("status", [400, 500])
def test_an_upstreams_error_costs_nothing_as_the_provider_billed_nothing(scene: Scene, lane: str, status: int) -> None:
    name, client = scene.send(lane, str(status))
    assert client.read() and client.status == status
    row, entry = scene.row(name), scene.entry(name)
    assert entry["billed"] == {} and entry["status"] == status
    assert evidence(row) == ("upstream_error", "none", status)
    check_no_cost(row)


@pytest.mark.parametrize("lane", LANES)
def test_an_upstream_that_dies_mid_stream_leaves_an_estimate_that_says_so(scene: Scene, lane: str) -> None:
    name, client = scene.send(lane, "dies-mid-stream+slow-50ms")
    assert b"[DONE]" not in client.read() and client.status == 200
    row, entry = scene.row(name), scene.entry(name)
    assert not entry["reached_end"] and entry["billed"]["output_tokens"] > 0
    assert row["end_reason"] in ("upstream_disconnect", "upstream_error") and row["status_code"] == 200
    check_estimate(row)
    assert row["output_tokens"] > 0, "words were said, and somebody pays for them"


@pytest.mark.parametrize("lane", LANES)
def test_a_clean_end_before_the_terminal_event_is_never_taken_for_the_providers_count(scene: Scene, lane: str) -> None:
    name, client = scene.send(lane, "ends-early+slow-50ms")
    text = client.read()
    row, entry = scene.row(name), scene.entry(name)
    assert entry["billed"]["output_tokens"] > 0
    if lane == "direct":
        assert b"[DONE]" not in text and row["end_reason"] == "upstream_disconnect"
    else:  # LiteLLM makes up an ordinary end and a count: the count is booked as the estimate that it is
        assert row["end_reason"] == "complete" and row["input_tokens"] == entry["billed"]["input_tokens"]
    check_estimate(row)
    assert row["output_tokens"] > 0


def test_a_connection_that_never_comes_about_reached_nobody_and_costs_nothing(scene: Scene) -> None:
    name, client = scene.send("direct", "", model="far")
    assert b"connecting took too long" in client.read() and client.status == 502
    row = scene.row(name)
    assert evidence(row) == ("upstream_error", "none", 502)
    check_no_cost(row)
    assert scene.provider.books(name) == []


def test_an_upstream_where_nobody_listens_costs_nothing(scene: Scene) -> None:
    name, client = scene.send("direct", "", model="nobody")
    assert b"refused the connection" in client.read() and client.status == 502
    row = scene.row(name)
    assert evidence(row) == ("upstream_error", "none", 502)
    check_no_cost(row)


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("stream", [True, False])
def test_an_upstream_that_never_begins_is_a_time_out_that_may_have_been_billed(
    scene: Scene, lane: str, stream: bool
) -> None:
    name, client = scene.send(lane, "hang-before-headers", stream=stream)
    assert b"may have been billed" in client.read() and client.status == 504
    row, entry = scene.row(name), scene.entry(name)
    assert entry["client_left"] and entry["status"] == 0
    assert evidence(row) == ("timeout", "estimated", 504)
    check_estimate(row)
    assert row["output_tokens"] == 0, "nothing was seen"


@pytest.mark.parametrize("lane", LANES)
def test_an_upstream_that_falls_silent_is_a_time_out_with_what_was_seen(scene: Scene, lane: str) -> None:
    name, client = scene.send(lane, "hang-mid-stream")
    assert b"[DONE]" not in client.read() and client.status == 200
    row, entry = scene.row(name), scene.entry(name)
    assert entry["client_left"], "the upstream was let go"
    assert row["end_reason"] == "timeout" and row["status_code"] == 200
    check_estimate(row)
    assert row["output_tokens"] > 0


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("stream", [True, False])
def test_a_client_gone_before_the_headers_is_booked_with_the_providers_count(
    scene: Scene, lane: str, stream: bool
) -> None:
    name, client = scene.send(lane, "slow-100ms", stream=stream)
    scene.provider.wait_for(lambda entries: len(entries) == 1, marker=name)
    client.leave()
    row, entry = scene.row(name), scene.entry(name)
    assert entry["reached_end"], "it was read on to the provider's own count"
    assert evidence(row) == ("client_disconnect", "provider", 200)
    check_as_billed(row, entry)


@pytest.mark.parametrize("lane", LANES)
def test_a_client_gone_before_the_first_chunk_is_booked_with_the_providers_count(scene: Scene, lane: str) -> None:
    name, client = scene.send(lane, "slow-100ms")
    client.begin()
    client.leave()
    row, entry = scene.row(name), scene.entry(name)
    assert evidence(row) == ("client_disconnect", "provider", 200)
    check_as_billed(row, entry)


@pytest.mark.parametrize("lane", LANES)
def test_a_client_gone_mid_stream_is_booked_with_the_providers_count(scene: Scene, lane: str) -> None:
    name, client = scene.send(lane, "slow-100ms")
    answer = client.begin()
    while b"Tracker" not in answer.readline():
        pass
    client.leave()
    row, entry = scene.row(name), scene.entry(name)
    assert entry["reached_end"]
    assert evidence(row) == ("client_disconnect", "provider", 200)
    check_as_billed(row, entry)


@pytest.mark.parametrize("lane", LANES)
def test_a_client_that_reads_slowly_gets_all_and_is_booked_complete(scene: Scene, lane: str) -> None:
    name, client = scene.send(lane, "plain")
    answer, text = client.begin(), b""
    while piece := answer.read(100):
        text += piece
        time.sleep(0.02)  # this client's own slowness
    client.connection.close()
    assert b"[DONE]" in text
    row, entry = scene.row(name), scene.entry(name)
    assert evidence(row) == ("complete", "provider", 200)
    check_as_billed(row, entry)


@pytest.mark.parametrize("lane", LANES)
def test_a_killed_gateway_leaves_a_crash_row_of_unknown_cost(scene: Scene, lane: str) -> None:
    name, client = scene.send(lane, "slow-100ms")
    scene.killed.add(name)
    answer = client.begin()
    answer.readline()
    [pid] = scene.installation.child_pids("gateway")
    os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(http.client.HTTPException, OSError):
        assert b"[DONE]" not in answer.read()
    client.connection.close()
    row = scene.row(name)
    assert evidence(row) == ("crash", "none", 0)
    assert (counts(row), row["cost_nano_usd"], row["cost_source"]) == ({}, None, "unpriced"), "unknown is never 0"
    assert len(scene.provider.books(name)) == 1
    wait_until(lambda: child_answers_again(scene.installation), 40, "the next gateway")


def child_answers_again(installation: Installation) -> bool:
    try:
        return child_answers(installation)
    except OSError:
        return False
