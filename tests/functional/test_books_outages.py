"""No call needs the database: it is locked or stopped for 10 s under traffic, or away when the gateway starts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.functional.books import Ledger, check_books, wait_until_booked
from tests.functional.house import RATES, marker, model
from tests.functional.installation import Installation, wait_until
from tests.functional.outages import Outage, Relay, outage_of
from tests.functional.provider_books import FakeProvider
from tests.functional.traffic import Traffic

AWAY_S = 10.0


@pytest.fixture
def outage(database_url: str) -> Iterator[Outage]:
    made = outage_of(database_url)
    yield made
    made.close()


@pytest.fixture
def installation(tmp_path: Path, outage: Outage, fake_provider: FakeProvider) -> Installation:
    """A gateway with its recorder, not started yet."""
    config = {"model_list": [model("fake-*", "openai/fake-*", fake_provider.openai_base, **RATES)]}
    return Installation(tmp_path, config, outage.url)


def reasons(installation: Installation) -> list[str]:
    """What /health/ready says of the recorder; the gateway is ready all the while."""
    status, _, body = installation.call("GET", f"{installation.proxy_url}/health/ready")
    assert status == 200, body
    return [each["message"] for each in json.loads(body)["reasons"] if each["code"] == "recorder"]


def test_a_database_away_for_ten_seconds_fails_no_call_and_gets_all_rows_afterwards(
    installation: Installation, database_url: str, outage: Outage, fake_provider: FakeProvider
) -> None:
    ledger = Ledger(database_url)
    with installation.start("proxy"), Traffic(installation, marker("away"), clients=4, pause_s=0.05) as traffic:
        traffic.wait_for_more(20)
        assert wait_until(lambda: not reasons(installation), 5, "a recorder without problems")
        with outage.away():
            began_s = time.monotonic()
            [said] = wait_until(lambda: reasons(installation), AWAY_S, "a word of the database")
            assert "the database does not answer" in said and "kept in the journal" in said
            wait_until(lambda: time.monotonic() > began_s + AWAY_S, AWAY_S + 1, "the end of the outage")
            unbooked = {call.marker for call in traffic.complete()} - {row["end_user"] for row in ledger.rows()}
            assert len(unbooked) > 20, "the outage met nothing: this proves nothing"
        wait_until(lambda: not reasons(installation), 10, "a recorder without problems")
        traffic.wait_for_more(20)
        traffic.__exit__(None, None, None)
        assert [call for call in traffic.seen if not call.is_complete] == []
        wait_until_booked(installation, ledger, fake_provider, traffic)
        assert check_books(ledger, fake_provider, traffic) == {"complete": len(traffic.seen)}
        ledger.check_rollups()


def test_a_gateway_that_starts_while_the_database_is_away_serves_from_its_snapshot(
    installation: Installation, database_url: str, outage: Outage, fake_provider: FakeProvider
) -> None:
    ledger = Ledger(database_url)
    with installation.start("proxy"):
        wait_until(lambda: installation.chat("fake-plain")[0] == 200, 5, "the first key's first call")
    name = marker("snapshot")
    with ExitStack() as running:
        with outage.away():
            running.enter_context(installation.start("proxy"))
            for number in range(3):
                status, headers, body = installation.chat("fake-plain", "one two three", user=f"{name}-{number}")
                assert status == 200, body
                assert headers["x-tt-cost-usd"] == "0.000144000"
            status, _, _ = installation.call("GET", f"{installation.proxy_url}/v1/models")
            assert status == 401, "doors are not open because the database is away"
            if isinstance(outage, Relay):  # a lock may end at any moment, so the start waits for it without a word
                wait_until(lambda: "serves from its snapshot" in installation.printed, 15, "a word about it")
            assert ledger.rows(name) == []
        wait_until(lambda: len(ledger.rows(name)) == 3, 25, "the rows")
        assert [row["cost_nano_usd"] for row in ledger.rows(name)] == [144_000] * 3
        ledger.check_rollups()
