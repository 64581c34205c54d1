"""One LiteLLM child and one upstream for all tests of this room: it takes seconds and 350 MB to start."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proxy.litellm.running import Child, Serving
from tests.proxy.litellm.upstream import Upstream


@pytest.fixture(scope="package")
def evidence_dir() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="tt-e-"))  # short: it holds Unix sockets
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="package")
def shared_upstream() -> Iterator[tuple[Upstream, str]]:
    upstream = Upstream()
    serving = Serving(upstream.application())
    yield upstream, serving.url
    serving.close()


@pytest.fixture
def upstream(shared_upstream: tuple[Upstream, str]) -> Iterator[Upstream]:
    upstream = shared_upstream[0]
    upstream.requests.clear()
    yield upstream
    upstream.failing = None


@pytest.fixture
def upstream_url(shared_upstream: tuple[Upstream, str]) -> str:
    return shared_upstream[1]


@pytest.fixture(scope="package")
def outside() -> Iterator[socket.socket]:
    """The way to every other host: a proxy that only counts who comes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


@pytest.fixture(scope="package")
def child(evidence_dir: Path, outside: socket.socket) -> Iterator[Child]:
    way_out = f"http://127.0.0.1:{outside.getsockname()[1]}"
    surroundings = {"HTTP_PROXY": way_out, "HTTPS_PROXY": way_out, "NO_PROXY": "127.0.0.1"}
    with Child(evidence_dir, DATABASE_URL="sqlite:///nobody.db", **surroundings) as child:
        yield child
