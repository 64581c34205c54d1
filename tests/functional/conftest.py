"""One fake provider and one whole installation for all tests that do not break anything; see `house.py`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.functional.house import House, make_house
from tests.functional.provider_books import FakeProvider


@pytest.fixture(scope="session")
def fake_provider() -> Iterator[FakeProvider]:
    """Shared: tests tell their calls apart by markers."""
    with FakeProvider() as running:
        yield running


@pytest.fixture(scope="session")
def whole_house(fake_provider: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """`run all` on SQLite in front of the fake provider, with the models of `house.MODELS`; nobody kills anything."""
    made = make_house(tmp_path_factory.mktemp("house"), fake_provider)
    with made.installation.start("all"):
        yield made


@pytest.fixture
def house(whole_house: House) -> Iterator[House]:
    """The shared installation; the test's clients are closed after it."""
    yield whole_house
    whole_house.close_clients()
