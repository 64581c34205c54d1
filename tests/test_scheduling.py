"""A process of the tests that dies takes with it the test that killed it, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = """
import pytest
from tests.scheduling import FilesTogether

def pytest_xdist_make_scheduler(config, log):
    return FilesTogether(config, log)
"""
DEADLY = "import os\ndef test_before(): pass\ndef test_deadly(): os._exit(1)\ndef test_after(): pass\n"
SINGLE = "def test_it(): pass"
ONCE = """
import os, pathlib
def test_deadly_once():
    mark = pathlib.Path(__file__).with_suffix(".tried")
    if not mark.exists():
        mark.touch()
        os._exit(1)
"""


@pytest.mark.parametrize(
    ("files", "more", "told"),
    [
        (
            {"deadly": DEADLY, **{f"single_{each}": SINGLE for each in range(9)}},
            [],
            "1 failed, 11 passed",
        ),
        ({"once": ONCE, "other": SINGLE}, ["--reruns", "1"], "2 passed, 1 rerun"),
        ({"deadly": DEADLY}, ["--reruns", "1"], "1 failed, 2 passed, 1 rerun"),
    ],
)
def test_what_a_dead_process_left_is_done_by_others(
    tmp_path: Path, files: dict[str, str], more: list[str], told: str
) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for name, text in files.items():
        (tmp_path / f"test_{name}.py").write_text(text)
    asked = f"-q -n 2 --dist loadfile -p no:cacheprovider -p no:dash -c /dev/null --rootdir {tmp_path}".split()
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *asked, *more, str(tmp_path)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told in run.stdout.splitlines()[-1], run.stdout + run.stderr
