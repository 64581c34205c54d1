"""`make` on a machine where something is missing: a clear word and the remedy, and nothing half-made left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def make_install(directory: Path, python: str) -> subprocess.CompletedProcess[str]:
    """`make install` into a venv under `directory`, with another Python."""
    command = ["make", "--no-print-directory", "install", f"PYTHON={python}", f"VENV={directory / 'venv'}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


def stub(directory: Path, when: str, answer: str) -> str:
    """A Python that does `answer` where its arguments contain `when`, and otherwise is the real one."""
    path = directory / "python"
    path.write_text(f'#!/bin/sh\ncase "$*" in *"{when}"*) {answer};; esac\nexec {sys.executable} "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("when", "answer", "message"),
    [
        ("import ensurepip", "exit 1", "apt install python3-venv"),
        (
            "version_info",
            f"exec {sys.executable} -c 'import sys; sys.exit(\"needs Python 3.11\")'",
            "needs Python 3.11",
        ),
    ],
)
def test_a_python_that_will_not_do_is_named_with_the_remedy(
    tmp_path: Path, when: str, answer: str, message: str
) -> None:
    ended = make_install(tmp_path, stub(tmp_path, when, answer))
    assert ended.returncode != 0
    assert message in ended.stderr
    assert not (tmp_path / "venv").exists()


def test_no_python_at_all_is_said(tmp_path: Path) -> None:
    ended = make_install(tmp_path, str(tmp_path / "python-that-is-not-there"))
    assert ended.returncode != 0
    assert "Install Python 3.11 or newer" in ended.stderr


def test_a_venv_that_fails_half_way_is_removed(tmp_path: Path) -> None:
    answer = f"mkdir -p {tmp_path / 'venv'} && exit 1"
    ended = make_install(tmp_path, stub(tmp_path, "-m venv", answer))
    assert ended.returncode != 0
    assert not (tmp_path / "venv").exists()
