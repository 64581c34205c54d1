"""Two gateway nodes with data directories of their own on one PostgreSQL and one Redis; one is killed and replaced."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.functional.books import Ledger, check_books, entries_of, incarnations
from tests.functional.house import RATES, model
from tests.functional.installation import Installation, wait_until
from tests.functional.provider_books import FakeProvider
from tests.functional.storm import MODEL, Storm, billed_nano_usd, nano, settled
from tests.functional.storm import RATES as STORM_RATES
from tests.functional.traffic import Moment, Traffic

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.parametrize("backend", ["postgresql"], indirect=True),
]
WORKERS = 2
LIMIT_USD, LIMIT_NANO_USD = 0.08, 80_000_000


class Nodes:
    """Two `run proxy` and one `run api` on the same database and Redis; used where one installation is expected."""

    def __init__(self, directory: Path, config: dict[str, Any], database_url: str, redis_url: str) -> None:
        more = {"REDIS_URL": redis_url, "TOKEN_TRACKER_PROXY_WORKERS": str(WORKERS)}
        self.first, self.second, self.api = (
            self._at(directory / name, config, database_url, more) for name in ("first", "second", "api")
        )
        self._urls = itertools.cycle([self.first.proxy_url, self.second.proxy_url])

    @staticmethod
    def _at(directory: Path, config: dict[str, Any], database_url: str, more: dict[str, str]) -> Installation:
        directory.mkdir()
        return Installation(directory, config, database_url, **more)

    def start(self, stack: ExitStack) -> Nodes:
        self.first.initialise()
        self.second.key = self.api.key = self.first.key
        for installation, what in ((self.first, "proxy"), (self.second, "proxy"), (self.api, "api")):
            stack.enter_context(installation.start(what))
        return self

    @property
    def key(self) -> str:
        return self.first.key

    @property
    def proxy_url(self) -> str:
        """Of the one, then of the other, as a load balancer does."""
        return next(self._urls)

    def replace_first(self) -> Moment:
        """Kill all of the first node with -9 and start another in its place; the moment of the kill."""
        children = wait_until(self._children_of_first, 20, "all processes of the first node")
        pids = [self.first.pid, *children]
        before_s = time.monotonic()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        moment = before_s, time.monotonic()
        assert self.first.stop() == -signal.SIGKILL
        self.first.start("proxy")
        return moment

    def _children_of_first(self) -> list[int] | None:
        found = [pid for what in ("gateway", "recorder") for pid in self.first.child_pids(what)]
        return found if len(found) == WORKERS + 1 else None

    def are_booked(self) -> bool:
        """Whether no dead worker of either node left anything to book."""
        return all(len(incarnations(node)) <= WORKERS for node in (self.first, self.second))


def test_the_books_of_two_nodes_are_the_providers_though_one_is_killed_and_replaced(
    tmp_path: Path, database_url: str, redis_url: str, fake_provider: FakeProvider
) -> None:
    config = {"model_list": [model("fake-*", "openai/fake-*", fake_provider.openai_base, **RATES)]}
    ledger, kills = Ledger(database_url), list[Moment]()
    with ExitStack() as stack:
        nodes = Nodes(tmp_path, config, database_url, redis_url).start(stack)
        with (
            Traffic(nodes.first, f"first-{os.getpid()}") as at_first,
            Traffic(nodes.second, f"second-{os.getpid()}") as at_second,
        ):
            for _ in range(2):
                at_first.wait_for_more(80)
                kills.append(nodes.replace_first())
            at_first.wait_for_more(80)
        both = (at_first, at_second)
        wait_until(
            lambda: nodes.are_booked() and not missing(ledger, fake_provider, both), 30, "every call in the ledger"
        )
        assert [call for call in at_second.seen if not call.is_complete] == [], "callers of the other node never notice"
        assert len(at_first.in_flight(kills[0])) > 1, "the kill met nothing: this proves nothing"
        ends = [check_books(ledger, fake_provider, traffic, kills=kills) for traffic in both]
        assert ends[0].keys() <= {"complete", "crash"} and ends[1].keys() == {"complete"}
        ledger.check_rollups()
        served = [len(entries_of(fake_provider, traffic.name + "-")) for traffic in both]
        print(f"two nodes: served {served}, rows {[dict(end) for end in ends]}, lost 0, doubled 0")


def missing(ledger: Ledger, provider: FakeProvider, both: tuple[Traffic, ...]) -> set[str]:
    served = {entry["marker"] for traffic in both for entry in entries_of(provider, traffic.name + "-")}
    return served - {row["end_user"] for row in ledger.rows()}


def test_a_hard_budget_holds_over_two_nodes_though_one_is_killed_and_replaced(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    with FakeProvider() as provider, ExitStack() as stack:
        params = {
            "model": "openai/fake-slow-5ms",
            "api_base": provider.openai_base,
            "api_key": "sk-none",
            **STORM_RATES,
        }
        entry = {"model_name": MODEL, "lane": "direct", "litellm_params": params}
        config = {"model_list": [entry], "budget": {"total": LIMIT_USD}}
        nodes = Nodes(tmp_path, config, database_url, redis_url).start(stack)
        for node in (nodes.first, nodes.second):
            wait_until(lambda node=node: node.chat(MODEL, max_tokens=8)[0] == 200, 20, "the budget's counter")  # type: ignore[misc]
        storm = Storm(nodes, seed=21)  # type: ignore[arg-type]  # what it needs of an installation
        kills: list[Moment] = []
        storm.run({int(0.4 * LIMIT_NANO_USD): lambda: kills.append(nodes.replace_first())})
        status = settled(nodes.api)
        wait_until(nodes.are_booked, 30, "every call in the ledger")
        rows, billed = Ledger(database_url).rows(), billed_nano_usd(provider)
        spent, unproven = nano(status["spent_usd"]), nano(status["unproven_usd"])
        print(
            f"hard budget of {LIMIT_NANO_USD} over two nodes: billed by the provider {billed}, spent {spent}, unproven "
            f"{unproven} nano-USD; answers {dict(storm.codes)}, left {storm.left}, broken {storm.broken}"
        )
        assert billed <= LIMIT_NANO_USD, "the provider's own books"
        assert 0.95 * LIMIT_NANO_USD <= spent + unproven <= LIMIT_NANO_USD
        served = Counter(entry["id"] for entry in provider.books(slim=True) if entry["status"] == 200)
        booked = Counter(row["upstream_id"] for row in rows if row["upstream_id"])
        crashes = sum(row["end_reason"] == "crash" for row in rows)
        assert max(booked.values()) == 1 and booked.keys() <= served.keys()
        assert len(served.keys() - booked.keys()) <= crashes
        assert {row["end_reason"] for row in rows if row["unproven_nano_usd"]} == {"crash"}
