"""`run all` as a newcomer has it: what it prints, what it repairs, how it ends, and what stops it at the start."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.functional.installation import DEMO_MODEL, Installation, wait_until

CHILDREN = {"gateway", "recorder", "demo", "api", "dashboard", "worker"}


def shows_text(installation: Installation) -> bool:
    return "Token Tracker is running" in installation.printed and "there?" in installation.printed


def running(installation: Installation) -> dict[str, int]:
    """One process each, by what it runs."""
    found = {name: installation.child_pids(name) for name in (*CHILDREN, "litellm")}
    return {name: pids[0] for name, pids in found.items() if pids}


def ends_of(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids)


def test_a_first_start_a_repair_an_end_and_a_second_start(tmp_path: Path) -> None:
    with Installation(tmp_path, TOKEN_TRACKER_ADMIN_PASSWORD="") as installation:
        began_s = time.monotonic()
        installation.start()
        wait_until(lambda: shows_text(installation), 20, "the text")
        assert time.monotonic() - began_s < 20
        assert set(running(installation)) == CHILDREN  # LiteLLM is not started for the demo model alone
        text = installation.printed
        command = text[text.index("  curl ") :].split("\n\n")[0].strip()
        answer = subprocess.run(
            ["bash", "-c", command + " -sS"], capture_output=True, text=True, timeout=20, check=True
        )
        assert json.loads(answer.stdout)["usage"]["total_tokens"] > 0, "the curl line works as printed"
        password = re.search(r"password: (\S+)", text)
        assert password
        assert installation.login(password=password[1])

        for name in ("gateway", "recorder", "api"):
            os.kill(running(installation)[name], signal.SIGKILL)
        killed_s = time.monotonic()
        wait_until(lambda: installation._proxy_ready() and installation._api_ready(), 10, "the repair")
        assert time.monotonic() - killed_s < 5
        assert installation.chat()[0] == 200
        for name in ("gateway", "recorder", "api"):
            assert f"{name} was ended by SIGKILL; it is started again in 0.2 s." in installation.printed

        everybody = list(running(installation).values())
        ended_s = time.monotonic()
        assert installation.stop(signal.SIGINT) == 0
        assert time.monotonic() - ended_s < 5
        assert ends_of(everybody)

        secrets = [password[1], installation.key]
        installation.printed = ""
        installation.start()
        wait_until(lambda: shows_text(installation), 20, "the text")
        assert not any(secret in installation.printed for secret in secrets)
        assert "--reset-admin-password" in installation.printed
        assert installation.chat()[0] == 200
        command = next(line for line in installation.printed.splitlines() if "A new key" in line).partition("key  ")[2]
        made = subprocess.run(
            ["bash", "-c", command],
            env=installation.environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        installation.key = made.stdout.strip()
        wait_until(lambda: installation.chat()[0] == 200, 5, "the new key works")
        everybody = list(running(installation).values())
        os.kill(installation.pid, signal.SIGKILL)
        wait_until(lambda: ends_of(everybody), 10, "the children's end after their supervisor was killed")


@pytest.mark.parametrize("what", ["api", "dashboard", "worker"])
def test_a_process_alone_prepares_the_database_and_ends_when_told(tmp_path: Path, what: str) -> None:
    with Installation(tmp_path) as installation:
        for first in (True, False):
            installation.printed = ""
            installation.start(what)
            wait_until(lambda: what != "worker" or "at work" in installation.printed, 20, "the worker at work")
            wait_until(lambda first=first: first_key(installation) or not first, 20, "the first key")
            assert bool(first_key(installation)) is first
            assert installation.stop(signal.SIGTERM) == 0


def test_a_port_in_use_is_named_and_nothing_starts(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    with socket.create_server(("127.0.0.1", int(installation.api_url.rpartition(":")[2]))):
        ended = run_all(installation)
    assert ended.returncode == 2
    assert "TOKEN_TRACKER_API_PORT" in ended.stderr
    assert "in use" in ended.stderr


def test_all_problems_of_a_configuration_are_named_and_nothing_starts(tmp_path: Path) -> None:
    installation = Installation(tmp_path, {"modellist": [], "gateway": {"drains": "many"}}, TOKEN_TRACKER_API_PROT="1")
    ended = run_all(installation)
    assert ended.returncode == 2
    for part in ("modellist", "gateway.drains", "TOKEN_TRACKER_API_PROT", "TOKEN_TRACKER_API_PORT"):
        assert part in ended.stderr
    assert not installation.data_dir.exists()


@pytest.mark.parametrize("module", ["run", "database.init"])
def test_ctrl_c_while_the_configuration_is_read_ends_with_one_sentence(tmp_path: Path, module: str) -> None:
    installation = Installation(tmp_path)
    installation.config_path.unlink()
    os.mkfifo(installation.config_path)
    command = [sys.executable, "-m", f"token_tracker.{module}", *(["all"] if module == "run" else [])]
    with subprocess.Popen(
        command, env=installation.environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        descriptor = wait_until(lambda: read_by_somebody(installation.config_path), 20, "it reads the configuration")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
        os.close(descriptor)
    assert process.returncode == 130
    assert said.startswith("Ended by Ctrl-C")
    assert said.count("\n") == 1


def read_by_somebody(fifo: Path) -> int | None:
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # nobody yet
        return None


def test_a_start_that_waits_for_a_locked_database_says_so_and_goes_on_when_it_is_free(tmp_path: Path) -> None:
    with Installation(tmp_path) as installation, ThreadPoolExecutor(1) as executor:
        installation.initialise()
        (file,) = installation.data_dir.glob("*.db")
        holder = sqlite3.connect(file, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        starting = executor.submit(installation.start, "proxy")
        try:
            wait_until(lambda: "waiting for the database" in installation.printed, 20, "it says what it waits for")
        finally:
            holder.rollback()
            holder.close()
        starting.result()
        assert installation.printed.count("waiting for the database") == 1


def test_a_database_that_is_away_stops_a_first_start_with_the_remedy(tmp_path: Path) -> None:
    installation = Installation(tmp_path, database_url="postgresql://someone:hunter2@127.0.0.1:1/nothing")
    ended = run_all(installation)
    assert ended.returncode == 3
    assert "DATABASE_URL" in ended.stderr
    assert "hunter2" not in ended.stderr + ended.stdout


def test_with_a_snapshot_the_gateway_serves_while_the_database_is_away(tmp_path: Path) -> None:
    with Installation(tmp_path) as installation:
        installation.start("proxy")
        wait_until(lambda: shows_text(installation) and first_key(installation), 20, "the key")
        assert installation.stop(signal.SIGTERM) == 0
        installation.environment["DATABASE_URL"] = "postgresql://127.0.0.1:1/nothing"
        installation.start("proxy")
        wait_until(lambda: installation.printed.count("Token Tracker is running") == 2, 20, "the second text")
        assert "serves from its snapshot" in installation.printed
        assert installation.chat()[0] == 200
        assert installation.stop(signal.SIGINT) == 0


def test_a_gateway_that_dies_over_a_file_just_broken_starts_with_what_was_good(tmp_path: Path) -> None:
    with Installation(tmp_path) as installation:
        installation.start("proxy")
        installation.config_path.write_text("model_list: [")
        former = running(installation)["gateway"]
        os.kill(former, signal.SIGKILL)
        wait_until(lambda: installation.child_pids("gateway") not in ([], [former]), 15, "the next gateway")
        wait_until(lambda: installation._proxy_ready() and installation.chat()[0] == 200, 15, "its answer")
        told = "started with the last configuration that could be used"
        wait_until(lambda: told in installation.printed, 10, "what it says of it")
        installation.config_path.write_text(json.dumps({"model_list": [DEMO_MODEL]}))


def test_where_the_kept_file_does_not_help_either_a_gateway_is_tried_again_until_the_file_is_good(
    tmp_path: Path,
) -> None:
    with Installation(tmp_path) as installation:
        installation.start("proxy")
        for path in (installation.config_path, installation.data_dir / "run" / "proxy.yaml"):
            path.write_text("model_list: [")
        os.kill(running(installation)["gateway"], signal.SIGKILL)
        wait_until(lambda: "gateway ended with code 2; it is started again" in installation.printed, 15, "another try")
        installation.config_path.write_text(json.dumps({"model_list": [DEMO_MODEL]}))
        wait_until(lambda: installation._proxy_ready() and installation.chat()[0] == 200, 15, "the repair")


def first_key(installation: Installation) -> str:
    found = re.search(r"sk-tt-[\w-]+", installation.printed)
    installation.key = found[0] if found else ""
    return installation.key


def run_all(installation: Installation) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "token_tracker.run", "all"],
        env=installation.environment,
        cwd=installation.directory,
        capture_output=True,
        text=True,
        timeout=30,
    )
