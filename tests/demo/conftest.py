"""The echo provider as its own process, as users run it."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.ports import free_port


@pytest.fixture(scope="session")
def demo_url() -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, "-m", "token_tracker.demo"], env={**os.environ, "TT_DEMO_URL": url})
    try:
        wait_until_it_answers(port, process)
        yield url
    finally:
        process.terminate()
        assert process.wait(timeout=10) in (0, -15)


def wait_until_it_answers(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + 15
    while time.monotonic() < deadline_s and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/v1/models")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.02)  # it is still starting; bounded by the deadline
        finally:
            connection.close()
    raise AssertionError("the demo provider did not answer")
