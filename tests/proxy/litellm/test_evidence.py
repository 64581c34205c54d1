"""The evidence socket: what a call gets, and what happens to evidence that nobody waits for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from token_tracker.domain.usage import Usage
from token_tracker.proxy.litellm import evidence as module
from token_tracker.proxy.litellm.evidence import Evidence, EvidenceServer
from token_tracker.proxy.litellm.report import socket_path, to_line, worker_of

WORKER = "0123abcd"
CALL = "f" * 24 + WORKER


@pytest.fixture
def directory() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="tt-e-"))
    yield made
    shutil.rmtree(made)


def serving(directory: Path, body: Callable[[EvidenceServer, Path], Awaitable[None]]) -> None:
    async def run() -> None:
        path = socket_path(directory, WORKER)
        server = EvidenceServer(path)
        await server.start()
        try:
            await body(server, path)
        finally:
            await server.close()
        assert not path.exists()

    asyncio.run(run())


async def send(path: Path, *lines: bytes) -> None:
    _, writer = await asyncio.open_unix_connection(path)
    writer.write(b"".join(lines))
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def test_a_call_that_waits_gets_its_evidence(directory: Path) -> None:
    async def body(server: EvidenceServer, path: Path) -> None:
        waiting = asyncio.create_task(server.wait(CALL, 5))
        await asyncio.sleep(0)
        evidence = Evidence(call_id=CALL, usage=Usage(input_tokens=3))
        await send(path, to_line(evidence))
        assert await waiting == evidence

    serving(directory, body)


def test_evidence_that_came_before_the_call_asks_is_kept_for_it(directory: Path) -> None:
    async def body(server: EvidenceServer, path: Path) -> None:
        await send(path, to_line(Evidence(call_id=CALL)))
        await until(lambda: server.received == 1)
        assert await server.wait(CALL, 0) == Evidence(call_id=CALL)
        assert await server.wait(CALL, 0) is None

    serving(directory, body)


def test_a_call_whose_evidence_does_not_come_waits_no_longer_than_it_said(directory: Path) -> None:
    async def body(server: EvidenceServer, path: Path) -> None:
        async with asyncio.timeout(2):
            assert await server.wait(CALL, 0.01) is None

    serving(directory, body)


def test_evidence_of_unknown_calls_is_counted_and_not_kept_for_ever(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EARLY_MAX", 3)

    async def body(server: EvidenceServer, path: Path) -> None:
        await send(path, *(to_line(Evidence(call_id=f"{number}")) for number in range(10)))
        await until(lambda: server.received == 10)
        assert server.unclaimed == 7
        assert await server.wait("0", 0) is None
        assert await server.wait("9", 0) is not None

    serving(directory, body)


def test_a_broken_line_costs_only_itself(directory: Path) -> None:
    async def body(server: EvidenceServer, path: Path) -> None:
        await send(
            path, b"not json\n", b'{"usage": {"input_tokens": -1}, "call_id": "x"}\n', to_line(Evidence(call_id=CALL))
        )
        assert await server.wait(CALL, 5) is not None
        assert server.malformed == 2

    serving(directory, body)


def test_a_line_without_end_closes_its_connection_only(directory: Path) -> None:
    async def body(server: EvidenceServer, path: Path) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"x" * (4 * module.LINE_MAX_BYTES))
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        await send(path, to_line(Evidence(call_id=CALL)))
        assert await server.wait(CALL, 5) is not None

    serving(directory, body)


def test_a_socket_left_by_a_killed_worker_is_replaced(directory: Path) -> None:
    socket_path(directory, WORKER).touch()

    async def body(server: EvidenceServer, path: Path) -> None:
        await send(path, to_line(Evidence(call_id=CALL)))
        assert await server.wait(CALL, 5) is not None
        assert path.stat().st_mode & 0o777 == 0o600

    serving(directory, body)


@pytest.mark.parametrize("call_id", ["", "short", CALL.upper(), CALL + "0", "../../../../../../../etc/passwd."])
def test_only_our_own_call_ids_name_a_worker(call_id: str) -> None:
    assert worker_of(call_id) == ""
    assert worker_of(CALL) == WORKER


def test_sockets_left_by_killed_workers_are_removed_and_nothing_else_is(directory: Path) -> None:
    names = ("0000dead.sock", "0000live.sock", "feedbeef.sock", "other.sock", "0000cafe.sock", "00000001.sock")
    dead, foreign, living, other, young, file = (directory / name for name in names)
    listening = socket.socket(socket.AF_UNIX)
    for path in (dead, foreign, living, other, young):
        holder = listening if path == living else socket.socket(socket.AF_UNIX)
        holder.bind(str(path))
        if holder is listening:
            holder.listen()
        else:
            holder.close()
    file.touch()
    for path in (dead, foreign, living, other, file):
        os.utime(path, (1, 1))

    async def body(server: EvidenceServer, path: Path) -> None:
        assert set(directory.iterdir()) == {foreign, living, other, young, file, path}

    serving(directory, body)
    listening.close()
