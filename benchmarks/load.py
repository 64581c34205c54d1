"""Load by wrk, one thread, and what it said."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {key}"
wrk.body = [==[{body}]==]
"""
PLAIN = {"model": "bench", "max_tokens": 64, "messages": [{"role": "user", "content": "How many calls a second?"}]}
STREAM = PLAIN | {"model": "stream", "stream": True, "stream_options": {"include_usage": True}}
TRANSLATED = PLAIN | {"model": "translated"}
LARGE = PLAIN | {"messages": [{"role": "user", "content": "A word after a word. " * 50_000}]}  # 1 MB
KINDS = {"plain": PLAIN, "stream": STREAM, "1 MB": LARGE, "translated": TRANSLATED}


@dataclass(frozen=True)
class Target:
    """Where to send; `paths` by kind where they differ from the gateway's own."""

    url: str
    key: str = "none"
    separate_stream: bool = False

    def address(self, kind: str) -> str:
        base = "/sse" if kind == "stream" and self.separate_stream else ""
        return f"{self.url}{base}/v1/chat/completions"


@dataclass(frozen=True)
class Measured:
    calls: int
    calls_per_s: float
    p50_ms: float
    p99_ms: float
    errors: int


def wrk(target: Target, kind: str, connections: int, seconds: int, directory: Path) -> Measured:
    """One run. Raises SystemExit where wrk says something unexpected."""
    script = directory / f"{kind.replace(' ', '')}-{abs(hash(target.key))}.lua"
    script.write_text(SCRIPT.format(key=target.key, body=json.dumps(KINDS[kind])))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "--latency", "-s", str(script)]
    out = subprocess.run([*command, target.address(kind)], capture_output=True, text=True, check=True).stdout
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    return Measured(
        int(_find(r"(\d+) requests in", out)),
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
