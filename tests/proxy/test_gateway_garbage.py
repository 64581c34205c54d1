"""A finished call is freed at once: circles would wait for the garbage collector, which stops the whole worker."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.proxy.house import House, wait_until
from tests.proxy.upstream import Upstream, stream
from token_tracker.proxy.call import Attempt
from token_tracker.proxy.client import Client
from token_tracker.proxy.deadline import Deadline
from token_tracker.proxy.lanes.exchange import Exchange

OURS = (Attempt, Client, Deadline, Exchange)


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive() -> list[object]:
    return [each for each in gc.get_objects() if isinstance(each, OURS)]


@pytest.mark.usefixtures("uncollected")
def test_a_plain_call_leaves_nothing_to_collect(house: House) -> None:
    before = len(alive())
    for _ in range(20):
        assert house.chat().status == 200
    wait_until(lambda: len(alive()) - before < 5, "the calls' own objects are freed without a collection")


@pytest.mark.usefixtures("uncollected")
def test_a_stream_leaves_nothing_to_collect(house: House, upstream: Upstream) -> None:
    upstream.answer = stream
    before = len(alive())
    for _ in range(20):
        assert house.chat(stream=True).status == 200
    wait_until(lambda: len(alive()) - before < 5, "the streams' own objects are freed without a collection")
