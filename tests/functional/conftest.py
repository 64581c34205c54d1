"""One fake provider and one whole installation for all tests that do not break anything; see `house.py`."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.functional.house import House, make_house
from tests.functional.provider_books import FakeProvider
from tests.ports import free_ports
from tests.proxy.house import KEY, RATES, UPSTREAM_KEY, wait_until
from tests.proxy.house import House as Worker
from token_tracker.config.values import Deployment, Secret
from token_tracker.proxy.books.records import End


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


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A Redis of the test's own."""
    if shutil.which("redis-server") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("redis-server is not installed")
        pytest.skip("redis-server is not installed")
    (port,) = free_ports(1)
    command = ["redis-server", "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    yield f"redis://127.0.0.1:{port}/0"
    server.kill()
    server.wait()


@dataclass
class OneGateway:
    """One gateway worker in front of the fake provider; its journal is read directly."""

    worker: Worker
    provider: FakeProvider
    openai: openai.OpenAI
    anthropic: anthropic.Anthropic

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.worker.port}"

    def model(self, path: str, manner: str) -> str:
        """A name whose provider speaks the route."""
        return f"{'claude' if 'messages' in path else 'fake'}-{manner}"

    def row(self, answer: Any) -> End:
        """The one row of a call, by its answer."""
        headers = dict(answer.headers)
        found = wait_until(
            lambda: [row for row in self.worker.rows() if row.opened.id == headers["x-tt-request-id"]], "the row"
        )
        assert len(found) == 1
        return found[0]


@pytest.fixture(scope="session")
def gateway(fake_provider: FakeProvider) -> Iterator[OneGateway]:
    """Names as in `whole_house`: 'fake-…' on OpenAI's format, 'claude-…' on Anthropic's, 'alias' for 'fake-plain'."""
    with tempfile.TemporaryDirectory(prefix="tt-") as directory:
        tables = {"exact": exact_models(fake_provider), "wildcards": wildcard_models(fake_provider)}
        worker = Worker(Path(directory), None, **tables).start()  # type: ignore[arg-type]  # no scripted upstream here
        url = f"http://127.0.0.1:{worker.port}"
        with (
            openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client_of_openai,
            anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0) as client_of_anthropic,
        ):
            yield OneGateway(worker, fake_provider, client_of_openai, client_of_anthropic)
        worker.stop()


def exact_models(provider: FakeProvider) -> dict[str, tuple[Deployment, ...]]:
    free = dict.fromkeys(RATES, Decimal(0))
    units = ("input_cost_per_character", "output_cost_per_image", "input_cost_per_second", "input_cost_per_query")
    by_unit = dict.fromkeys(units, Decimal("0.5"))
    return {
        "by-unit": (deployment(provider, "by-unit", model="fake-in-seconds", rates=by_unit),),
        "alias": (deployment(provider, "alias", model="fake-plain"),),
        "free": (deployment(provider, "free", model="fake-plain", rates=free),),
    }


def wildcard_models(provider: FakeProvider) -> dict[str, tuple[Deployment, ...]]:
    return {
        "fake-": (deployment(provider, "fake-*", model="fake-*"),),
        # The manner is read from the name that the provider knows, which on this one is the client's own.
        "claude-": (deployment(provider, "claude-*", provider="anthropic", api_base=provider.url, model="claude-*"),),
    }


def deployment(fake: FakeProvider, name: str, **more: Any) -> Deployment:
    fields = {"provider": "openai", "api_base": fake.openai_base, "api_key": Secret(UPSTREAM_KEY), "rates": RATES}
    return Deployment(**{"name": name, **fields, **more})
