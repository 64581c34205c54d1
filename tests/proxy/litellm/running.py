"""The LiteLLM child as a test runs it: a real process on a free port, ready when entered, ended when left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.ports import free_port

KEY = "sk-" + "0f" * 24
LAUNCH = "import sys; from token_tracker.proxy.litellm.launcher import main; sys.exit(main())"


class Child:
    """`command`: the Python arguments that start it. `environ` is what surrounds it, with keys it must not see."""

    def __init__(self, evidence_dir: Path, command: Sequence[str] = ("-c", LAUNCH), **environ: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.log = evidence_dir / "child.log"
        surroundings = {**os.environ, "OPENAI_API_KEY": "sk-must-not-be-seen", **environ}
        plumbing = {"TT_LITELLM_URL": self.url, "TT_LITELLM_KEY": KEY, "TT_EVIDENCE_DIR": str(evidence_dir)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command], env=surroundings | plumbing, stdout=log, stderr=log
            )

    def __enter__(self) -> Child:
        until = time.monotonic() + 60
        while not self.is_live():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, "the child did not answer within 60 s"
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def is_live(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health/liveliness", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> int:
        """SIGTERM, then its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=40)

    def post(self, path: str, body: bytes, call_id: str, key: str = KEY) -> Answer:
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json", "x-litellm-call-id": call_id}
        request = urllib.request.Request(self.url + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Answer(answer.status, list(answer.headers.items()), answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, list(error.headers.items()), error.read())


class Answer:
    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.headers = [(name.encode(), value.encode()) for name, value in headers]
        self.body = body


class Serving:
    """An aiohttp application on a thread of its own, for tests that talk to it from other processes."""

    def __init__(self, application: Any) -> None:
        import asyncio
        import threading

        from aiohttp import web

        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

        async def start() -> web.AppRunner:
            runner = web.AppRunner(application, shutdown_timeout=1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            return runner

        self._runner = asyncio.run_coroutine_threadsafe(start(), self._loop).result(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        import asyncio

        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
