"""What docker-compose.yml runs, run without containers: it starts, serves, counts, is told to be well, and stops."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deploy.compose import image
from tests.deploy.composition import Composition
from tests.functional.installation import wait_until

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(autouse=True)
def _redis_is_installed() -> None:
    if shutil.which("redis-server") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("redis-server is not installed")
        pytest.skip("redis-server is not installed")


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_every_service_starts_serves_and_stops_as_the_file_says(tmp_path: Path, database_url: str) -> None:
    with Composition(tmp_path, database_url) as composition, httpx.Client(timeout=20) as client:
        composition.start("redis")
        assert not composition.is_well("worker"), "nobody has laid the tables"
        [key] = re.findall(r"sk-tt-[\w-]+", composition.run("init"))
        assert composition.run("init") == "The database is up to date.\n", "the next start shows no secret"
        composition.start("proxy", "api", "dashboard", "worker")
        for number in range(20):
            body = {"model": "demo", "stream": bool(number % 2), "messages": [{"role": "user", "content": "Hello"}]}
            url = composition.url("proxy", "/v1/chat/completions")
            with httpx.Client(headers={"authorization": f"Bearer {key}"}) as one:  # a connection each: both workers
                assert one.post(url, json=body).is_success
        assert counted(client, composition) == 20
        total = wait_until(lambda: booked(client, composition, 20), 15, "20 booked calls")
        assert float(total["cost_usd"]) > 0
        assert client.get(composition.url("dashboard", "/login")).is_success
        told = getattr(signal, image()["STOPSIGNAL"][0])
        for name in ("worker", "dashboard", "api", "proxy"):
            assert composition.stop(name, told) == 0, composition.printed(name)
            assert not composition.is_well(name)
        assert key not in "".join(composition.printed(name) for name in ("proxy", "api", "dashboard", "worker"))


def counted(client: httpx.Client, composition: Composition) -> int:
    """Calls, as the metrics of both workers say."""
    first = composition.metrics_port
    texts = [client.get(f"http://127.0.0.1:{port}/metrics").raise_for_status().text for port in (first, first + 1)]
    return sum(
        int(count) for text in texts for count in re.findall(r"^token_tracker_calls_total\{.*\} (\d+)", text, re.M)
    )


def booked(client: httpx.Client, composition: Composition, calls: int) -> dict[str, Any] | None:
    """The sums of the ledger, once they are those of so many calls; asked for with the password of .env."""
    login = {"username": "admin", "password": composition.variables["TOKEN_TRACKER_ADMIN_PASSWORD"]}
    token = client.post(composition.url("api", "/api/auth/login"), json=login).raise_for_status().json()["access_token"]
    headers = {"authorization": f"Bearer {token}"}
    found: dict[str, Any] = client.get(composition.url("api", "/api/token-usage/summary"), headers=headers).json()
    return found["totals"] if found["totals"]["calls"] == calls else None
