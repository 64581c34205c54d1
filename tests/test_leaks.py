"""The search for secrets at the end of a run finds what is there, and lets the one answer pass that shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import leaks


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From what the run itself made."""
    for name, empty in (("_made", {}), ("_looked_at", []), ("_found", set())):
        monkeypatch.setattr(leaks, name, empty)
    written = tmp_path / "written"
    written.mkdir()
    monkeypatch.setattr(leaks, "WRITTEN", written)


def test_a_printed_secret_is_found_with_its_kind_and_the_file() -> None:
    log = leaks.output("printed")
    leaks.settings({"SMTP_PASSWORD": "open sesame", "TOKEN_TRACKER_API_PORT": "5000"})
    log.write_text("starting\nlogin failed for 'open sesame'\n")
    assert leaks.end() == (1, 1, 40, [f"value of SMTP_PASSWORD in {log}"])


def test_the_answer_that_shows_a_key_is_its_only_one() -> None:
    leaks.answered("POST /api/keys", 201, {"name": "k"}, json.dumps({"id": "1", "key": "sk-tt-abcdefgh"}).encode())
    assert leaks.end().found == []
    leaks.answered("GET /api/keys/1", 200, None, json.dumps({"id": "1", "name": "sk-tt-abcdefgh"}).encode())
    assert leaks.end().found == [f"virtual key in {leaks.WRITTEN / 'answers.log'}"]


def test_what_a_process_keeps_is_searched_and_its_own_key_file_is_for_nobody_else(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "secret_key").write_text("0123456789abcdef")
    (data / "secret_key").chmod(0o640)
    (data / "journal").write_bytes(b"\x00\x01 0123456789abcdef \xff")
    leaks.kept(data)
    assert leaks.end().found == [
        f"secret_key in {data / 'journal'}",
        f"secret_key may be read by others: {data / 'secret_key'}",
    ]
