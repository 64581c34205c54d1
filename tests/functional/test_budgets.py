"""Budgets and rate limits in a whole installation: from the file to the refusal, through kills and on many workers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.functional.installation import DEMO_MODEL, Installation, wait_until
from tests.ports import free_ports

LIMIT_NANO_USD = 2_000_000


def config(**more: Any) -> dict[str, Any]:
    return {"model_list": [DEMO_MODEL], "budget": {"daily": 0.002}, **more}


def code(answer: tuple[int, Any, bytes]) -> str:
    return str(answer[1].get("x-tt-code", "")) if answer[0] != 200 else "200"


def spend_all(house: Installation, calls: int = 400) -> list[str]:
    """Codes of calls one after the other, until the budget is spent."""
    codes = []
    for _ in range(calls):
        codes.append(code(house.chat(max_tokens=20)))
        if codes[-1] == "budget_exceeded":
            break
    return codes


def booked_nano_usd(house: Installation) -> int:
    with sqlite3.connect(house.data_dir / "token_tracker.db") as database:
        return int(database.execute("SELECT coalesce(sum(cost_nano_usd), 0) FROM token_usage").fetchone()[0])


def built(house: Installation) -> None:
    """The file's budget has a counter."""
    wait_until(lambda: house.chat(max_tokens=5)[0] == 200, 20, "the budget's counter")


def test_a_budget_of_the_file_is_hard_from_the_first_call_and_through_a_kill(tmp_path: Path) -> None:
    house = Installation(tmp_path, config())
    with house.start("proxy"):
        assert "NOT ENFORCED" not in house.printed
        built(house)
        assert spend_all(house)[-1] == "budget_exceeded"
        (gateway,) = house.child_pids("gateway")
        os.kill(gateway, signal.SIGKILL)
        wait_until(lambda: house.child_pids("gateway") not in ([], [gateway]), 10, "another gateway")
        wait_until(lambda: house._proxy_ready(), 10, "its readiness")
        answer = wait_until(lambda: (said := house.chat(max_tokens=20)) and said[0] != 503 and said, 10, "a counter")
        assert code(answer) == "budget_exceeded"
        details = json.loads(answer[2])["error"]["details"]
        assert float(details["spent"]) > 0.0015
    assert 0.75 * LIMIT_NANO_USD < booked_nano_usd(house) <= LIMIT_NANO_USD


def test_a_rate_limit_of_the_file_refuses_with_the_time_to_wait(tmp_path: Path) -> None:
    limits = [{"model": "demo", "limit": 3, "period": "minute"}]
    house = Installation(tmp_path, {"model_list": [DEMO_MODEL], "rate_limits": limits})
    with house.start("proxy"):
        answers = [house.chat() for _ in range(4)]
    assert [answer[0] for answer in answers] == [200, 200, 200, 429]
    assert answers[0][1]["x-ratelimit-limit-requests"] == "3"
    assert int(answers[3][1]["retry-after"]) >= 1


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    if shutil.which("redis-server") is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is not installed")
        pytest.skip("redis-server is not installed")
    (port,) = free_ports(1)
    server = subprocess.Popen(
        ["redis-server", "--port", str(port), "--save", "", "--dir", str(tmp_path)], stdout=subprocess.DEVNULL
    )
    yield f"redis://127.0.0.1:{port}/0"
    server.kill()
    server.wait()


def test_four_workers_spend_one_budget_together_and_one_of_them_may_die(tmp_path: Path, redis_url: str) -> None:
    house = Installation(tmp_path, config(), REDIS_URL=redis_url, TOKEN_TRACKER_PROXY_WORKERS="4")
    with house.start("proxy"):
        workers = house.child_pids("gateway")
        assert len(workers) == 4
        built(house)
        with ThreadPoolExecutor(8) as clients:
            first = list(clients.map(lambda _: code(house.chat(max_tokens=20)), range(20)))
            os.kill(workers[0], signal.SIGKILL)
            wait_until(lambda: len(house.child_pids("gateway")) == 4, 30, "the fourth worker again")
            rest: list[str] = []
            while "budget_exceeded" not in rest and len(rest) < 3000:
                rest += clients.map(lambda _: safely(house), range(150))
        assert "200" in first and "budget_exceeded" in rest
        assert set(first + rest) <= {"200", "budget_exceeded", "budget_held", "store_recovering", "broken"}
    assert 0.7 * LIMIT_NANO_USD < booked_nano_usd(house) <= LIMIT_NANO_USD


def safely(house: Installation) -> str:
    try:
        return code(house.chat(max_tokens=20))
    except OSError:
        return "broken"  # it went to the worker that died


def test_a_redis_that_may_evict_refuses_the_start(tmp_path: Path, redis_url: str) -> None:
    port = redis_url.rpartition(":")[2].partition("/")[0]
    set_it = ["redis-cli", "-p", port, "config", "set", "maxmemory-policy", "allkeys-lru"]
    wait_until(lambda: subprocess.run(set_it, capture_output=True).stdout == b"OK\n", 10, "Redis")
    house = Installation(tmp_path, config(), REDIS_URL=redis_url)
    with pytest.raises(AssertionError, match="noeviction"):
        house.start("proxy", timeout_s=20)
