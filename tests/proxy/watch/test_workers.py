"""One text of what several workers tell: metrics together, samples by worker, and nobody is waited for in vain."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from token_tracker.proxy.watch import workers
from token_tracker.proxy.watch.workers import merged, told_together

ONE = b"""# HELP a_total Calls.
# TYPE a_total counter
a_total{model="x{y"} 3
# HELP b Now.
# TYPE b gauge
b 1
"""
OTHER = b"""# HELP a_total Calls.
# TYPE a_total counter
a_total{model="z"} 4
# HELP c Only here.
# TYPE c gauge
c 7
"""


def telling(text: bytes) -> Callable[[], Awaitable[bytes]]:
    async def tell() -> bytes:
        return text

    return tell


def test_each_metric_stands_once_with_the_samples_of_all_workers() -> None:
    assert asyncio.run(merged({0: ONE, 3: OTHER})).decode().splitlines() == [
        "# HELP a_total Calls.",
        "# TYPE a_total counter",
        'a_total{worker="0",model="x{y"} 3',
        'a_total{worker="3",model="z"} 4',
        "# HELP b Now.",
        "# TYPE b gauge",
        'b{worker="0"} 1',
        "# HELP c Only here.",
        "# TYPE c gauge",
        'c{worker="3"} 7',
    ]


def test_whoever_is_asked_tells_of_all_and_a_dead_one_is_left_out(tmp_path: Path) -> None:
    killed = socket.socket(socket.AF_UNIX)
    killed.bind(str(tmp_path / "w9.sock"))  # bound once, and nobody listens any more
    killed.close()

    async def scrapes() -> list[bytes]:
        async with (
            told_together(tmp_path, telling(ONE), 2) as first,
            told_together(tmp_path, telling(OTHER), 2) as other,
        ):
            told = [await first(), await other()]
        async with told_together(tmp_path, telling(OTHER), 2) as again:
            return [*told, await again()]

    first, other, again = asyncio.run(scrapes())
    assert sorted(first.splitlines()) == sorted(other.splitlines())
    assert b'a_total{worker="0",model="x{y"} 3\n' in first and b'a_total{worker="1",model="z"} 4\n' in first
    assert b'a_total{worker="0",model="z"} 4\n' in again and b'worker="1"' not in again


def test_a_worker_that_hangs_is_left_out_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PATIENCE_S", 0.2)

    async def hangs() -> bytes:
        await asyncio.sleep(3600)
        return b""

    async def scrape() -> bytes:
        async with told_together(tmp_path, hangs, 2), told_together(tmp_path, telling(ONE), 2) as living:
            async with asyncio.timeout(10):
                return await living()

    told = asyncio.run(scrape())
    assert b'worker="1"' in told and b'worker="0"' not in told


def test_one_worker_alone_tells_without_a_label(tmp_path: Path) -> None:
    async def scrape() -> bytes:
        async with told_together(tmp_path, telling(ONE)) as alone:
            return await alone()

    assert asyncio.run(scrape()) == ONE
    assert not list(tmp_path.iterdir())
