"""What all parts of `make bench` work with: interleaved rounds, their medians and tables, and a house on SQLite."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gateway import House, books, gateway
from benchmarks.load import Measured, Target, wrk
from benchmarks.servers import free_port, process

OURS, CEILING, LIMIT, DIRECT, LITELLM = "Token Tracker", "ceiling", "nginx proxy", "upstream itself", "LiteLLM proxy"
CONNECTIONS = (1, 16, 64)


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
    port = free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--dir", str(bench.directory)]
    with process(command, {}, bench.directory, "redis"):
        yield f"redis://127.0.0.1:{port}/0"
