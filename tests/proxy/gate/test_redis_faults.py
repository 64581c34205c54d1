"""A Redis that is slow, that another takes over from, or that begins to evict while gateways count in it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from tests.proxy.gate import stand as stands
from tests.proxy.gate.stand import FACTS, NOON_US, Stand, budget, run
from tests.proxy.gate.test_redis import Server, until
from tests.proxy.gate.test_redis import server as server_fixture
from token_tracker.domain.holds import Ask
from token_tracker.proxy.gate import redis_feed
from token_tracker.proxy.gate.link import RedisAddress, connect
from token_tracker.proxy.gate.redis import RedisStore
from token_tracker.proxy.gate.store import CounterState, Reason

server = server_fixture
READY = frozenset({"b"})


class Between:
    """The one address that gateways know: hands bytes on to a server, which may change, answers late by `late_s`."""

    def __init__(self, port: int) -> None:
        self.target, self.late_s = port, 0.0
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Between:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        stands.REDIS_URL = f"redis://127.0.0.1:{port}/3"  # the fixture `server` puts it back
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    def cut(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, server = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        self._writers += [writer, server]
        with contextlib.suppress(OSError):
            await asyncio.gather(self._pump(reader, server, False), self._pump(answers, writer, True))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_answer: bool) -> None:
        while data := await reader.read(65536):
            await asyncio.sleep(self.late_s if is_answer else 0)
            writer.write(data)
        writer.close()


async def command(port: int, *words: bytes) -> str:
    link, _ = await connect(RedisAddress.parse(f"redis://127.0.0.1:{port}/3"), 1.0)
    answer = await link.within(5.0, *words)
    link.close()
    return answer.decode() if isinstance(answer, bytes) else str(answer)


async def eventually(port: int, *words: bytes, says: str) -> None:
    give_up_s = time.monotonic() + 10
    while says not in await command(port, *words):
        assert time.monotonic() < give_up_s, f"{words!r} never said {says}"
        await asyncio.sleep(0.02)


def test_a_slow_redis_is_given_up_and_takes_nothing(server: Server) -> None:
    async def scenario() -> None:
        async with Between(server.port) as between, Stand("redis", wait_s=0.05) as stand:
            await stand.rules(budget(1000))
            between.late_s = 0.3
            began_s = time.monotonic()
            verdicts = await asyncio.gather(*(stand.ask(10) for _ in range(20)))
            assert time.monotonic() - began_s < 0.2, "50 ms for all at once, and what a busy machine adds"
            assert {each.refused[0].reason for each in verdicts} == {Reason.STORE_UNAVAILABLE}
            between.late_s = 0.0
            await stand.settled()
            assert await stand.state() == CounterState()

    run(scenario())


def test_a_script_that_was_forgotten_is_sent_again_within_the_same_bound(server: Server) -> None:
    async def scenario() -> None:
        async with Between(server.port) as between, Stand("redis", wait_s=0.05) as stand:
            await stand.rules(budget(1000))
            await command(server.port, b"SCRIPT", b"FLUSH")
            between.late_s = 0.04  # in time, but not twice
            assert (await stand.ask(10)).refused[0].reason is Reason.STORE_UNAVAILABLE

    run(scenario())


@pytest.mark.parametrize("end", ["killed", "demoted"])
def test_after_a_failover_hard_budgets_wait_until_the_new_server_knows_everything(
    server: Server, tmp_path: Path, end: str
) -> None:
    replica = Server(tmp_path / "replica")
    replica.directory.mkdir()
    replica.start("--replicaof", "127.0.0.1", str(server.port))

    async def scenario() -> None:
        async with Between(server.port) as between, Stand("redis") as stand:
            await stand.rules(budget(1000))
            await stand.ask(300)
            await eventually(replica.port, b"INFO", b"replication", says="master_link_status:up")
            await command(server.port, b"WAIT", b"1", b"5000")
            assert await command(replica.port, b"EXISTS", b"{%b}:g" % stand.namespace.encode()) == "1"
            await command(replica.port, b"REPLICAOF", b"NO", b"ONE")
            between.target = replica.port
            if end == "killed":
                server.stop()
            else:
                await command(server.port, b"REPLICAOF", b"127.0.0.1", b"%d" % replica.port)
            await until(stand.gate, Reason.STORE_RECOVERING)
            await stand.books(ready=READY, is_complete=True)
            assert await stand.state() == CounterState(0, 300, 0), "once, though the replica had its keys"
            assert (await stand.ask(700)).is_admitted
            assert not (await stand.ask(1)).is_admitted

    try:
        run(scenario())
    finally:
        replica.stop()


def test_a_server_that_begins_to_evict_is_used_no_more_until_it_is_set_right(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_feed, "POLICY_S", 0.05)

    async def scenario() -> None:
        async with Stand("redis") as stand:
            await stand.rules(budget(1000))
            assert (await stand.ask(300)).is_admitted
            store = stand.store
            assert isinstance(store, RedisStore)
            await command(server.port, b"CONFIG", b"SET", b"maxmemory-policy", b"allkeys-lru")
            await until(stand.gate, Reason.STORE_UNAVAILABLE)
            assert "allkeys-lru" in store.problem and "noeviction" in store.problem
            await command(server.port, b"CONFIG", b"SET", b"maxmemory-policy", b"noeviction")
            await until(stand.gate, None)
            await stand.settled()
            assert store.problem == ""
            refused = await stand.gate.admit(Ask("more", NOON_US, FACTS, 700), stand.gate.demands(FACTS))
            assert refused.refused[0].reason is Reason.BUDGET_HELD, "what was held before is held"

    run(scenario())
