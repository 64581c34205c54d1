"""Redis away, slow, restarted empty, evicting: what the gate does then, against servers of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_ports
from tests.proxy.gate import stand as stands
from tests.proxy.gate.stand import FACTS, NOON_US, Stand, budget, rate, run
from token_tracker.domain.holds import Ask
from token_tracker.domain.windows import NEVER_S, bucket_of
from token_tracker.proxy.gate.gate import Gate
from token_tracker.proxy.gate.link import Answers, Link, RedisAddress, RedisError, StoreUnavailable, connect
from token_tracker.proxy.gate.places import Rules
from token_tracker.proxy.gate.redis import RedisStore
from token_tracker.proxy.gate.redis_feed import WrongEvictionPolicy
from token_tracker.proxy.gate.store import Base, CounterState, Reason, Verdict

DAY = bucket_of("daily", "UTC", NOON_US)


class Server:
    """A Redis that a test may stop, freeze and start again, empty."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port, self.bus_port = free_ports(2)
        self.process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self.port}/3"

    def start(self, *options: str) -> None:
        words = ["redis-server", "--port", str(self.port), "--save", "", "--dir", str(self.directory), *options]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        give_up_s = time.monotonic() + 10
        while time.monotonic() < give_up_s:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
        raise AssertionError("the Redis of this test did not start")

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    if shutil.which("redis-server") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("redis-server is not installed")
        pytest.skip("redis-server is not installed")
    own = Server(tmp_path)
    own.start()
    monkeypatch.setattr(stands, "REDIS_URL", own.url)
    yield own
    own.stop()


async def until(gate: Gate, is_so: object, within_s: float = 10) -> Verdict:
    """Ask until the answer is the expected one: a reason, or None for an admission."""
    give_up_s = time.monotonic() + within_s
    while True:
        ask = Ask(f"try-{time.monotonic_ns()}", NOON_US, stands.FACTS, 1)
        verdict = await gate.admit(ask, gate.demands(stands.FACTS))
        if (verdict.refused[0].reason if verdict.refused else None) is is_so:
            return verdict
        assert time.monotonic() < give_up_s, f"{verdict} instead of {is_so}"
        await asyncio.sleep(0.01)


def test_a_server_that_lost_everything_is_told_again_before_hard_budgets_admit(server: Server) -> None:
    async def scenario() -> None:
        async with Stand("redis") as stand:
            await stand.rules(budget(1000), rate(100))
            await stand.ask(300)
            await stand.ask(200)
            await stand.end("c2", 150, unproven=50)
            server.stop()
            server.start()
            await until(stand.gate, Reason.STORE_RECOVERING)
            base = {("b|usd|", DAY): Base(100, 0, 1, DAY + 86_400)}
            await stand.books(base, ready=frozenset({"b"}), is_complete=True)
            assert await stand.state() == CounterState(250, 300, 50)
            assert not (await stand.ask(401)).is_admitted
            assert (await stand.ask(400)).is_admitted

    run(scenario())


def test_hard_budgets_wait_for_every_gateway_to_tell_again_what_it_holds(server: Server) -> None:
    async def scenario() -> None:
        async with Stand("redis", recovery_s=2) as stand:
            await stand.rules(budget(1000, enforcement="soft"), rate(1000))
            soft = await stand.ask(1)
            assert soft.is_admitted, "soft budgets and rates do not wait"
            stand.gate.set_rules(Rules([budget(1000)]))
            began_s = time.monotonic()
            await until(stand.gate, Reason.STORE_RECOVERING, 1)
            await until(stand.gate, None)
            assert time.monotonic() - began_s > 0.5

    run(scenario())


def test_rates_and_soft_budgets_refuse_also_while_hard_ones_wait_for_all_to_be_told(server: Server) -> None:
    async def scenario() -> None:
        async with Stand("redis", recovery_s=2) as stand:
            soft = budget(50, id="soft", enforcement="soft")
            await stand.rules(soft, rate(1))
            await stand.ask(1)
            await stand.end("c1", 60)
            stand.gate.set_rules(Rules([budget(1000), soft], [rate(1)]))
            verdict = await stand.ask(1)
            assert {each.rule.id: each.reason for each in verdict.refused} == {
                "b": Reason.STORE_RECOVERING,
                "soft": Reason.BUDGET_EXCEEDED,
                "r-requests": Reason.RATE_LIMIT_EXCEEDED,
            }
            assert await stand.state() == CounterState(spent=60), "nothing is held"

    run(scenario())


def test_another_server_behind_the_same_address_counts_as_a_loss_even_with_the_keys_still_there(server: Server) -> None:
    async def scenario() -> None:
        async with Stand("redis") as stand:
            await stand.rules(budget(1000))
            await stand.ask(300)
            link, _ = await connect(RedisAddress.parse(server.url), 1.0)
            key = b"{%b}:g" % stand.namespace.encode()
            await link.within(1.0, b"HSET", key, b"run", b"of another server")
            await link.within(1.0, b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", b"yes")
            link.close()
            await until(stand.gate, Reason.STORE_RECOVERING)
            await stand.books(ready=frozenset({"b"}), is_complete=True)
            assert (await stand.state()).held == 300
            link, _ = await connect(RedisAddress.parse(server.url), 1.0)
            count = await link.within(1.0, b"EVAL", b"return #redis.call('KEYS', '*:c:*')", b"0")
            link.close()
            assert count == 1, "what counts no more is gone"

    run(scenario())


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_without_an_answer_each_wait_is_bounded_and_rules_decide_by_their_on_store_error(
    server: Server, number: int
) -> None:
    async def scenario() -> None:
        async with Stand("redis", wait_s=0.05) as stand:
            await stand.rules(budget(1000))
            server.signal(number)
            for _ in range(5):
                began_s = time.monotonic()
                verdict = await stand.ask(10)
                assert time.monotonic() - began_s < 0.5  # 50 ms, and what a busy machine adds
                assert verdict.refused[0].reason is Reason.STORE_UNAVAILABLE
                assert verdict.refused[0].retry_after_s > 0
            stand.gate.set_rules(Rules([budget(1000, on_store_error="allow")], [rate(5)]))
            verdict = await stand.ask(10)
            assert (verdict.is_admitted, verdict.is_counted, verdict.held_nano_usd) == (True, False, 10)
            stand.gate.set_rules(Rules([budget(1000, on_store_error="allow")], [rate(5, on_store_error="deny")]))
            assert [each.rule.id for each in (await stand.ask(10)).refused] == ["r-requests"]
            if number == signal.SIGKILL:
                server.stop()
                server.start()
            else:
                server.signal(signal.SIGCONT)
            stand.gate.set_rules(Rules([budget(1000)]))
            if number == signal.SIGKILL:
                await until(stand.gate, Reason.STORE_RECOVERING)
                await stand.books(ready=frozenset({"b"}), is_complete=True)
            await until(stand.gate, None)
            state = await stand.state()
            assert state.held == 11, "the call that was let go counts, the refused ones do not"

    run(scenario())


def test_an_admission_that_comes_after_it_was_given_up_takes_nothing(server: Server) -> None:
    async def scenario() -> None:
        async with Stand("redis") as stand:
            await stand.rules(budget(1000))
            store = stand.stores[0]
            assert isinstance(store, RedisStore)
            store._give_back("c1")
            await stand.settled()
            assert not (await stand.ask(10)).is_admitted
            assert await stand.state() == CounterState()

    run(scenario())


class Unlucky(RedisStore):
    """The server loses its state between its answer and the call that waits for it."""

    async def _run(self, link: Link, shape: bytes) -> bytes:
        answer = await super()._run(link, shape)
        self._feed.begin("another generation")
        return answer


def test_an_admission_that_was_counted_in_a_lost_state_is_none(server: Server) -> None:
    async def scenario() -> None:
        async with Stand("redis", make=Unlucky) as stand:
            await stand.rules(budget(1000))
            assert (await stand.ask(10)).refused[0].reason is Reason.STORE_RECOVERING
            assert stand.gate.unbooked == 0

    run(scenario())


def test_a_server_that_may_evict_counters_stops_the_start_with_a_reason(server: Server) -> None:
    async def scenario() -> None:
        server.stop()
        server.start("--maxmemory-policy", "allkeys-lru")
        store = RedisStore(server.url, "1")
        with pytest.raises(WrongEvictionPolicy, match=r"allkeys-lru.*noeviction"):
            await store.start()
        await store.close()

    run(scenario())


def test_a_gateway_starts_without_redis_and_counts_once_it_is_there(server: Server) -> None:
    async def scenario() -> None:
        server.stop()
        async with Stand("redis") as stand:
            stand.gate.set_rules(Rules([budget(1000)]))
            assert (await stand.ask(1)).refused[0].reason is Reason.STORE_UNAVAILABLE
            server.start()
            await until(stand.gate, Reason.STORE_RECOVERING)
            await stand.rules(budget(1000))
            assert (await stand.ask(1000)).is_admitted

    run(scenario())


def test_a_gateway_that_starts_beside_others_admits_its_first_call(redis_url: str) -> None:
    async def scenario() -> None:
        async with Stand("redis") as stand:
            await stand.rules(budget(1000))
            fresh = await stand.add_gate()
            fresh.set_rules(stand.gates[0].rules)
            ask = Ask("a-first-call", NOON_US, FACTS, usd_fixed_nano=10)
            assert (await fresh.admit(ask, fresh.demands(FACTS))).is_admitted

    run(scenario())


def test_scripts_that_the_server_forgot_are_sent_again(server: Server) -> None:
    async def scenario() -> None:
        async with Stand("redis") as stand:
            await stand.rules(budget(1000))
            link, _ = await connect(RedisAddress.parse(server.url), 1.0)
            await link.within(1.0, b"SCRIPT", b"FLUSH")
            assert (await stand.ask(10)).is_admitted
            link.close()

    run(scenario())


def test_all_keys_share_one_hash_tag(server: Server) -> None:
    async def scenario() -> None:
        async with Stand("redis") as stand:
            each = budget(1000, id="each", scope_type="key", scope_id="*", period="rolling_24h")
            await stand.rules(budget(1000), each, rate(5), rate(5, "concurrent", ""), rate(500, "tokens", "day"))
            await stand.ask(10)
            await stand.end("c1", 5)
            link, _ = await connect(RedisAddress.parse(server.url), 1.0)
            script = b"return table.concat(redis.call('KEYS', '*'), ' ')"
            keys = await link.within(1.0, b"EVAL", script, b"0")
            link.close()
            assert isinstance(keys, bytes)
            names = keys.decode().split(" ")
            assert len(names) > 8
            assert all(name.startswith("{" + stand.namespace + "}:") for name in names)

    run(scenario())


def test_password_and_database_number_are_used(server: Server) -> None:
    async def scenario() -> None:
        server.stop()
        server.start("--requirepass", "s3cret")
        with pytest.raises(StoreUnavailable) as error:
            await connect(RedisAddress.parse(server.url), 1.0)
        assert "NOAUTH" in str(error.value)
        link, facts = await connect(RedisAddress.parse(f"redis://:s3cret@127.0.0.1:{server.port}/4"), 1.0)
        assert facts["maxmemory_policy"] == "noeviction"
        info = await link.within(1.0, b"CLIENT", b"INFO")
        assert isinstance(info, bytes)
        assert b" db=4 " in info
        link.close()

    run(scenario())


@pytest.mark.parametrize("url", ["http://h", "redis://h:port", "redis://h/x"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="REDIS_URL"):
        RedisAddress.parse(url)


def test_answers_are_read_wherever_they_are_cut() -> None:
    stream = b"$5\r\nab\r\nc\r\n+OK\r\n-ERR no\r\n:42\r\n$-1\r\n$0\r\n\r\n"
    for size in range(1, len(stream) + 1):
        answers = Answers()
        found = [each for at in range(0, len(stream), size) for each in answers.feed(stream[at : at + size])]
        assert [str(each) if isinstance(each, RedisError) else each for each in found] == [
            b"ab\r\nc",
            b"OK",
            "ERR no",
            42,
            None,
            b"",
        ]


def test_nothing_of_a_test_stays_on_the_shared_server(redis_url: str) -> None:
    async def scenario() -> None:
        async with Stand("redis") as stand:
            await stand.rules(budget(1000))
            await stand.ask(10)
        store = RedisStore(redis_url, "9", namespace=stand.namespace)
        await store.start()
        assert await store.counter("b|usd|", 0, NEVER_S) == CounterState()
        await store.close()
        await stands.sweep(stand.namespace)

    run(scenario())


def test_in_a_cluster_the_gate_finds_the_node_that_has_its_keys(server: Server, tmp_path: Path) -> None:
    other = Server(tmp_path / "other")
    other.directory.mkdir()

    async def scenario() -> None:
        server.stop()
        for each in (server, other):
            each.start("--cluster-enabled", "yes", "--cluster-port", str(each.bus_port))
        url = f"redis://127.0.0.1:{server.port}"
        owner, _ = await connect(RedisAddress.parse(f"redis://127.0.0.1:{other.port}"), 1.0)
        await owner.within(1.0, b"CLUSTER", b"ADDSLOTSRANGE", b"0", b"16383")
        link, _ = await connect(RedisAddress.parse(url), 1.0)
        await link.within(1.0, b"CLUSTER", b"MEET", b"127.0.0.1", b"%d" % other.port, b"%d" % other.bus_port)
        give_up_s = time.monotonic() + 20
        for each_link in (owner, link):  # each finds out by itself
            while b"cluster_state:ok" not in (await each_link.within(1.0, b"CLUSTER", b"INFO") or b""):  # type: ignore[operator]
                assert time.monotonic() < give_up_s
                await asyncio.sleep(0.05)
        stands.REDIS_URL = url
        stand = Stand("redis")
        await stand.add_gate()
        await stand.rules(budget(1000), rate(5))
        assert (await stand.ask(1000)).is_admitted
        assert not (await stand.ask(1)).is_admitted
        await stand.stores[0].close()
        await stand.redis_books.close()
        for each_link in (owner, link):
            each_link.close()

    try:
        run(scenario())
    finally:
        other.stop()
