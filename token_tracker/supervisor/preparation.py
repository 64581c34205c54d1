"""The database is prepared by a child of its own (`database.init`), so that the supervisor stays small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

EXIT_CONFIGURATION, EXIT_DATABASE = 2, 3
_RETRY_S, _RETRY_MOST_S = 2.0, 15.0
SLOW_S = 3.0
SLOW = (
    "waiting for the database (DATABASE_URL): its tables are being made or brought up to date, another process holds "
    "it, or it does not answer."
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended. With code 0: what was made just now (secrets else None); otherwise `said` tells why."""

    code: int
    said: str = ""
    created: bool = False
    admin_password: str | None = None
    first_key: str | None = None
    warnings: tuple[str, ...] = ()


class Preparation:
    """`python -m token_tracker.database.init --json`, perhaps again and again while the database is away."""

    def __init__(self, directory: Path) -> None:
        """`directory`: for what it prints until it has ended."""
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._output: tuple[IO[bytes], IO[bytes]] | None = None
        self._retry_s = _RETRY_S
        self._slow_at_s = float("inf")
        self.restart_at_s: float | None = None

    def start(self) -> None:
        self.restart_at_s = None
        self._slow_at_s = time.monotonic() + SLOW_S
        out, error = (tempfile.TemporaryFile(dir=self._directory) for _ in range(2))  # noqa: SIM115 (kept open)
        self._output = (out, error)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "token_tracker.database.init", "--json"],
            env=os.environ,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=error,
            start_new_session=True,
        )

    def outcome(self) -> Outcome | None:
        """The outcome of a run that has just ended, once; None while it runs, or none does."""
        if self._process is None or self._process.poll() is None:
            return None
        return self._finish()

    def is_slow(self, now_s: float) -> bool:
        """True once in a run that takes longer than SLOW_S: then `SLOW` is to be said."""
        if self._process is None or now_s < self._slow_at_s:
            return False
        self._slow_at_s = float("inf")
        return True

    def wait(self) -> Outcome:
        """Wait for the run's end; say what for, if it takes long."""
        assert self._process is not None
        try:
            self._process.wait(SLOW_S)
        except subprocess.TimeoutExpired:
            print(SLOW, file=sys.stderr, flush=True)
            self._process.wait()
        return self._finish()

    def plan_retry(self, now_s: float) -> None:
        self.restart_at_s = now_s + self._retry_s
        self._retry_s = min(2 * self._retry_s, _RETRY_MOST_S)

    def kill(self) -> None:
        """It works in one transaction, so whatever was half done never happened."""
        self.restart_at_s = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._finish()

    def _finish(self) -> Outcome:
        assert self._process is not None and self._output is not None
        code, texts = self._process.returncode, []
        for file in self._output:
            file.seek(0)
            texts.append(file.read().decode(errors="replace").strip())
            file.close()
        self._process = self._output = None
        out, error = texts
        if code != 0:
            return Outcome(code, said=error or out)
        try:
            made = json.loads(out.splitlines()[-1])
            return Outcome(
                0, error, made["created"], made["admin_password"], made["first_key"], tuple(made["warnings"])
            )
        except (ValueError, LookupError, TypeError):
            return Outcome(1, said=f"database.init answered something else than one line of JSON. {error}")
