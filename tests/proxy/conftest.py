"""A scripted upstream and gateways in front of it, ended with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.proxy.upstream import Upstream

if TYPE_CHECKING:  # rooms below this one need no gateway for their tests
    from tests.proxy.house import House

MakeHouse = Callable[..., "House"]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream().start()
    yield server
    server.stop()


@pytest.fixture
def make_house(tmp_path: Path, upstream: Upstream) -> Iterator[MakeHouse]:
    from tests.proxy.house import House

    houses: list[House] = []

    def make(**more: Any) -> House:
        houses.append(House(tmp_path, upstream, **more))
        return houses[-1].start()

    yield make
    for each in houses:
        each.stop()


@pytest.fixture
def house(make_house: MakeHouse) -> House:
    return make_house()
