"""The parts of `make bench` that measure the gateway, each printing its own table."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

from benchmarks.apparatus import (
    CEILING,
    CONNECTIONS,
    DIRECT,
    LIMIT,
    LITELLM,
    OURS,
    Bench,
    check_books,
    measured,
    median,
    redis_server,
    started,
    table,
)
from benchmarks.gateway import RULES, House
from benchmarks.load import TRANSLATED, Target, wrk
from benchmarks.servers import LITELLM_KEY, bare_litellm, cpu_s, rss_mb


def calls(bench: Bench) -> None:
    """Plain and streamed, at 1, 16 and 64 connections."""
    with started(bench) as house, bare_litellm(bench.directory, bench.upstream) as litellm:
        targets = {
            DIRECT: Target(bench.upstream, separate_stream=True),
            LIMIT: Target(bench.limit, separate_stream=True),
            CEILING: bench.ceiling,
            OURS: Target(house.url, house.key),
            LITELLM: Target(litellm.url, LITELLM_KEY),
        }
        results = measured(bench, targets, ("plain", "stream"), CONNECTIONS)
        table(bench, results, ("plain", "stream"), CONNECTIONS)
        for kind in ("plain", "stream"):
            added = {
                name: median(results, (kind, name, 1), "p50_ms") - median(results, (kind, DIRECT, 1), "p50_ms")
                for name in (CEILING, OURS, LITELLM)
            }
            texts = ", ".join(f"{name} {value:.2f} ms" for name, value in added.items())
            bench.say("", f"Added p50 at one connection, {kind}: {texts}.")
            bench.figures[f"added p50/{kind}"] = added
        cpu(bench, house)
        answered = sum(run.calls for (_, name, _), runs in results.items() for run in runs if name == OURS)
        check_books(bench, house, answered)


def cpu(bench: Bench, house: House) -> None:
    """Processor time for a call, of the gateway's process and the ceiling's: steadier than the clock on the wall."""
    for kind in ("plain", "stream"):
        spent = {}
        pids = (
            (CEILING, bench.ceiling, bench.ceiling_pid),
            (OURS, Target(house.url, house.key), house.running.pids["gateway"]),
        )
        for name, target, pid in pids:
            before = cpu_s(pid)
            run = wrk(target, kind, 16, bench.seconds, bench.directory)
            spent[name] = (cpu_s(pid) - before) / run.calls * 1e6
        texts = ", ".join(f"{name} {value:.0f} µs" for name, value in spent.items())
        bench.say("", f"Processor time a call at 16 connections, {kind}: {texts}.")
        bench.figures[f"cpu µs/{kind}"] = spent


def large(bench: Bench) -> None:
    """A body of 1 MB."""
    with started(bench) as house:
        targets = {DIRECT: Target(bench.upstream), CEILING: bench.ceiling, OURS: Target(house.url, house.key)}
        results = measured(bench, targets, ("1 MB",), (1, 16))
        table(bench, results, ("1 MB",), (1, 16))


def rules(bench: Bench) -> None:
    """Six rules on each call: two hard budgets, three rates and concurrency; in memory, and in Redis."""
    with ExitStack() as stack:
        houses = {"no rules": stack.enter_context(started(bench)), "memory": stack.enter_context(started(bench, RULES))}
        if shutil.which("redis-server"):
            redis = stack.enter_context(redis_server(bench))
            houses["Redis"] = stack.enter_context(started(bench, RULES, redis))
        targets = {name: Target(house.url, house.key) for name, house in houses.items()}
        results = measured(bench, targets, ("plain",), (1, 16))
        bench.say(
            "", "| six rules | connections | calls/s | of no rules | p50 ms |", "| --- | ---: | ---: | ---: | ---: |"
        )
        for count in (1, 16):
            base = median(results, ("plain", "no rules", count), "calls_per_s")
            for name in targets:
                rate, p50 = (median(results, ("plain", name, count), each) for each in ("calls_per_s", "p50_ms"))
                bench.say(f"| {name} | {count} | {rate:,.0f} | {rate / base:.2f} | {p50:.2f} |")
                bench.figures[f"rules/{count}/{name}"] = {"calls_per_s": rate, "p50_ms": p50}


def memory(bench: Bench) -> None:
    """The gateway's memory idle, after 20,000 and after 200,000 calls."""
    with started(bench) as house:
        pid, target, found = house.running.pids["gateway"], Target(house.url, house.key), {}
        found["idle"] = rss_mb(pid)
        done = 0
        for aim in (20_000, 200_000):
            while done < aim:
                done += wrk(target, "plain", 16, max(1, min(10, (aim - done) // 3000 + 1)), bench.directory).calls
            found[f"{aim:,} calls"] = rss_mb(pid)
        found["recorder"] = rss_mb(house.running.pids["recorder"])
        bench.say(
            "", "Memory of the gateway: " + ", ".join(f"{name} {value:.0f} MB" for name, value in found.items()) + "."
        )
        bench.figures["memory MB"] = found
        check_books(bench, house, done)


def streams(bench: Bench) -> None:
    """A thousand streams at once, one event every 50 ms in each."""
    with started(bench) as house:
        pid = house.running.pids["gateway"]
        listen(house, 50)
        before = rss_mb(pid)
        found = listen(house, 1000)
        found["memory before MB"], found["memory after MB"] = before, rss_mb(pid)
        direct = json.loads(
            subprocess.run(
                [sys.executable, "-m", "benchmarks.listeners", bench.streams, "none", "1000"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        bench.figures["1,000 streams"] = found | {"without us": direct}
        bench.say(
            "",
            f"1,000 streams: {found['whole']} whole, {found['events']:,} of 100,000 events; "
            f"delay p50 {found['p50_ms']:.1f}, p99 {found['p99_ms']:.1f} ms "
            f"(without us p99 {direct['p99_ms']:.1f}); first event after "
            f"{found['first_event_p50_ms']:.0f} ms, the slowest {found['first_event_most_ms']:.0f} ms; memory "
            f"{before:.0f} to {found['memory after MB']:.0f} MB.",
        )


def listen(house: House, count: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.listeners", house.url, house.key, str(count)]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def translating(bench: Bench) -> None:
    """The direct lane while the LiteLLM child works as hard as it can."""
    with started(bench, translates=True) as house:
        target = Target(house.url, house.key)
        wait_for_child(house)
        quiet = {count: wrk(target, "plain", count, bench.seconds, bench.directory) for count in (1, 16)}
        with under_load(bench, target):
            loud = {count: wrk(target, "plain", count, bench.seconds, bench.directory) for count in (1, 16)}
            ceiling = {count: wrk(bench.ceiling, "plain", count, bench.seconds, bench.directory) for count in (1, 16)}
        bench.figures["translating"] = {
            str(count): {"quiet": asdict(quiet[count]), "loud": asdict(loud[count]), "ceiling": asdict(ceiling[count])}
            for count in (1, 16)
        }
        for count in (1, 16):
            bench.say(
                "",
                f"With the LiteLLM child under full load, {count} connections: direct lane p99 "
                f"{quiet[count].p99_ms:.2f} to {loud[count].p99_ms:.2f} ms; "
                f"the ceiling's beside the same load {ceiling[count].p99_ms:.2f} ms.",
            )


def wait_for_child(house: House) -> None:
    headers = {"Authorization": f"Bearer {house.key}", "Content-Type": "application/json"}
    until = time.monotonic() + 60
    while True:
        request = urllib.request.Request(f"{house.url}/v1/chat/completions", json.dumps(TRANSLATED).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=30):
                return
        except urllib.error.HTTPError:
            if time.monotonic() > until:
                raise SystemExit("the LiteLLM child did not start") from None
            time.sleep(0.5)


@contextmanager
def under_load(bench: Bench, target: Target) -> Iterator[None]:
    over = threading.Event()

    def load() -> None:
        while not over.is_set():
            wrk(target, "translated", 8, 2, bench.directory)

    worker = threading.Thread(target=load)
    worker.start()
    try:
        yield
    finally:
        over.set()
        worker.join()


def sustained(bench: Bench) -> None:
    """A minute at 16 connections; afterwards the books hold every answered call, and are at most 2 s behind."""
    with started(bench) as house:
        run = wrk(Target(house.url, house.key), "plain", 16, 60 if bench.rounds > 2 else 10, bench.directory)
        bench.say("", f"Sustained: {run.calls_per_s:,.0f} calls/s, p99 {run.p99_ms:.2f} ms.")
        bench.figures["sustained"] = asdict(run)
        check_books(bench, house, run.calls)


GATEWAY: Mapping[str, Callable[[Bench], None]] = {
    "calls": calls,
    "large": large,
    "rules": rules,
    "memory": memory,
    "streams": streams,
    "translating": translating,
    "sustained": sustained,
}
