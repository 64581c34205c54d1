"""The API as it is served: a real gunicorn, asked over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tests import leaks
from tests.ports import free_port
from token_tracker.database.session import transaction
from token_tracker.services.accounts import create_user

PASSWORD = "correct horse battery"
START = datetime(2026, 3, 1, tzinfo=UTC)


class Served:
    """One gunicorn and what to ask it."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port, self.process = port, process

    def ask(self, method: str, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
        """Status and decoded JSON, or text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            leaks.answered(f"{method} {path}", answer.status, body, text.encode())
            return answer.status, json.loads(text) if answer.headers.get_content_subtype() == "json" else text
        finally:
            connection.close()

    def is_up(self) -> bool:
        assert self.process.poll() is None, "gunicorn ended"
        try:
            return self.ask("GET", "/api/health")[0] == 200
        except OSError:
            return False

    def peak_mib(self) -> int:
        """The most memory that gunicorn's worker ever held."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        peaks = [re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()) for pid in children]
        return max(int(peak.group(1)) for peak in peaks if peak) // 1024


@contextmanager
def gunicorn(directory: Path, database_url: str) -> Iterator[Served]:
    port = free_port()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_TRACKER_")}
    settings = {"DATABASE_URL": database_url, "TOKEN_TRACKER_DATA_DIR": str(directory / "data")}
    command = [sys.executable, "-m", "gunicorn", "token_tracker.api.app:create_app()", "--bind", f"127.0.0.1:{port}"]
    command += ["--worker-class", "gthread", "--threads", "4", "--no-control-socket"]
    root = str(Path(__file__).resolve().parents[2])
    environment = {**inherited, **settings, "PYTHONPATH": root}
    with leaks.output("gunicorn").open("w") as log:
        process = subprocess.Popen(command, cwd=directory, env=environment, stderr=log)
    try:
        served = Served(port, process)
        until = time.monotonic() + 20
        while not served.is_up():
            assert time.monotonic() < until, "the API did not answer within 20 s"
            time.sleep(0.05)
        yield served
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        leaks.kept(directory / "data")


@pytest.fixture
def served(tmp_path: Path, laid_url: str) -> Iterator[Served]:
    with gunicorn(tmp_path, laid_url) as running:
        yield running


def logged_in(served: Served, engine: Engine) -> str:
    with transaction(engine) as session:
        create_user(session, name="root", password=PASSWORD, role="admin", at=datetime.now(UTC))
    status, tokens = served.ask("POST", "/api/auth/login", {"username": "root", "password": PASSWORD})
    assert status == 200
    return str(tokens["access_token"])


def test_a_login_a_key_and_an_export_of_fifteen_thousand_rows_in_flat_memory(
    served: Served, engine: Engine, booked: Callable[[Iterable[dict[str, Any]]], None]
) -> None:
    token = logged_in(served, engine)
    assert served.ask("POST", "/api/keys", {"name": "x"}, token)[0] == 201
    for first in range(0, 15_000, 500):
        booked(
            {"id": f"{n:06d}", "timestamp": START + timedelta(seconds=n), "cost_nano_usd": n}
            for n in range(first, first + 500)
        )
    assert len(served.ask("GET", "/api/token-usage?limit=1000", token=token)[1]["items"]) == 1000
    before = served.peak_mib()
    status, text = served.ask("GET", "/api/token-usage?format=jsonl", token=token)
    assert status == 200
    assert [json.loads(line)["id"] for line in text.splitlines()] == [f"{n:06d}" for n in reversed(range(15_000))]
    assert len(text) > 10_000_000
    assert served.peak_mib() - before < 12
    totals = served.ask("GET", "/api/token-usage/summary", token=token)[1]["totals"]
    assert (totals["calls"], totals["cost_usd"]) == (15_000, "0.112492500")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_body_of_unknown_length_is_bounded_too(served: Served) -> None:
    head = "POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += "Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b"a" * 65_536 + b"\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as client:
        client.sendall(head.encode() + chunk * 5)  # one more than the bound, and no end
        answer = client.recv(65_536).decode()
    assert answer.startswith("HTTP/1.1 413 ")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_tokens_outlive_a_restart_because_the_secret_is_kept(tmp_path: Path, laid_url: str, engine: Engine) -> None:
    with gunicorn(tmp_path, laid_url) as first:
        token = logged_in(first, engine)
    assert (tmp_path / "data" / "secret_key").stat().st_mode & 0o777 == 0o600
    with gunicorn(tmp_path, laid_url) as second:
        assert second.ask("GET", "/api/keys", token=token)[0] == 200
