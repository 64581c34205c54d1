"""`make bench`: calls per second and latency of the gateway beside a bare LiteLLM proxy, in one run on one machine.

Full accounting is on: key check, journal, recorder to SQLite. The rounds are interleaved and the median is shown. At
the end the ledger is compared with the calls that wrk counted.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import LITELLM_KEY, Running, bare_litellm, free_port, nginx, process, rss_mb, wait_for

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SECONDS = int(os.environ.get("BENCH_SECONDS", "5"))
CONNECTIONS = (1, 16)
MODEL_LIST = """
model_list:
  - model_name: bench
    litellm_params:
      model: openai/gpt-4o-mini
      api_base: {url}/v1
      api_key: sk-none
      input_cost_per_token: 0.00000015
      output_cost_per_token: 0.0000006
"""
WRK_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {key}"
wrk.body = '{{"model": "bench", "messages": [{{"role": "user", "content": "How many calls a second?"}}]}}'
"""


@dataclass(frozen=True)
class Measured:
    calls: int
    calls_per_s: float
    p50_ms: float
    p99_ms: float
    errors: int


@contextmanager
def gateway(directory: Path, upstream: str) -> Iterator[tuple[Running, str, Path]]:
    """`run proxy` on SQLite with a fresh data directory; gives its first key and its ledger too."""
    port = free_port()
    config, data = directory / "proxy.yaml", directory / "data"
    config.write_text(MODEL_LIST.format(url=upstream))
    environment = {
        "TOKEN_TRACKER_CONFIG": str(config),
        "TOKEN_TRACKER_DATA_DIR": str(data),
        "TOKEN_TRACKER_PROXY_PORT": str(port),
        "DATABASE_URL": "",
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
        pids = {"supervisor": child.pid, **_children(child.pid)}
        yield Running(f"http://127.0.0.1:{port}", pids, start_s), key, data / "token_tracker.db"


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


def wrk(url: str, key: str, connections: int, seconds: int, directory: Path) -> Measured:
    """One run of wrk with one thread against the chat route."""
    script = directory / "call.lua"
    script.write_text(WRK_SCRIPT.format(key=key))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
    out = subprocess.run([*command, f"{url}/v1/chat/completions"], capture_output=True, text=True, check=True).stdout
    calls = int(_find(r"(\d+) requests in", out))
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    return Measured(
        calls,
        float(_find(r"Requests/sec:\s+([\d.]+)", out)),
        _milliseconds(_find(r"(?m)^\s+50%\s+(\S+)", out)),
        _milliseconds(_find(r"(?m)^\s+99%\s+(\S+)", out)),
        int(errors.group(1)) if errors else 0,
    )


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if not found:
        raise SystemExit(f"wrk printed something unexpected:\n{text}")
    return found.group(1)


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[unit]


def measure(targets: dict[str, tuple[str, str]], directory: Path) -> dict[tuple[str, int], list[Measured]]:
    """All rounds, interleaved, so that a change of the machine's mood hits every target alike."""
    results: dict[tuple[str, int], list[Measured]] = {}
    for url, key in targets.values():
        wrk(url, key, 4, 2, directory)  # warm up
    for round_number in range(ROUNDS):
        for connections in CONNECTIONS:
            for name, (url, key) in targets.items():
                result = wrk(url, key, connections, SECONDS, directory)
                if result.errors:
                    raise SystemExit(
                        f"{name}: {result.errors} calls were not answered with 200; see its log in {directory}"
                    )
                results.setdefault((name, connections), []).append(result)
                print(f"  round {round_number + 1}: {name:22} {connections:3} connections {result.calls_per_s:9,.0f}/s")
    return results


def report(results: dict[tuple[str, int], list[Measured]], names: list[str]) -> None:
    """The table, with each target's throughput as a multiple of LiteLLM's."""
    print("\n| connections | | calls/s | p50 ms | p99 ms | × LiteLLM |\n| ---: | --- | ---: | ---: | ---: | ---: |")
    for connections in CONNECTIONS:
        base = statistics.median(m.calls_per_s for m in results["bare LiteLLM proxy", connections])
        for name in names:
            runs = results[name, connections]
            rate = statistics.median(m.calls_per_s for m in runs)
            p50, p99 = statistics.median(m.p50_ms for m in runs), statistics.median(m.p99_ms for m in runs)
            print(f"| {connections} | {name} | {rate:,.0f} | {p50:.2f} | {p99:.2f} | {rate / base:.1f} |")


def check_books(ledger: Path, at_least: int) -> None:
    """Every answered call is in the ledger, once; waits for the recorder to catch up, at most 60 s."""
    until = time.monotonic() + 60
    rows = calls = 0
    while time.monotonic() < until:
        with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as database:
            rows, calls = database.execute("select count(*), count(distinct call_id) from token_usage").fetchone()
            (summed,) = database.execute("select coalesce(sum(calls), 0) from usage_hourly").fetchone()
        if calls >= at_least and summed == calls:
            break
        time.sleep(0.25)
    print(
        f"\nBooks: {at_least:,} answered calls; {calls:,} in the ledger, which also has the warm-up and what wrk cut "
        f"off at a round's end; {rows - calls} doubled, "
        f"{max(0, at_least - calls)} lost, roll-ups sum to {summed:,}."
    )
    if calls < at_least or summed != calls:
        raise SystemExit("The books do not hold every answered call.")


def main() -> None:
    missing = [tool for tool in ("nginx", "wrk") if not shutil.which(tool)]
    if missing:
        raise SystemExit(f"make bench needs {' and '.join(missing)}. On Debian or Ubuntu: apt install nginx-light wrk")
    with tempfile.TemporaryDirectory(prefix="tt-bench-") as name, ExitStack() as stack:
        directory = Path(name)
        upstream = stack.enter_context(nginx(directory))
        ours, key, ledger = stack.enter_context(gateway(directory, upstream.url))
        litellm = stack.enter_context(bare_litellm(directory, upstream.url))
        targets = {
            "nginx itself": (upstream.url, "none"),
            "Token Tracker gateway": (ours.url, key),
            "bare LiteLLM proxy": (litellm.url, LITELLM_KEY),
        }
        results = measure(targets, directory)
        report(results, list(targets))
        answered = sum(m.calls for (who, _), runs in results.items() for m in runs if who == "Token Tracker gateway")
        check_books(ledger, answered)
        print("\n| process | memory MB |\n| --- | ---: |")
        for who, pid in {**ours.pids, **litellm.pids}.items():
            print(f"| {who} | {rss_mb(pid):.0f} |")
        print(
            f"\nStart until the first answer: gateway {ours.start_s:.1f} s, bare LiteLLM proxy {litellm.start_s:.1f} s."
        )


if __name__ == "__main__":
    main()
