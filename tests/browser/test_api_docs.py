"""/api/docs in a real browser, which can reach nothing but this machine."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.browser.browser import browser, console_problems, requested_hosts, require
from tests.functional.installation import Installation, wait_until

pytestmark = pytest.mark.timeout(120)


def test_the_description_is_shown_without_the_internet(tmp_path: Path) -> None:
    require()
    with Installation(tmp_path).start("all") as running, browser(tmp_path) as driver:
        driver.get(f"{running.api_url}/api/docs/")

        def shown() -> list[str]:
            paths: list[str] = driver.execute_script(
                "return [...document.querySelectorAll('.opblock-summary-path')].map(each => each.dataset.path)"
            )
            return paths

        wait_until(lambda: "/api/token-usage/summary" in shown(), 20, "the routes")
        assert console_problems(driver) == []
        assert requested_hosts(driver) == {urlsplit(running.api_url).netloc}
