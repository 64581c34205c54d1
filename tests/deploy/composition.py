"""The services of docker-compose.yml as processes of this machine, each with exactly its command and environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from tests.deploy.compose import ROOT, environment, read, variables_of
from tests.functional.installation import wait_until
from tests.ports import free_port, free_ports

START_S = 90  # as the file's health checks say
OURS = {"proxy": "8000", "api": "5000", "dashboard": "8050"}  # and where each listens


class Composition:
    """Names of hosts become loopback, ports and directories the test's own; nothing else differs.

    `.env` is made by deploy/make-env. Redis runs the file's own command on another port, PostgreSQL is the test's.
    """

    def __init__(self, directory: Path, database_url: str) -> None:
        self.directory = directory
        subprocess.run([ROOT / "deploy" / "make-env", directory / ".env"], check=True, capture_output=True)
        self.variables = variables_of(directory / ".env")
        self.services: dict[str, Any] = read(self.variables)["services"]
        self.redis_port, *ports = free_ports(4)
        self.metrics_port = free_port(neighbours=2)
        self.ports = dict(zip(OURS, ports, strict=True))
        database = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
        password = self.variables["POSTGRES_PASSWORD"]
        self._here = {
            f"postgresql://token_tracker:{password}@postgres:5432/token_tracker": database,
            "redis:6379": f"127.0.0.1:{self.redis_port}",
            "0.0.0.0": "127.0.0.1",
            "9100": str(self.metrics_port),
            "/etc/token-tracker": str(ROOT / "config"),
            **{port: str(self.ports[name]) for name, port in OURS.items()},
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, name: str) -> str:
        """A service that ends by itself; what it printed."""
        return self._call(self.services[name]["command"], name, check=True).stdout

    def start(self, *names: str) -> None:
        """Start services and wait until their health checks, run as an engine would, say that they are well."""
        for name in names:
            command = list(self.services[name]["command"])
            if name == "redis":
                command[-1] += f" --bind 127.0.0.1 --port {self.redis_port}"
            with (self.directory / f"{name}.log").open("w") as log:
                self._running[name] = subprocess.Popen(
                    command, env=self._environment(name), cwd=self._home(name), stdin=subprocess.DEVNULL,
                    stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
        for name in names:
            self._wait_until_well(name, self._running[name])

    def _wait_until_well(self, name: str, process: subprocess.Popen[bytes]) -> None:
        try:
            wait_until(lambda: process.poll() is not None or self.is_well(name), START_S, f"health of {name}")
            assert process.poll() is None, f"{name} ended with {process.returncode}"
        except AssertionError as late:
            raise AssertionError(f"{late}; it printed:\n{self.printed(name)[-4000:]}") from None

    def stop(self, name: str, sent: int) -> int:
        """Gives the exit code, within the longest that the file lets a service take."""
        process = self._running.pop(name)
        process.send_signal(sent)
        return process.wait(45)

    def is_well(self, name: str) -> bool:
        kind, *command = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        if name == "redis":
            command[1:1] = ["-p", str(self.redis_port)]
        done = self._call(command, name)
        return done.returncode == 0 and done.stdout.strip() in ("", "PONG")

    def printed(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    def url(self, name: str, path: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}{path}"

    def __enter__(self) -> Composition:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running.values():
            process.kill()  # what it started ends with it
            process.wait()

    def _call(self, command: list[str], name: str, *, check: bool = False) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, env=self._environment(name), cwd=self._home(name), capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr
        return done

    def _home(self, name: str) -> Path:
        path = self.directory / name
        path.mkdir(exist_ok=True)
        return path

    def _environment(self, name: str) -> dict[str, str]:
        """The service's, and of this process only what finds its Python and the program."""
        here = {
            **self._here,
            "/opt/token-tracker/bin:$PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "/data": str(self._home(name) / "data"),
            "/tmp": str(self._home(name)),
        }
        if self.services[name]["image"] != "token-tracker":
            return {"PATH": os.environ["PATH"], **self.services[name]["environment"]}
        found = environment(self.services[name], self.variables)
        return {**{each: _replaced(value, here) for each, value in found.items()}, "PYTHONPATH": str(ROOT)}


def _replaced(text: str, here: Mapping[str, str]) -> str:
    """In one go, so that nothing is replaced twice; numbers only where they stand alone (a secret may hold any)."""
    names = sorted((re.escape(there) for there in here if not there.isdigit()), key=len, reverse=True)
    return here[text] if text in here else re.sub("|".join(names), lambda match: here[match[0]], text)
