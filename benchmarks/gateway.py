"""The gateway as `make bench` runs it: `run proxy` on SQLite in a fresh directory, with full accounting."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import Running, free_port, process, wait_for

RATES = "input_cost_per_token: 0.00000015, output_cost_per_token: 0.0000006"
PARAMS = "model: openai/gpt-4o-mini, api_key: sk-none, " + RATES
CONFIG = """
model_list:
  - {{model_name: bench, litellm_params: {{api_base: '{url}/v1', {params}}}}}
  - {{model_name: stream, litellm_params: {{api_base: '{url}/sse/v1', {params}}}}}
  - {{model_name: streams, litellm_params: {{api_base: '{streams}/v1', {params}}}}}
  - {{model_name: translated, lane: litellm, litellm_params: {{api_base: '{url}/v1', {params}}}}}
"""
RULES = """
budget: {total: 100000, daily: 90000}
rate_limits:
  - {limit: 100000000, period: minute}
  - {limit: 1000000000, period: day}
  - {unit: tokens, limit: 1000000000000, period: hour}
  - {unit: concurrent, limit: 100000}
"""


@dataclass(frozen=True)
class House:
    """A running gateway: its key, its ledger, and the ids of its processes by name."""

    running: Running
    key: str
    ledger: Path

    @property
    def url(self) -> str:
        return self.running.url


@contextmanager
def gateway(
    directory: Path, upstream: str, streams: str, rules: str = "", redis: str = "", translates: bool = False
) -> Iterator[House]:
    """`rules`: more of proxy.yaml. `redis`: where limits are counted; '': in memory."""
    directory.mkdir()
    port = free_port()
    config, data = directory / "proxy.yaml", directory / "data"
    text = CONFIG.format(url=upstream, streams=streams, params=PARAMS)
    if not translates:
        text = "".join(line + "\n" for line in text.splitlines() if "translated" not in line)
    config.write_text(text + rules)
    environment = {
        "TOKEN_TRACKER_CONFIG": str(config),
        "TOKEN_TRACKER_DATA_DIR": str(data),
        "TOKEN_TRACKER_PROXY_PORT": str(port),
        "DATABASE_URL": "",
        "REDIS_URL": redis,
    }
    made = subprocess.run(
        [sys.executable, "-m", "token_tracker.database.init", "--json"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    key = json.loads(made.stdout.strip().splitlines()[-1])["first_key"]
    with process([sys.executable, "-m", "token_tracker.run", "proxy"], environment, directory, "proxy") as child:
        start_s = wait_for(f"http://127.0.0.1:{port}/health/live")
        wait_for(f"http://127.0.0.1:{port}/v1/models", headers={"Authorization": f"Bearer {key}"})
        _wait_for_rules(f"http://127.0.0.1:{port}", key)
        pids = {"supervisor": child.pid, **_children(child.pid)}
        yield House(Running(f"http://127.0.0.1:{port}", pids, start_s), key, data / "token_tracker.db")


def _wait_for_rules(url: str, key: str) -> None:
    """Hard budgets answer 503 until their counters are built."""
    import urllib.error
    import urllib.request

    body = json.dumps({"model": "bench", "max_tokens": 64, "messages": [{"role": "user", "content": "x"}]}).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    until = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(
                urllib.request.Request(f"{url}/v1/chat/completions", body, headers), timeout=10
            ):
                return
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() > until:
                raise SystemExit(f"the gateway answers {error.code}: {error.read()[:500]!r}") from None
        time.sleep(0.1)


def _children(parent: int) -> dict[str, int]:
    """The supervisor's children by their subcommand's name."""
    found: dict[str, int] = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            if int(fields["PPid"]) == parent:
                words = (status.parent / "cmdline").read_bytes().decode().split("\0")
                name = words[words.index("token_tracker.run") + 1] if "token_tracker.run" in words else words[0]
                found[name] = int(fields["Pid"])
        except (OSError, KeyError, ValueError):
            continue
    return found


@dataclass(frozen=True)
class Books:
    """`calls` in the ledger, `doubled` more of them; `summed`: by the roll-ups; `behind_s`: until all were there."""

    calls: int
    doubled: int
    summed: int
    behind_s: float


def books(ledger: Path, at_least: int) -> Books:
    """What the ledger holds once it has every answered call, or after 60 s."""
    began = time.monotonic()
    while True:
        with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as database:
            rows, calls = database.execute("select count(*), count(distinct call_id) from token_usage").fetchone()
            (summed,) = database.execute("select coalesce(sum(calls), 0) from usage_hourly").fetchone()
        behind_s = time.monotonic() - began
        if (calls >= at_least and summed == calls) or behind_s > 60:
            return Books(calls, rows - calls, summed, behind_s)
        time.sleep(0.1)
