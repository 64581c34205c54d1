"""What the recorder says of itself in a small file, so that a gateway can answer for the books without a database."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from token_tracker.config import paths
from token_tracker.config.values import Settings

STALE_S = 5  # it reports every second; a full disk, too, shows only by its silence


class CounterFigures(msgspec.Struct, frozen=True):
    """Of budgets' counters, since the recorder's start. `drift_…`: how far off they were in all before they were
    healed; `drifts`: how often. `checked_at_us`: when one was last compared with the ledger. `building`: budgets that
    cannot be used yet."""

    building: int = 0
    checked_at_us: int = 0
    drifts: int = 0
    drift_nano_usd: int = 0
    drift_tokens: int = 0


class RecorderStatus(msgspec.Struct, frozen=True):
    """Times in Unix microseconds; 0: never. `backlog_bytes` of the journal are not in the ledger yet."""

    pid: int
    updated_at_us: int
    last_commit_us: int
    backlog_bytes: int
    is_database_ok: bool
    problem: str  # what is wrong, in words; '' if nothing
    counters: CounterFigures = CounterFigures()


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(RecorderStatus)


def status_path(settings: Settings) -> Path:
    return paths.snapshot_path(settings).with_name("recorder.json")


def write_recorder_status(path: Path, status: RecorderStatus) -> None:
    """Replace the file in one step. Raises OSError."""
    fresh = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
        file.write(_encoder.encode(status))
    fresh.replace(path)


def read_recorder_status(path: Path) -> RecorderStatus | None:
    """The recorder's last word; None if it never said anything. One small read: cheap enough for every health check."""
    try:
        return _decoder.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return None


def recorder_problems(path: Path, now_us: int) -> list[str]:
    """What is wrong with the books, in words for /health/ready; empty while calls reach the ledger at once."""
    status = read_recorder_status(path)
    if status is None:
        return ["the recorder has not reported yet; calls are kept in the journal"]
    silent_s = (now_us - status.updated_at_us) // 1_000_000
    if silent_s > STALE_S:
        return [f"the recorder has said nothing for {silent_s} s; calls are kept in the journal"]
    if status.problem:
        return [f"{status.problem}; calls are kept in the journal ({status.backlog_bytes} bytes wait)"]
    return []
