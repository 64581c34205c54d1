"""Starts the fake provider for a test, and reads its books."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from types import TracebackType
from typing import Any
from urllib.parse import quote

from tests.functional.installation import ROOT, wait_until
from tests.ports import free_ports

Entry = dict[str, Any]


class FakeProvider:
    """The fake provider as a process of its own; see `fake_provider` for its manners and entries.

    `url`: what an Anthropic `api_base` or a base URL without version needs; `openai_base`: with /v1. Use it in `with`,
    or call `start` and `stop`.
    """

    def __init__(self) -> None:
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self.openai_base = self.url + "/v1"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> FakeProvider:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "tests.functional.fake_provider", "--port", str(self.port)]
        self._process = process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
        wait_until(lambda: process.poll() is not None or self._answers(), 20, "start of the fake provider")
        assert process.poll() is None, "the fake provider ended at its start"
        return self

    def stop(self) -> None:
        """End it, whatever it is doing; repeating is harmless."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)

    def __enter__(self) -> FakeProvider:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def books(self, marker: str = "", *, slim: bool = False) -> list[Entry]:
        """All entries, oldest first, or those with `marker`; `slim`: without headers and bodies."""
        query = f"?marker={quote(marker)}" + ("&slim=1" if slim else "")
        entries: list[Entry] = json.loads(self._get("/books" + query))["entries"]
        return entries

    def entry(self, marker: str, timeout_s: float = 10) -> Entry:
        """The one entry with `marker`, once it is closed."""
        return self.wait_for(lambda entries: len(entries) == 1 and not entries[0]["is_open"], timeout_s, marker=marker)[
            0
        ]

    def wait_for(
        self, condition: Callable[[list[Entry]], bool], timeout_s: float = 10, *, marker: str = ""
    ) -> list[Entry]:
        """The entries, once `condition` is true of them; an AssertionError that shows them after `timeout_s`."""
        entries: list[Entry] = []

        def holds() -> bool:
            entries[:] = self.books(marker)
            return condition(entries)

        try:
            wait_until(holds, timeout_s, f"a condition on the provider's books of {marker!r}")
        except AssertionError as late:
            slim = [{k: v for k, v in entry.items() if k not in ("headers", "body_base64")} for entry in entries]
            raise AssertionError(f"{late}; the books say {slim}") from None
        return entries

    def reset(self) -> None:
        """Forget all entries."""
        with urllib.request.urlopen(urllib.request.Request(self.url + "/books/reset", method="POST"), timeout=10):
            pass

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            content: bytes = answer.read()
            return content

    def _answers(self) -> bool:
        try:
            return bool(self._get("/v1/models"))
        except OSError:
            return False


def body_of(entry: Entry) -> bytes:
    """The bytes of the request body, as they arrived."""
    return base64.b64decode(entry["body_base64"])


def header_of(entry: Entry, name: str) -> list[str]:
    """All values of a request header, as they arrived; `name` in lower case."""
    return [value for key, value in entry["headers"] if key == name]
