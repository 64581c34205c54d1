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
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from benchmarks import desk, parts
from benchmarks.apparatus import Bench, say
from benchmarks.load import Target
from benchmarks.servers import module, nginx

PARTS = (*parts.GATEWAY, "ledger")


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
            parts.GATEWAY[part](bench)
        return bench.figures


def ledger(directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The API over many rows: on SQLite, and on PostgreSQL where a URL of an empty database is given."""
    urls = options.database or [f"sqlite:///{directory / 'ledger.db'}"]
    return {make_url(url).get_backend_name(): desk.measure(directory, url, options.rows, say) for url in urls}


if __name__ == "__main__":
    main()
