"""docs/first-hour.md: its commands work as printed, one after the other, and lead where it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.functional.installation import ROOT, Installation, wait_until

pytestmark = pytest.mark.timeout(180)
PAGE = (ROOT / "docs" / "first-hour.md").read_text()
COMMANDS = [
    line.split("   #")[0].strip()
    for line in re.findall(r"^    (token-tracker .*)$", PAGE, re.MULTILINE)
    if line != "token-tracker tail"  # it goes on until Ctrl-C
]


def test_the_commands_of_the_first_hour_work_as_printed(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "token-tracker").write_text(f'#!/bin/sh\nexec {sys.executable} -m token_tracker.run "$@"\n')
    (programs / "token-tracker").chmod(0o755)
    with Installation(tmp_path).start("all") as installation:
        environment = {**installation.environment, "PATH": f"{programs}:{os.environ['PATH']}"}
        said = {}
        for command in COMMANDS:
            done = subprocess.run(
                ["sh", "-c", command], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60,
                check=False,
            )  # fmt: skip
            assert done.returncode == 0, (command, done.stdout + done.stderr)
            said[command.split("--")[0].strip()] = done.stdout
        installation.key = said["token-tracker keys create indexer"].strip()
        assert installation.key.startswith("sk-tt-")
        wait_until(lambda: installation.chat()[0] == 403, 10, "a key that may use other models only")
        assert (tmp_path / "week.csv").read_text().startswith("user,agent,")
    assert len(COMMANDS) == 8
