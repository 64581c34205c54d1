"""`token-tracker …` as somebody types it, in the environment of an installation."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, NamedTuple

from tests.functional.installation import Installation


class Said(NamedTuple):
    """What a command gave back."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def typed(installation: Installation, *words: str, stdin: str = "", **environ: str) -> Said:
    """Run a command to its end."""
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:token_tracker", "-m", "token_tracker.run", *words],
        env=installation.environment | environ,
        cwd=installation.directory,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=90,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def must(installation: Installation, *words: str, **more: str) -> Said:
    """Run a command that must not fail."""
    said = typed(installation, *words, **more)
    assert said.code == 0, said
    return said
