"""One chaos run, and `make chaos`: an installation under calls and faults, then its books against the provider's own.

python -m tests.chaos.run [--seconds 60] [--seed 1] [--database sqlite|postgresql|both]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.clients import DRAIN_S, Crowd
from tests.chaos.faults import Havoc, segments
from tests.chaos.judge import Verdict, Witness, judge
from tests.chaos.plan import FAULTS, faults
from tests.functional.books import Ledger, entries_of, incarnations
from tests.functional.house import RATES, UPSTREAM_KEY
from tests.functional.installation import Installation, wait_until
from tests.functional.outages import outage_of
from tests.functional.provider_books import FakeProvider
from token_tracker.proxy.books.status import read_recorder_status

TIMEOUT_S = 2  # of the gateway, for a first byte and between two
SETTLED_S = 60


@dataclass(frozen=True, slots=True)
class Outcome:
    """`problems`: all that contradicts law 1, in words; empty after a run that lost and doubled nothing."""

    seed: int
    backend: str
    calls: int
    faults: Counter[str]
    kills: dict[str, int]
    left: int
    refused: int
    replayed_bytes: int
    verdict: Verdict
    problems: list[str]

    def line(self) -> str:
        verdict, kills = self.verdict, ", ".join(f"{count} {name}" for name, count in sorted(self.kills.items()))
        return (
            f"seed {self.seed} on {self.backend}: {self.calls} calls, {self.left} left by their clients; kills: "
            f"{kills or 'none'}; served {verdict.served}, lost {len(verdict.lost)}, doubled {len(verdict.doubled)}, "
            f"invented {len(verdict.invented)}, unequal {len(verdict.unequal)}; usage proven on {verdict.proven} rows, "
            f"{verdict.extra_crashes} crash rows that nobody served, {verdict.uncertain} estimates of translated "
            "calls cut off on their way"
        )


def configuration(provider: FakeProvider) -> dict[str, Any]:
    """Names of one provider in both formats: what an endpoint does not speak is translated."""

    def entry(name: str, model: str, base: str, **more: Any) -> dict[str, Any]:
        params = {"model": model, "api_base": base, "api_key": UPSTREAM_KEY, "cooldown_time": 0, **RATES, **more}
        return {"model_name": name, "litellm_params": params}

    return {
        "model_list": [
            entry("fake-*", "openai/fake-*", provider.openai_base),
            entry("claude-*", "anthropic/fake-*", provider.url),
            entry("retried", "openai/fake-500", provider.openai_base, order=1),
            entry("retried", "openai/fake-slow-20ms", provider.openai_base, order=2),
            entry("dead", "openai/nobody-listens", "http://127.0.0.1:1/v1"),
        ],
        "gateway": {
            "first_byte_timeout_s": TIMEOUT_S,
            "idle_timeout_s": TIMEOUT_S,
            "drain_timeout_s": DRAIN_S,
            "evidence_wait_s": 2,
        },
    }


def campaign(
    directory: Path, database_url: str, provider: FakeProvider, *, seed: int, seconds: float, names: tuple[str, ...]
) -> Outcome:
    """Calls and faults for `seconds` (at least every fault of `names` once), then peace, then the judgement."""
    outage = outage_of(database_url)
    installation = Installation(directory, configuration(provider), outage.url)
    name = f"chaos{seed}-{time.time_ns():x}"
    struck = Counter[str]()
    try:
        with installation.start("proxy", timeout_s=60):
            wait_until(lambda: child_answers(installation), 60, "the LiteLLM child")
            with Crowd(installation, seed, name) as crowd:
                havoc = Havoc(installation, outage, database_url, crowd)
                until_s = time.monotonic() + seconds
                for fault, draw in faults(seed, names):
                    if time.monotonic() > until_s and len(struck) == len(names):
                        break
                    time.sleep(draw.uniform(0.2, 1.5))
                    havoc.strike(fault, draw)
                    struck[fault] += 1
            ledger = Ledger(database_url)
            problems = havoc.problems + settle(installation, ledger, provider, name)
            problems += replay_copies(installation, ledger)
        problems += [f"left in the journal: {path.name}" for path in segments(installation) if path.suffix == ".torn"]
        witness = Witness(
            complete=frozenset(each.marker for each in crowd.seen if each.is_complete),
            at_kill=frozenset().union(*map(crowd.in_flight, havoc.moments)),
            at_child_kill=frozenset().union(*map(crowd.in_flight, havoc.child_moments)),
            left=frozenset(crowd.departures),
        )
        rows, hours = ledger.table("token_usage"), ledger.table("usage_hourly")
        verdict = judge(rows, hours, entries_of(provider, name), witness)
        problems += verdict.problems
    finally:
        outage.close()
    return Outcome(
        seed,
        database_url.partition(":")[0].partition("+")[0],
        len(crowd.seen),
        struck,
        havoc.kills,
        len(crowd.departures),
        havoc.refused,
        havoc.replayed_bytes,
        verdict,
        problems,
    )


def child_answers(installation: Installation) -> bool:
    """No reason in /health/ready names the LiteLLM child."""
    try:
        status, _, body = installation.call("GET", f"{installation.proxy_url}/health/ready")
    except OSError:
        return False
    return status == 200 and b"LiteLLM" not in body


def settle(installation: Installation, ledger: Ledger, provider: FakeProvider, name: str) -> list[str]:
    """Wait until nothing is open or unbooked any more; what is still so after a minute, in words."""

    def is_settled() -> bool:
        if any(entry["is_open"] for entry in entries_of(provider, name + "-")) or len(incarnations(installation)) > 1:
            return False
        status = read_recorder_status(installation.data_dir / "recorder.json")
        return status is not None and status.is_database_ok and not status.backlog_bytes and not ledger_moves()

    def ledger_moves() -> bool:
        before = len(ledger.table("token_usage"))
        time.sleep(1.2)  # the recorder says once a second how much is left
        return before != len(ledger.table("token_usage"))

    try:
        wait_until(is_settled, SETTLED_S, "a booked journal")
    except AssertionError as late:
        return [f"{late}; segments {[path.name for path in segments(installation)]}"]
    return []


def replay_copies(installation: Installation, ledger: Ledger) -> list[str]:
    """The whole journal once more, as a dead worker's: nothing of it may be booked again."""
    before = sorted(ledger.table("token_usage"), key=lambda row: str(row["id"])), ledger.table("usage_hourly")
    for path in segments(installation):
        copy = path.with_name(f"{0xC0FFEE:08x}-{path.name.rpartition('-')[2]}")
        fresh = copy.with_name(f".copy-{copy.name}")
        shutil.copy(path, fresh)
        fresh.rename(copy)
    try:
        wait_until(lambda: len(incarnations(installation)) == 1, SETTLED_S, "the copied segments booked and removed")
    except AssertionError as late:
        return [str(late)]
    after = sorted(ledger.table("token_usage"), key=lambda row: str(row["id"])), ledger.table("usage_hourly")
    return [] if before == after else ["a copy of the journal changed the ledger"]


def table(outcomes: list[Outcome]) -> str:
    """For the README, in Markdown."""
    head = "| | " + " | ".join(outcome.backend for outcome in outcomes) + " |"
    lines = [head, "| --- |" + " ---: |" * len(outcomes)]

    def line(name: str, values: list[int]) -> None:
        lines.append(f"| {name} | " + " | ".join(f"{value:,}" for value in values) + " |")

    line("calls", [each.calls for each in outcomes])
    line("left by their clients", [each.left for each in outcomes])
    for fault in FAULTS:
        line(fault, [each.faults[fault] for each in outcomes])
    line("served by the provider", [each.verdict.served for each in outcomes])
    line("**lost**", [len(each.verdict.lost) for each in outcomes])
    line("**doubled**", [len(each.verdict.doubled) for each in outcomes])
    line("rows that contradict the provider's books", [len(each.verdict.unequal) for each in outcomes])
    line("rows whose tokens and cost were compared", [each.verdict.proven for each in outcomes])
    line("`crash` rows of calls that nobody served", [each.verdict.extra_crashes for each in outcomes])
    line("estimates of translated calls cut off on their way", [each.verdict.uncertain for each in outcomes])
    return "\n".join(lines)


def main() -> int:
    from tests import conftest  # it makes databases; imported here, as it also sets a signal's handler

    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=60)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    options = arguments.parse_args()
    backends = ["sqlite", "postgresql"] if options.database == "both" else [options.database]
    outcomes = []
    for backend in backends:
        with tempfile.TemporaryDirectory(prefix="tt-") as directory, FakeProvider() as provider:
            databases = (
                conftest.SqliteDatabases(Path(directory))
                if backend == "sqlite"
                else conftest.PostgresqlDatabases(conftest.SERVER)
            )
            try:
                outcome = campaign(
                    Path(directory),
                    databases.empty(),
                    provider,
                    seed=options.seed,
                    seconds=options.seconds,
                    names=FAULTS,
                )
            finally:
                databases.drop()
        outcomes.append(outcome)
        print(outcome.line(), flush=True)
        for problem in outcome.problems:
            print(f"  {problem}", flush=True)
    print("\n" + table(outcomes))
    return 1 if any(outcome.problems for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
