"""`/metrics` of a node with two gateway processes: whichever is asked tells of both, also while one of them is dead."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

from tests import leaks
from tests.functional.installation import Installation, wait_until

CALLS = re.compile(r'^token_tracker_calls_total\{worker="(\d+)",model="demo",.*\} (\d+)$', re.M)


def metrics_key(house: Installation) -> str:
    wanted = {"name": "prometheus", "permissions": ["metrics"]}
    status, _, body = house.call("POST", f"{house.api_url}/api/keys", wanted, house.login())
    assert status == 201, body
    key: str = json.loads(body)["key"]
    return leaks.secret("virtual key", key)


def scrape(house: Installation, key: str) -> str:
    status, _, body = house.call("GET", f"{house.proxy_url}/metrics", headers={"authorization": f"Bearer {key}"})
    return body.decode() if status == 200 else ""


def test_every_scrape_tells_of_both_workers_and_a_new_one_takes_the_number_of_the_dead(
    tmp_path: Path, redis_url: str
) -> None:
    house = Installation(tmp_path, REDIS_URL=redis_url, TOKEN_TRACKER_PROXY_WORKERS="2")
    with house.start("all"):
        key = metrics_key(house)
        wait_until(lambda: all(scrape(house, key) for _ in range(10)), 20, "the key acts, whichever worker is asked")

        def counted() -> dict[str, int]:
            counts: dict[str, int] = {}
            for worker, count in CALLS.findall(scrape(house, key)):
                counts[worker] = counts.get(worker, 0) + int(count)
            return counts

        for _ in range(40):  # a connection each
            assert house.chat()[0] == 200
        told = [counted() for _ in range(20)]
        assert told == [told[0]] * 20 and sum(told[0].values()) == 40
        assert set(told[0]) == {"0", "1"}, "40 connections to one of two: not in this universe"
        text = scrape(house, key)
        assert len(re.findall(r"^# TYPE token_tracker_calls_in_flight gauge$", text, re.M)) == 1
        assert set(re.findall(r'^token_tracker_calls_in_flight\{worker="(\d)"\} 0$', text, re.M)) == {"0", "1"}

        victim = house.child_pids("gateway")[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(house.child_pids("gateway")) == 2, 10, "the second worker again")
        after = wait_until(lambda: _both(scrape(house, key)) and counted(), 10, "both tell again")
        assert list(after.values()) in ([told[0]["0"]], [told[0]["1"]]), "the one that lived tells all of its calls"


def _both(text: str) -> bool:
    return set(re.findall(r'^token_tracker_config_ok\{worker="(\d+)"\} 1$', text, re.M)) == {"0", "1"}
