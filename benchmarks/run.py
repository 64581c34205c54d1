"""`make bench`: the gateway with full accounting beside a plain pass-through, nginx and a bare LiteLLM proxy.

All in one run on one machine, the rounds interleaved and the median taken, so that ratios mean something even where the
machine has other things to do. Full accounting: key check, the gate's place, journal, recorder to SQLite, metrics.
`--part NAME` runs one part (`ledger`: the API over `--rows` rows in each `--database`), `--quick` shorter and fewer
rounds, `--json FILE` writes the figures.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from benchmarks import desk
from benchmarks.gateway import RULES, House, books, gateway
from benchmarks.load import Measured, Target, wrk
from benchmarks.servers import LITELLM_KEY, bare_litellm, cpu_s, module, nginx, rss_mb

OURS, CEILING, LIMIT, DIRECT, LITELLM = "Token Tracker", "ceiling", "nginx proxy", "upstream itself", "LiteLLM proxy"
CONNECTIONS = (1, 16, 64)
PARTS = ("calls", "large", "rules", "memory", "streams", "translating", "sustained", "ledger")


@dataclass
class Bench:
    """What a run has: where, how long, and what was found."""

    directory: Path
    rounds: int
    seconds: int
    upstream: str
    limit: str
    ceiling: Target
    ceiling_pid: int
    streams: str
    figures: dict[str, Any] = field(default_factory=dict)

    def say(self, *lines: str) -> None:
        say(*lines)


Results = dict[tuple[str, str, int], list[Measured]]


def measured(bench: Bench, targets: dict[str, Target], kinds: tuple[str, ...], connections: tuple[int, ...]) -> Results:
    """All rounds, interleaved, so that a change of the machine's mood hits every target alike."""
    results: Results = {}
    for target in targets.values():
        for kind in kinds:
            wrk(target, kind, 4, 1, bench.directory)  # warm up
    for number in range(bench.rounds):
        for kind in kinds:
            for count in connections:
                for name, target in targets.items():
                    if name == LITELLM and number >= 3:
                        continue  # slow and steady: three rounds tell enough
                    run = wrk(target, kind, count, bench.seconds, bench.directory)
                    if run.errors:
                        raise SystemExit(f"{name}: {run.errors} calls of {kind} were not answered with 2xx")
                    results.setdefault((kind, name, count), []).append(run)
        print(f"  round {number + 1} of {bench.rounds}", file=sys.stderr, flush=True)
    return results


def median(results: Results, key: tuple[str, str, int], figure: str) -> float:
    return statistics.median(getattr(run, figure) for run in results[key])


def table(bench: Bench, results: Results, kinds: tuple[str, ...], connections: tuple[int, ...]) -> None:
    head = "| calls | connections | | calls/s | of the ceiling | × LiteLLM | p50 ms | p99 ms |"
    bench.say("", head, "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    for kind in kinds:
        for count in connections:
            for name in (DIRECT, LIMIT, CEILING, OURS, LITELLM):
                key = (kind, name, count)
                if key not in results:
                    continue
                rate = median(results, key, "calls_per_s")
                ceiling = median(results, (kind, CEILING, count), "calls_per_s")
                slow = results.get((kind, LITELLM, count))
                slowest = statistics.median(r.calls_per_s for r in slow) if slow else 0.0
                times = f"{rate / slowest:.1f}" if slowest else ""  # a round may be too short for any of its streams
                p50, p99 = median(results, key, "p50_ms"), median(results, key, "p99_ms")
                share = f"{rate / ceiling:.2f}"
                bench.say(f"| {kind} | {count} | {name} | {rate:,.0f} | {share} | {times} | {p50:.2f} | {p99:.2f} |")
                bench.figures[f"{kind}/{count}/{name}"] = {"calls_per_s": rate, "p50_ms": p50, "p99_ms": p99}


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
    import time
    import urllib.error
    import urllib.request

    from benchmarks.load import TRANSLATED

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


def ledger(directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The API over many rows: on SQLite, and on PostgreSQL where a URL of an empty database is given."""
    urls = options.database or [f"sqlite:///{directory / 'ledger.db'}"]
    return {make_url(url).get_backend_name(): desk.measure(directory, url, options.rows, say) for url in urls}


def say(*lines: str) -> None:
    print("\n".join(lines), flush=True)


def check_books(bench: Bench, house: House, answered: int) -> None:
    found = books(house.ledger, answered)
    bench.say(
        "",
        f"Books: {answered:,} answered calls; {found.calls:,} in the ledger {found.behind_s:.1f} s later (with "
        f"warm-up and what wrk cut off at a round's end): {max(0, answered - found.calls)} lost, "
        f"{found.doubled} doubled; roll-ups {found.summed:,}.",
    )
    bench.figures.setdefault("books", []).append(asdict(found) | {"answered": answered})
    if found.calls < answered or found.doubled or found.summed != found.calls:
        raise SystemExit("The books do not hold every answered call once.")


@contextmanager
def started(bench: Bench, rules: str = "", redis: str = "", *, translates: bool = False) -> Iterator[House]:
    number = sum(1 for entry in bench.directory.iterdir() if entry.name.startswith("house"))
    place = bench.directory / f"house{number}"
    with gateway(place, bench.upstream, bench.streams, rules, redis, translates) as house:
        yield house


@contextmanager
def redis_server(bench: Bench) -> Iterator[str]:
    from benchmarks.servers import free_port, process

    port = free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--dir", str(bench.directory)]
    with process(command, {}, bench.directory, "redis"):
        yield f"redis://127.0.0.1:{port}/0"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the gateway beside others, in one run.")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; may come several times")
    parser.add_argument("--quick", action="store_true", help="two short rounds instead of five")
    parser.add_argument("--rounds", type=int, help="how many rounds (5), of which the median is taken")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the ledger (1,000,000), where it has none yet")
    parser.add_argument(
        "--database", action="append", metavar="URL", help="for the ledger; may come several times (SQLite)"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    chosen = options.part or list(PARTS)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="tt-bench-") as name:
        if set(chosen) - {"ledger"}:
            figures = gateway_parts(Path(name), [part for part in chosen if part != "ledger"], options)
        if "ledger" in chosen:
            print("ledger …", file=sys.stderr, flush=True)
            figures["ledger"] = ledger(Path(name), options)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


def gateway_parts(directory: Path, chosen: list[str], options: argparse.Namespace) -> dict[str, Any]:
    missing = [tool for tool in ("nginx", "wrk") if not shutil.which(tool)]
    if missing:
        raise SystemExit(f"make bench needs {' and '.join(missing)}. On Debian or Ubuntu: apt install nginx-light wrk")
    parts: dict[str, Callable[[Bench], None]] = {
        "calls": calls,
        "large": large,
        "rules": rules,
        "memory": memory,
        "streams": streams,
        "translating": translating,
        "sustained": sustained,
    }
    with ExitStack() as stack:
        upstream, limit = stack.enter_context(nginx(directory))
        ceiling = stack.enter_context(module("ceiling", directory, upstream.url))
        slow = stack.enter_context(module("upstream", directory))
        target = Target(ceiling.url, separate_stream=True)
        rounds, seconds = (2, 2) if options.quick else (5, 4)
        rounds = options.rounds or rounds
        bench = Bench(directory, rounds, seconds, upstream.url, limit, target, ceiling.pids["ceiling"], slow.url)
        for part in chosen:
            print(f"{part} …", file=sys.stderr, flush=True)
            parts[part](bench)
        return bench.figures


if __name__ == "__main__":
    main()
