"""Two nodes that spend one budget: what a node held that is gone with its volume stays counted, until it returns."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.functional.installation import Installation, wait_until
from tests.functional.provider_books import FakeProvider
from tests.functional.storm import RATES, nano

LIMIT_USD = 0.08
MAXIMUM = 2_000  # of output tokens of the call that is in flight when its node dies


def node(directory: Path, provider: FakeProvider, redis: str, database: Path) -> Installation:
    directory.mkdir(exist_ok=True)
    names = {"quick": "openai/fake-plain", "endless": "openai/fake-hang-mid-stream"}
    models = [
        {"model_name": name, "litellm_params": {"model": at, "api_base": provider.openai_base, "api_key": "x", **RATES}}
        for name, at in names.items()
    ]
    config = {"model_list": models, "budget": {"total": LIMIT_USD}}
    return Installation(directory, config, f"sqlite:///{database}", REDIS_URL=redis)


def status_of(house: Installation) -> Callable[[], dict[str, Any]]:
    headers = house.login()
    (budget,) = json.loads(house.call("GET", f"{house.api_url}/api/budgets", headers=headers)[2])["items"]
    url = f"{house.api_url}/api/budgets/{budget['id']}/status"
    return lambda: dict(json.loads(house.call("GET", url, headers=headers)[2]))


def give_up_silent(house: Installation) -> str:
    """The state of the one silent node once it is given up."""
    headers = house.login()
    nodes = json.loads(house.call("GET", f"{house.api_url}/api/nodes", headers=headers)[2])["items"]
    (silent,) = [each["id"] for each in nodes if each["state"] == "silent"]
    url = f"{house.api_url}/api/nodes/{silent}/release"
    status, _, body = house.call("POST", url, {"reason": "its disk is gone"}, headers)
    assert status == 200, body
    return str(json.loads(body)["state"])


def die(house: Installation) -> None:
    """All its processes at once, as when the machine goes: none may book what another leaves."""
    os.kill(house.pid, signal.SIGSTOP)
    for name in ("recorder", "gateway", "worker"):
        for pid in house.child_pids(name):
            os.kill(pid, signal.SIGKILL)
    os.kill(house.pid, signal.SIGKILL)
    house.stop()


def refused_unproven(house: Installation) -> int | None:
    """What the gate itself says when asked for too much; None where a busy machine's Redis did not answer in time."""
    answered, _, body = house.chat("quick", max_tokens=10_000_000)
    error = json.loads(body)["error"]
    if (answered, error["code"]) == (503, "store_recovering"):
        return None
    assert answered == 402, body
    return nano(error["details"]["unproven"])


@pytest.mark.timeout(180)
@pytest.mark.parametrize("is_given_up", [False, True], ids=["returns", "is given up"])
def test_what_a_dead_node_held_is_unproven_until_its_journal_is_booked_or_an_admin_gives_it_up(
    tmp_path: Path, redis_url: str, is_given_up: bool
) -> None:
    database = tmp_path / "shared.db"
    with (
        FakeProvider() as provider,
        node(tmp_path / "a", provider, redis_url, database).start("all") as living,
        node(tmp_path / "b", provider, redis_url, database) as dying,
    ):
        wait_until(lambda: living.chat("quick", max_tokens=8)[0] == 200, 20, "the budget's counter")
        dying.start("proxy")
        dying.key = living.key
        wait_until(lambda: dying.chat("quick", max_tokens=8)[0] == 200, 20, "the other node serves")
        look = status_of(living)
        wait_until(lambda: float(look()["held_usd"]) == 0, 10, "nothing is in flight")

        def hang() -> None:
            with suppress(OSError, HTTPException):
                dying.chat("endless", max_tokens=MAXIMUM, stream=True)

        caller = threading.Thread(target=hang)
        caller.start()
        held = nano(wait_until(lambda: (found := look())["holds"] and found, 10, "the call in flight")["held_usd"])
        assert held >= MAXIMUM * RATES["output_cost_per_token"] * 1e9
        die(dying)
        caller.join(10)
        missed = wait_until(lambda: (found := look())["held_usd"] == "0.000000000" and found, 40, "it is missed")
        assert nano(missed["unproven_usd"]) == held
        assert [hold["state"] for hold in missed["holds"]] == ["unproven"]
        wait_until(lambda: refused_unproven(living) == held, 20, "the gate says the same")
        if is_given_up:
            assert give_up_silent(living) == "released"
            assert look()["unproven_usd"] == "0.000000000" and look()["holds"] == []
            wait_until(lambda: refused_unproven(living) == 0, 20, "the gate says the same")
        dying.start("proxy")
        settled = wait_until(
            lambda: (found := look())["holds"] == [] and nano(found["unproven_usd"]) and found,
            30,
            "its journal is booked",
        )
        unproven = nano(settled["unproven_usd"])
        assert 0 < unproven <= held and nano(settled["spent_usd"]) >= nano(missed["spent_usd"]) + held - unproven
        wait_until(lambda: refused_unproven(living) == unproven, 20, "the gate says the same")
