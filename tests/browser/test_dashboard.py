"""The page as a person sees it: log in, and there is the cost of the call just made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.browser.browser import browser, console_problems, requested_hosts, require
from tests.functional.installation import Installation, wait_until

pytestmark = pytest.mark.timeout(180)
# At 1 and 2 USD per million: 'one two three' is 3 words in, and 9 out with the echo's prefix of 6.
COST = "0.000021000"


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    require()
    with Installation(tmp_path).start("all") as running:
        yield running


@pytest.fixture
def driver(installation: Installation, tmp_path: Path) -> Iterator[Chrome]:
    with browser(tmp_path) as running:
        yield running


def texts(driver: Chrome, selector: str) -> list[str]:
    """The texts of what the selector finds, all read in one step, as the page replaces them while one looks."""
    found: list[str] = driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(each => each.textContent.trim())", selector
    )
    return found


def log_in(driver: Chrome, password: str) -> None:
    driver.find_element(By.NAME, "username").clear()
    driver.find_element(By.NAME, "username").send_keys("admin")
    driver.find_element(By.NAME, "password").send_keys(password)
    driver.find_element(By.CSS_SELECTOR, "button[type=submit]").click()


def call(installation: Installation, model: str = "demo") -> str:
    """One call by OpenAI's client; the cost that its answer names."""
    with openai.OpenAI(base_url=f"{installation.proxy_url}/v1", api_key=installation.key) as client:
        raw = client.chat.completions.with_raw_response.create(
            model=model, messages=[{"role": "user", "content": "one two three"}]
        )
        return str(raw.headers["x-tt-cost-usd"])


def test_a_person_logs_in_and_sees_the_cost_of_the_call_just_made(installation: Installation, driver: Chrome) -> None:
    host = urlsplit(installation.dashboard_url).netloc
    assert call(installation) == COST
    driver.get(installation.dashboard_url)
    assert driver.current_url.endswith("/login"), "nothing is seen without a login"
    log_in(driver, "a wrong password")
    wait_until(lambda: texts(driver, "[role=alert]") == ["Wrong user name or password."], 10, "the refusal")
    assert {"/login"} == {urlsplit(driver.current_url).path}
    # The browser itself notes the refused form; nothing else was said.
    assert all("401" in said for said in console_problems(driver))

    log_in(driver, installation.admin_password)
    wait_until(lambda: texts(driver, "#card-spend") == [f"${COST}"], 20, "the cost on the card")
    assert texts(driver, "#card-calls") == ["1"]
    assert texts(driver, "#card-tokens") == ["12"]
    assert texts(driver, "#card-errors") == ["0"]
    [row] = texts(driver, "#newest tbody tr")
    cells = texts(driver, "#newest tbody tr td")
    assert COST in cells and "demo → echo" in cells
    assert "provider" in row and "priced" in row and "complete" in row, "the evidence stands beside the cost"
    wait_until(lambda: len(texts(driver, ".js-plotly-plot .main-svg")) >= 4, 20, "four figures")

    # The page refreshes itself: nobody reloads it.
    assert call(installation) == COST
    wait_until(lambda: texts(driver, "#card-spend") == ["$0.000042000"], 20, "the second call's cost")
    assert len(texts(driver, "#newest tbody tr")) == 2

    assert requested_hosts(driver) == {host}
    assert console_problems(driver) == []

    driver.find_element(By.ID, "logout").click()
    wait_until(lambda: urlsplit(driver.current_url).path == "/login", 10, "the login page")
    driver.get(installation.dashboard_url)
    assert urlsplit(driver.current_url).path == "/login", "logged out is logged out"
