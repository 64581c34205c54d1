"""Headless Chromium for tests of pages on this machine: it asks no other host, and keeps what its console said."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
    "--disable-domain-reliability", "--disable-client-side-phishing-detection", "--no-default-browser-check",
    "--no-pings", "--metrics-recording-only", "--disable-features=OptimizationHints,Translate,MediaRouter",
    # Whatever else it might want to look up is nowhere; a page that needs it then fails here too.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip


def require() -> None:
    """Skip by name where there is no Chromium; with CI=true that is a failure."""
    missing = [path for path in (CHROMIUM, DRIVER) if shutil.which(path) is None]
    if missing:
        reason = f"no {' and no '.join(missing)} (Debian: apt install chromium chromium-driver)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@contextmanager
def browser(directory: Path, width: int = 1400, height: int = 1300) -> Iterator[Chrome]:
    """Its profile and whatever else it writes lie in `directory`."""
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*_FLAGS, f"--user-data-dir={directory / 'profile'}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = ChromeService(executable_path=DRIVER, log_output=str(directory / "chromedriver.log"))
    driver = Chrome(options=options, service=service)
    try:
        driver.set_page_load_timeout(30)
        yield driver
    finally:
        driver.quit()


def requested_hosts(driver: Chrome) -> set[str]:
    """Hosts (with ports) that pages asked for anything since the last time."""
    events: list[Any] = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return {parts.netloc for parts in map(urlsplit, urls) if parts.scheme not in ("data", "blob", "chrome", "about")}


def console_problems(driver: Chrome) -> list[str]:
    """What the console said since the last time, informational lines apart."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
