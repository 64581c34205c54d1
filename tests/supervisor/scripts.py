"""Small child processes that behave in one certain way, and waiting for conditions with a bound."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from token_tracker.supervisor.child import Child
from token_tracker.supervisor.lifeline import Lifeline

STUBBORN = "import signal, time; [signal.signal(s, signal.SIG_IGN) for s in (2, 15)]"
SLEEP = "time.sleep(60)"


def script(directory: Path, name: str, code: str, lifeline: Lifeline | None = None) -> Child:
    """A child that runs `code` (os, signal, sys, time are imported; `note(text)` appends to notes(directory)), after
    noting that it is 'up'."""
    prelude = (
        "import os, signal, subprocess, sys, time\n"
        f"def note(text): open({str(directory / 'notes')!r}, 'a').write(f'{name} {{text}}\\n')\n"
    )
    command = [sys.executable, "-c", f"{prelude}{code}"]
    return Child(name, command, {}, lifeline or Lifeline())


def notes(directory: Path) -> list[str]:
    path = directory / "notes"
    return path.read_text().splitlines() if path.exists() else []


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 10) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
