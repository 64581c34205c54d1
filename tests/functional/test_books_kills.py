"""Law 1 where processes die: the gateway and the recorder are killed with -9 in the middle of traffic."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.functional.books import Ledger, check_books, incarnations, wait_until_booked
from tests.functional.house import RATES, marker, model
from tests.functional.installation import Installation, wait_until
from tests.functional.provider_books import FakeProvider
from tests.functional.traffic import Moment, Traffic


@pytest.fixture
def installation(tmp_path: Path, database_url: str, fake_provider: FakeProvider) -> Installation:
    """A gateway with its recorder, not started yet."""
    config = {"model_list": [model("fake-*", "openai/fake-*", fake_provider.openai_base, **RATES)]}
    return Installation(tmp_path, config, database_url)


def kill(*pids: int) -> Moment:
    """Kill processes with -9; the moment of it."""
    before_s = time.monotonic()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return before_s, time.monotonic()


def kill_child(installation: Installation, what: str) -> Moment:
    """Kill a child and wait for the next one."""
    [pid] = wait_until(lambda: installation.child_pids(what), 10, f"a {what}")
    moment = kill(pid)
    wait_until(lambda: set(installation.child_pids(what)) - {pid}, 10, f"the next {what}")
    return moment


def test_a_gateway_killed_in_the_middle_of_traffic_loses_no_call_and_doubles_none(
    installation: Installation, database_url: str, fake_provider: FakeProvider
) -> None:
    ledger, kills = Ledger(database_url), list[Moment]()
    with installation.start("proxy"), Traffic(installation, marker("gateway")) as traffic:
        for _ in range(3):
            traffic.wait_for_more(60)
            kills.append(kill_child(installation, "gateway"))
        traffic.wait_for_more(60)
        traffic.__exit__(None, None, None)
        assert len(traffic.in_flight(kills[0])) > 1, "the kill met nothing: this proves nothing"
        wait_until_booked(installation, ledger, fake_provider, traffic)
        reasons = check_books(ledger, fake_provider, traffic, kills=kills)
        assert reasons.keys() <= {"complete", "crash"}
        assert reasons["complete"] >= 240
        ledger.check_rollups()
        assert "gateway was ended by SIGKILL" in installation.printed
    check_books(ledger, fake_provider, traffic, kills=kills)


def test_a_recorder_killed_again_and_again_loses_no_row_and_doubles_none(
    installation: Installation, database_url: str, fake_provider: FakeProvider
) -> None:
    ledger = Ledger(database_url)
    with installation.start("proxy"), Traffic(installation, marker("recorder")) as traffic:
        for _ in range(5):
            traffic.wait_for_more(25)
            kill_child(installation, "recorder")
        traffic.wait_for_more(25)
        traffic.__exit__(None, None, None)
        assert [call for call in traffic.seen if not call.is_complete] == [], "callers never notice"
        wait_until_booked(installation, ledger, fake_provider, traffic)
        assert check_books(ledger, fake_provider, traffic) == {"complete": len(traffic.seen)}
        ledger.check_rollups()


def test_both_killed_at_once_and_everything_killed_is_booked_at_the_next_start(
    installation: Installation, database_url: str, fake_provider: FakeProvider
) -> None:
    ledger = Ledger(database_url)
    with Traffic(installation.start("proxy"), marker("all")) as traffic:
        traffic.wait_for_more(60)
        pids = [installation.pid, *installation.child_pids("gateway"), *installation.child_pids("recorder")]
        kills = [kill(*pids)]
    installation.stop()
    with installation.start("proxy"):
        wait_until_booked(installation, ledger, fake_provider, traffic)
        reasons = check_books(ledger, fake_provider, traffic, kills=kills)
        assert reasons.keys() <= {"complete", "crash"}
        ledger.check_rollups()
        assert len(incarnations(installation)) == 1, "what is booked is deleted"


def test_ctrl_c_in_the_middle_of_traffic_ends_everything_in_time_and_loses_nothing(
    installation: Installation, database_url: str, fake_provider: FakeProvider
) -> None:
    ledger = Ledger(database_url)
    with Traffic(installation.start("proxy"), marker("stop")) as traffic:
        traffic.wait_for_more(60)
        started_s = time.monotonic()
        assert installation.stop(signal.SIGINT) == 0
        assert time.monotonic() - started_s < 5
    wait_until(lambda: not any(entry["is_open"] for entry in fake_provider.books(slim=True)), 10, "the provider's end")
    reasons = check_books(ledger, fake_provider, traffic)  # the recorder had booked it all before it ended
    assert reasons["crash"] == 0 and reasons["complete"] >= 60
    ledger.check_rollups()
