"""One timer, many bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from token_tracker.proxy.deadline import Deadline


def run(scenario: Callable[[Deadline], Awaitable[None]]) -> Deadline:
    async def main() -> Deadline:
        task = asyncio.current_task()
        assert task is not None
        deadline = Deadline(task)
        try:
            await asyncio.wait_for(_guard(deadline, scenario), 5)
        finally:
            deadline.stop()
        return deadline

    return asyncio.run(main())


async def _guard(deadline: Deadline, scenario: Callable[[Deadline], Awaitable[None]]) -> None:
    task = asyncio.current_task()
    assert task is not None
    deadline._task = task  # wait_for may run the scenario in a task of its own
    await scenario(deadline)


def test_a_phase_that_takes_too_long_is_named() -> None:
    async def scenario(deadline: Deadline) -> None:
        deadline.enter("connect", 0.01)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(3)
        assert deadline.take() == "connect"
        assert deadline.take() is None

    run(scenario)


def test_moving_on_in_time_never_fires() -> None:
    async def scenario(deadline: Deadline) -> None:
        for _ in range(5):
            deadline.enter("idle", 0.05)
            await asyncio.sleep(0.02)
        deadline.enter("client", 60)
        await asyncio.sleep(0.1)

    assert run(scenario).fired is None


def test_a_limit_holds_whatever_is_entered_after_it() -> None:
    async def scenario(deadline: Deadline) -> None:
        deadline.enter("idle", 60)
        deadline.limit("gone", 0.05)
        with pytest.raises(asyncio.CancelledError):
            while True:
                deadline.enter("idle", 60)
                await asyncio.sleep(0.01)
        assert deadline.take() == "gone"

    run(scenario)


def test_the_sooner_of_two_limits_counts() -> None:
    async def scenario(deadline: Deadline) -> None:
        deadline.limit("gone", 60)
        deadline.limit("shutdown", 0)
        deadline.limit("gone", 60)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(3)
        assert deadline.take() == "shutdown"

    run(scenario)


def test_nothing_fires_after_the_end() -> None:
    async def scenario(deadline: Deadline) -> None:
        deadline.enter("idle", 0.01)
        deadline.stop()
        deadline.enter("idle", 0.01)
        deadline.limit("gone", 0)
        await asyncio.sleep(0.05)

    assert run(scenario).fired is None
