"""A LiteLLM proxy as its users run it: stock, with a config.yaml and our callback's file beside it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.functional.installation import ROOT, wait_until
from tests.functional.provider_books import FakeProvider
from tests.ports import free_ports

MASTER_KEY = "sk-" + "ab" * 24
CALLBACK = ROOT / "token_tracker" / "proxy" / "litellm" / "token_tracker_callback.py"


class UsersLiteLLM:
    """In a directory of its own, where the callback's file was copied to."""

    def __init__(self, directory: Path, provider: FakeProvider, gateway_url: str, key: str) -> None:
        directory.mkdir()
        self.directory = directory
        self.spool = directory / "spool.sqlite3"
        shutil.copy(CALLBACK, directory)
        example = ROOT / "examples" / "litellm-proxy" / "config.yaml"
        settings = {"callbacks": callbacks_of(example), "fallbacks": [{"bad": ["plain"]}]}
        config = {"model_list": models(provider), "litellm_settings": settings, "router_settings": {"num_retries": 0}}
        (directory / "config.yaml").write_text(json.dumps(config))
        self.url = f"http://127.0.0.1:{free_ports(1)[0]}"
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_MASTER_KEY": MASTER_KEY,
            "TT_GATEWAY_URL": gateway_url,
            "TT_GATEWAY_KEY": key,
            "TT_GATEWAY_SPOOL": str(self.spool),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> UsersLiteLLM:
        command = [str(Path(sys.executable).with_name("litellm")), "--config", "config.yaml", "--host", "127.0.0.1"]
        with (self.directory / "log").open("ab") as log:
            self._process = process = subprocess.Popen(
                [*command, "--port", self.url.rpartition(":")[2]],
                env=self._environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: process.poll() is not None or self._answers(), 60, "start of the user's LiteLLM")
        assert process.poll() is None, self.log()
        return self

    def stop(self, sent: int = signal.SIGTERM) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(sent)
            process.wait(20)

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def chat(self, model: str, *, path: str = "/v1/chat/completions", read: int = -1, **fields: Any) -> int:
        """The status of one call; `read`: leave after so many bytes."""
        body = {"model": model, "messages": [{"role": "user", "content": "Say hello"}], **fields}
        headers = {"authorization": f"Bearer {MASTER_KEY}", "content-type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                answer.read(read)
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def spooled(self) -> set[str]:
        """The provider's ids of the calls that wait for the gateway."""
        connection = sqlite3.connect(self.spool, timeout=10)
        try:
            return {json.loads(body)["upstream_id"] for (body,) in connection.execute("SELECT body FROM events")}
        finally:
            connection.close()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/health/liveliness", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def models(provider: FakeProvider) -> list[dict[str, Any]]:
    def entry(name: str, model: str, api_base: str) -> dict[str, Any]:
        return {"model_name": name, "litellm_params": {"model": model, "api_base": api_base, "api_key": "sk-up"}}

    return [
        entry("plain", "openai/fake-plain", provider.openai_base),
        entry("cached", "openai/fake-cached", provider.openai_base),
        entry("reasoning", "openai/fake-reasoning", provider.openai_base),
        entry("bad", "openai/fake-500", provider.openai_base),
        entry("broken", "openai/fake-503", provider.openai_base),
        entry("claude", "anthropic/fake-cached", provider.url),
    ]


def callbacks_of(example: Path) -> list[str]:
    """What the example tells users to write."""
    import yaml

    names: list[str] = yaml.safe_load(example.read_text())["litellm_settings"]["callbacks"]
    return names
