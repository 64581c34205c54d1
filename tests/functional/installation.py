"""A whole installation for a test: real processes on free ports, a data directory of its own, ended with the test."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests import leaks
from tests.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
DEMO_MODEL = {
    "model_name": "demo",
    "litellm_params": {"model": "demo/echo", "input_cost_per_token": 0.000001, "output_cost_per_token": 0.000002},
}


def wait_until(condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """The first true value of `condition`, polled; an AssertionError naming `what` after `timeout_s`."""
    until = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < until, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.05)


class Installation:
    """`python -m token_tracker.run <what>` with a configuration of its own.

    `database_url`: '' for SQLite in the data directory. `printed` is all that the processes wrote so far.
    """

    def __init__(self, directory: Path, config: Mapping[str, Any] | None = None, database_url: str = "", **env: str):
        self.directory = directory
        self.data_dir = directory / "data"
        self.config_path = directory / "proxy.yaml"
        # JSON is YAML; floats keep their text.
        self.config_path.write_text(json.dumps(config or {"model_list": [DEMO_MODEL]}))
        proxy, api, dashboard = free_ports(3)
        self.proxy_url, self.api_url = f"http://127.0.0.1:{proxy}", f"http://127.0.0.1:{api}"
        self.dashboard_url = f"http://127.0.0.1:{dashboard}"
        self.admin_password = "a-password-of-this-test"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("TOKEN_TRACKER_") and "_API_KEY" not in k}
        self.environment = {
            **inherited,
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": database_url,
            "TOKEN_TRACKER_CONFIG": str(self.config_path),
            "TOKEN_TRACKER_DATA_DIR": str(self.data_dir),
            "TOKEN_TRACKER_PROXY_PORT": str(proxy),
            "TOKEN_TRACKER_API_PORT": str(api),
            "TOKEN_TRACKER_DASHBOARD_PORT": str(dashboard),
            "TOKEN_TRACKER_ADMIN_PASSWORD": self.admin_password,
            **env,
        }
        leaks.settings({"ADMIN_PASSWORD": self.admin_password, **env}, config)
        self.printed = ""
        self.key = ""
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def initialise(self) -> dict[str, Any]:
        """`database.init --json`; keeps the first key."""
        command = [sys.executable, "-m", "token_tracker.database.init", "--json"]
        made = subprocess.run(
            command, env=self.environment, cwd=self.directory, capture_output=True, text=True, check=True, timeout=60
        )
        result: dict[str, Any] = json.loads(made.stdout.strip().splitlines()[-1])
        self.key = result["first_key"] or self.key
        return result

    def start(self, what: str = "all", timeout_s: float = 40) -> Installation:
        """Start and wait until everything answers."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "token_tracker.run", what],
            env=self.environment,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        try:
            wait_until(lambda: self._is_up(what), timeout_s, f"start of {what}")
        except AssertionError as late:
            if self._process.poll() is None:
                self._process.kill()  # its children end with it
            self.stop()
            raise AssertionError(f"{late}; it printed:\n{self.printed[-4000:]}") from None
        if what in ("all", "proxy") and not self.key:
            self.key = self._announced_key()
        return self

    def _announced_key(self, timeout_s: float = 5) -> str:
        """The first key, as a person reads it; '' where this start made none (the text then comes without one)."""
        until = time.monotonic() + timeout_s
        while "Token Tracker is running" not in self.printed and time.monotonic() < until:
            time.sleep(0.05)
        found = re.search(r"sk-tt-[\w-]+", self.printed)
        return found.group(0) if found else ""

    def stop(self, sent: int = signal.SIGINT, timeout_s: float = 15) -> int:
        """End it; gives the exit code."""
        process = self._process
        assert process is not None and self._reader is not None
        if process.poll() is None:
            process.send_signal(sent)
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        finally:
            self._reader.join(5)
            if process.stdout is not None:
                process.stdout.close()
            self._process = None
            self._keep_what_it_wrote()
        return code

    def _keep_what_it_wrote(self) -> None:
        """The first key is printed this once, and in the `curl` line below; so is a generated password."""
        leaks.secret("virtual key", self.key)
        shown = self.printed.replace(self.key, "(shown once)", 2) if self.key else self.printed
        shown = re.sub(r"(?<=password: )\S+", "(shown once)", shown, count=1)
        leaks.output("printed").write_text(shown)
        leaks.kept(self.data_dir)

    def __enter__(self) -> Installation:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def child_pids(self, subcommand: str) -> list[int]:
        """Processes of this installation that run `subcommand` (Linux)."""
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                words = (status.parent / "cmdline").read_bytes().split(b"\0")
                parent = int(status.read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, ValueError):
                continue
            if parent == self.pid and subcommand.encode() in words:
                found.append(int(status.parent.name))
        return found

    def call(
        self, method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One HTTP request with JSON in; gives status, headers and bytes, also of errors."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, method=method, headers=dict(headers or {}))
        if data is not None:
            request.add_header("content-type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                got = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                got = error.code, error.headers, error.read()
        leaks.answered(f"{method} {url}", got[0], body, got[2])
        return got

    def chat(self, model: str = "demo", text: str = "Hello there", **more: Any) -> tuple[int, Mapping[str, str], bytes]:
        """One chat completion with this installation's key."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
        headers = {"authorization": f"Bearer {self.key}"}
        return self.call("POST", f"{self.proxy_url}/v1/chat/completions", body, headers)

    def login(self, username: str = "admin", password: str | None = None) -> dict[str, str]:
        """Authorization headers for the API."""
        credentials = {"username": username, "password": password or self.admin_password}
        status, _, body = self.call("POST", f"{self.api_url}/api/auth/login", credentials)
        assert status == 200, body
        return {"authorization": f"Bearer {json.loads(body)['access_token']}"}

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.printed += line

    def _is_up(self, what: str) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"it ended with {self._process.returncode}"
        ready = {"proxy": self._proxy_ready, "api": self._api_ready, "dashboard": self._dashboard_ready}
        if what in ready:
            return ready[what]()
        if what == "all":
            return all(check() for check in ready.values())
        return True

    def _proxy_ready(self) -> bool:
        return self._answers(f"{self.proxy_url}/health/ready")

    def _api_ready(self) -> bool:
        return self._answers(f"{self.api_url}/api/health")

    def _dashboard_ready(self) -> bool:
        return self._answers(f"{self.dashboard_url}/login")

    def _answers(self, url: str) -> bool:
        try:
            return self.call("GET", url)[0] == 200
        except OSError:
            return False
