"""A stock LiteLLM proxy reports to the gateway: the ledger equals the provider's own books, whoever dies in between."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.functional.books import COUNTS, Ledger
from tests.functional.installation import Installation, wait_until
from tests.functional.provider_books import FakeProvider
from tests.functional.users_litellm import UsersLiteLLM


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation(tmp_path_factory.mktemp("installation")) as running:
        yield running.start()


@pytest.fixture(scope="module")
def ingest_key(installation: Installation) -> str:
    body = {"name": "litellm", "permissions": ["ingest"]}
    status, _, text = installation.call("POST", f"{installation.api_url}/api/keys", body, installation.login())
    assert status == 201, text
    key: str = json.loads(text)["key"]
    return key


@pytest.fixture(scope="module")
def litellm(
    provider: FakeProvider, installation: Installation, ingest_key: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[UsersLiteLLM]:
    directory = tmp_path_factory.mktemp("litellm") / "proxy"
    running = UsersLiteLLM(directory, provider, installation.proxy_url, ingest_key).start()
    yield running
    running.stop()


def rows_of(installation: Installation) -> list[dict[str, Any]]:
    ledger = Ledger(f"sqlite:///{installation.data_dir}/token_tracker.db")
    return [row for row in ledger.rows() if row["lane"] == "ingest"]


def counts_of(counted: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(counted.get(name, 0) for name in COUNTS)


def check(installation: Installation, provider: FakeProvider) -> list[dict[str, Any]]:
    """Everything that the provider billed is a row with its counts, once; each of its errors is one, too."""
    entries = provider.books(slim=True)
    billed = {entry["id"]: entry["billed"] for entry in entries if entry["status"] == 200}
    failed = sum(entry["status"] >= 500 for entry in entries)
    wait_until(lambda: len(rows_of(installation)) >= len(billed) + failed, 40, f"{len(billed)}+{failed} rows")
    rows = rows_of(installation)
    complete = [row for row in rows if row["end_reason"] == "complete"]
    assert sorted(map(counts_of, complete)) == sorted(map(counts_of, billed.values()))
    booked = {row["upstream_id"]: row for row in complete}
    assert len(booked) == len(complete) == len(billed)
    known = booked.keys() & billed.keys()  # LiteLLM gives translated chats of Anthropic's models ids of its own
    assert all(counts_of(booked[name]) == counts_of(billed[name]) for name in known)
    own_ids = [row for row in complete if row["upstream_id"] not in known]
    assert {(row["provider"], row["endpoint"]) for row in own_ids} == {("anthropic", "/v1/chat/completions")}
    assert len(rows) - len(complete) == failed
    assert all((row["cost_nano_usd"], row["usage_source"]) == (0, "none") for row in rows if row not in complete)
    return rows


def test_every_call_is_a_row_as_the_provider_counted_it(
    installation: Installation, provider: FakeProvider, litellm: UsersLiteLLM
) -> None:
    assert litellm.chat("plain", user="a-user") == 200
    assert litellm.chat("plain", stream=True) == 200
    assert litellm.chat("cached", stream=True) == 200
    assert litellm.chat("reasoning") == 200
    assert litellm.chat("claude", path="/v1/messages", max_tokens=50) == 200
    assert litellm.chat("claude", path="/v1/messages", max_tokens=50, stream=True) == 200
    assert litellm.chat("claude", max_tokens=50) == 200
    assert litellm.chat("bad") == 200  # by its fallback
    assert litellm.chat("bad", stream=True) == 200
    assert litellm.chat("broken") >= 500
    assert litellm.chat("nobody-knows-me") >= 400  # reaches no provider
    rows = check(installation, provider)
    assert {row["provider"] for row in rows} == {"openai", "anthropic"}
    assert "a-user" in {row["end_user"] for row in rows}
    assert {row["endpoint"] for row in rows} == {"/v1/chat/completions", "/v1/messages"}


def test_nothing_is_lost_or_doubled_when_the_gateway_is_away_and_both_are_killed(
    installation: Installation, provider: FakeProvider, litellm: UsersLiteLLM
) -> None:
    [gateway] = installation.child_pids("gateway")
    for number in range(6):
        assert litellm.chat("plain", stream=number % 2 == 1) == 200
        if number == 2:
            os.kill(gateway, signal.SIGKILL)
    installation.stop()
    before = len(rows_of(installation))
    known = len(provider.books(slim=True))
    for number in range(6):
        assert litellm.chat("cached", stream=number % 2 == 1) == 200  # LiteLLM never notices
    served = {entry["id"] for entry in provider.books(slim=True)[known:]}
    wait_until(lambda: served <= litellm.spooled(), 10, "the calls in the spool")  # LiteLLM reports after it answers
    litellm.stop(signal.SIGKILL)
    assert len(rows_of(installation)) == before
    installation.start()
    litellm.start()
    check(installation, provider)
    wait_until(lambda: not litellm.spooled(), 20, "an empty spool")
    assert len(check(installation, provider)) == len(rows_of(installation))
    assert all(said not in litellm.log() for said in ("could not be reported", "rejected the event", "they are lost"))


def test_the_lane_can_be_filtered_by(installation: Installation) -> None:
    url = f"{installation.api_url}/api/token-usage"
    status, _, text = installation.call("GET", f"{url}?lane=ingest&limit=1000", None, installation.login())
    assert status == 200
    assert {row["lane"] for row in json.loads(text)["items"]} == {"ingest"}


def test_the_callbacks_file_is_all_that_a_user_copies(litellm: UsersLiteLLM) -> None:
    """It runs without our package: LiteLLM's directory holds that one file and its configuration."""
    kept = {path.name for path in Path(litellm.directory).iterdir()}
    assert {name for name in kept if name.endswith((".py", ".yaml"))} == {"config.yaml", "token_tracker_callback.py"}
    assert "token_tracker.proxy" not in (litellm.directory / "token_tracker_callback.py").read_text()
