"""A hard budget under two hundred clients at once: the provider's own books never exceed it, and it can be spent."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.functional.books import Ledger
from tests.functional.installation import Installation, wait_until
from tests.functional.provider_books import FakeProvider
from tests.functional.storm import MODEL, RATES, Storm, billed_nano_usd, nano, settled

pytestmark = pytest.mark.timeout(300)
LIMIT_USD = 0.08
LIMIT_NANO_USD = 80_000_000


def configuration(provider: FakeProvider) -> dict[str, Any]:
    params = {"model": "openai/fake-slow-5ms", "api_base": provider.openai_base, "api_key": "sk-none", **RATES}
    return {
        "model_list": [{"model_name": MODEL, "litellm_params": params}],
        "budget": {"total": LIMIT_USD},
    }


def installation(directory: Path, provider: FakeProvider, redis: str = "") -> Installation:
    more = {"REDIS_URL": redis, "TOKEN_TRACKER_PROXY_WORKERS": "4"} if redis else {}
    return Installation(directory, configuration(provider), **more)


def ready(house: Installation) -> None:
    """The file's budget has its counter, and each worker (the kernel chooses who answers) has seen that."""
    wait_until(lambda: all(house.chat(MODEL, max_tokens=8)[0] == 200 for _ in range(12)), 30, "the budget's counter")


def say(name: str, storm: Storm, provider: FakeProvider, status: dict[str, Any]) -> None:
    print(
        f"storm {name}, seed {storm.seed}: limit {LIMIT_NANO_USD}, billed by the provider {billed_nano_usd(provider)}, "
        f"spent {nano(status['spent_usd'])}, unproven {nano(status['unproven_usd'])} nano-USD; "
        f"answers {dict(storm.codes)}, clients that left {storm.left}, broken {storm.broken}"
    )


@pytest.mark.parametrize("workers", [1, 4])
def test_the_cap_is_hard_while_a_worker_is_killed(workers: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    redis = request.getfixturevalue("redis_url") if workers > 1 else ""
    with FakeProvider() as provider, installation(tmp_path, provider, redis).start("all") as house:
        ready(house)
        storm = Storm(house, seed=11)
        victims: list[int] = []

        def kill() -> None:
            victims.append(house.child_pids("gateway")[0])
            os.kill(victims[0], signal.SIGKILL)

        storm.run({int(0.4 * LIMIT_NANO_USD): kill})
        status = settled(house)
        say(f"with a kill, {workers} workers", storm, provider, status)
        billed, unproven = billed_nano_usd(provider), nano(status["unproven_usd"])
        assert billed <= LIMIT_NANO_USD, "the provider's own books"
        assert nano(status["spent_usd"]) + unproven >= 0.95 * LIMIT_NANO_USD
        assert nano(status["spent_usd"]) + unproven <= LIMIT_NANO_USD
        rows = wait_until(lambda: _all_booked(house, provider), 30, "every call in the ledger")
        doubtful = [row for row in rows if row["unproven_nano_usd"]]
        assert doubtful and {row["end_reason"] for row in doubtful} == {"crash"}, "only the killed worker's calls"


@pytest.mark.parametrize("workers", [1, 4])
def test_without_a_kill_all_of_it_can_be_spent(workers: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    redis = request.getfixturevalue("redis_url") if workers > 1 else ""
    with FakeProvider() as provider, installation(tmp_path, provider, redis).start("all") as house:
        ready(house)
        storm = Storm(house, seed=12)
        storm.run()
        status = settled(house)
        say(f"without a kill, {workers} workers", storm, provider, status)
        assert 0.98 * LIMIT_NANO_USD <= billed_nano_usd(provider) <= LIMIT_NANO_USD
        assert storm.left > 0
        rows = wait_until(lambda: _all_booked(house, provider), 30, "every call in the ledger")
        unproven = sum(row["unproven_nano_usd"] for row in rows)
        assert nano(status["unproven_usd"]) == unproven
        assert all(row["usage_source"] == "provider" for row in rows if not row["unproven_nano_usd"])


def _all_booked(house: Installation, provider: FakeProvider) -> list[dict[str, Any]] | None:
    rows = Ledger(f"sqlite:///{house.data_dir}/token_tracker.db").rows()
    served = {entry["id"] for entry in provider.books(slim=True) if entry["status"] == 200}
    named = {row["upstream_id"] for row in rows}
    crashes = sum(row["end_reason"] == "crash" for row in rows)
    return rows if len(served - named) <= crashes and len(rows) >= len(served) else None
