"""What all gateway workers of a node tell together: whoever is scraped asks the others, each over a socket of its own.

Nothing is written down meanwhile, so a call costs the same. Every sample names its worker: a sum would fall when one of
them dies, which Prometheus takes for a new start of all.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from token_tracker.proxy.watch.exposition import LINES_AT_ONCE

PATIENCE_S = 2.0  # a worker that does not answer is left out
_SOCKET = re.compile(r"w(\d{1,4})\.sock")
Tell = Callable[[], Awaitable[bytes]]


@contextlib.asynccontextmanager
async def told_together(directory: Path, own: Tell, workers: int = 1) -> AsyncIterator[Tell]:
    """What tells of all `workers` for as long as this lasts; of one alone, `own` itself. `directory` is theirs alone.

    A worker's number is the lowest that no living one has: labels are as many as there are workers. Raises OSError.
    """
    if workers == 1:
        yield own
        return

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    writer.write(await own())
                    await writer.drain()
        finally:
            writer.close()

    async def together() -> bytes:
        return await merged(await _asked(directory, number, own))

    number, lock = _take_number(directory)
    path = directory / f"w{number}.sock"
    try:
        path.unlink(missing_ok=True)  # of a worker that was killed
        server = await asyncio.start_unix_server(serve, path)
        try:
            yield together
        finally:
            server.close()
            path.unlink(missing_ok=True)
    finally:
        os.close(lock)


async def merged(texts: Mapping[int, bytes]) -> bytes:
    """Several workers' expositions as one: every metric once, each sample with its worker's number. Calls take their
    turns meanwhile."""
    metrics: dict[str, tuple[list[str], list[str]]] = {}  # by the line of its help: that and its type, its samples
    for number, text in texts.items():
        lines = iter(text.decode().splitlines())
        samples: list[str] = []
        while some := list(islice(lines, LINES_AT_ONCE)):
            for line in some:
                if line.startswith("# HELP"):
                    _, samples = metrics.setdefault(line, ([line], []))
                    help_line = line
                elif line.startswith("#"):
                    metrics[help_line][0][1:] = [line]
                else:
                    samples.append(_labelled(line, number))
            await asyncio.sleep(0)
    pieces = []
    told = itertools.chain.from_iterable(itertools.chain(head, samples) for head, samples in metrics.values())
    while some := [f"{line}\n" for line in islice(told, LINES_AT_ONCE)]:
        pieces.append("".join(some).encode())
        await asyncio.sleep(0)
    return b"".join(pieces)


async def _asked(directory: Path, number: int, own: Tell) -> dict[int, bytes]:
    """By number, what each worker tells now; without those that do not answer."""
    others = sorted(each for each in _numbers(directory) if each != number)
    told = await asyncio.gather(own(), *(_told_by(directory / f"w{each}.sock") for each in others))
    return {each: text for each, text in zip((number, *others), told, strict=True) if text}


def _numbers(directory: Path) -> Iterator[int]:
    for path in directory.iterdir():
        if found := _SOCKET.fullmatch(path.name):
            yield int(found[1])


async def _told_by(path: Path) -> bytes:
    """b'' where nobody answers: a worker was killed, or has just ended."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                return await reader.read()
            finally:
                writer.close()
    return b""


def _labelled(line: str, number: int) -> str:
    name, brace, rest = line.partition("{")
    if brace:
        return f'{name}{{worker="{number}",{rest}'
    name, _, value = line.partition(" ")
    return f'{name}{{worker="{number}"}} {value}'


def _take_number(directory: Path) -> tuple[int, int]:
    """The lowest free number, and the lock that keeps it until it is closed."""
    for number in itertools.count():
        lock = os.open(directory / f"w{number}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return number, lock
    raise AssertionError("there are more numbers")
