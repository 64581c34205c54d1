"""`python -m tests.browser.screenshots [DIRECTORY]`: the pictures of the documentation, from a running installation.

Its history is made up (reported as metered elsewhere, always the same), its newest calls go to the built-in model.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from tests.browser.browser import browser
from tests.functional.installation import ROOT, Installation, wait_until

MODELS = (
    ("openai", "gpt-4o", 40),
    ("openai", "gpt-4o-mini", 90),
    ("anthropic", "claude-sonnet-4-5", 60),
    ("openai", "o4-mini", 15),
)
PEOPLE = {"ana": "search", "ben": "search", "chloe": "support", "dev": "platform"}
REFUSED = "eva"  # of a team that may spend nothing
TRIAL = "trial"
AGENTS = ("indexer", "triage", "review-bot", "claude-code")
HOURS = 48
BUDGETS: tuple[dict[str, Any], ...] = (
    {"name": "Everything", "scope": {"type": "global"}, "limit_usd": "120", "period": "rolling_30d"},
    {"name": "Search", "scope": {"type": "team", "id": "search"}, "limit_usd": "12", "period": "rolling_24h"},
    {"name": "Support", "scope": {"type": "team", "id": "support"}, "limit_usd": "6", "period": "rolling_24h"},
    {"name": "Trial", "scope": {"type": "team", "id": TRIAL}, "limit_tokens": 10, "period": "daily"},
)  # at every hour of the day the same share of them is used


def main(directory: Path) -> None:
    with tempfile.TemporaryDirectory() as place, Installation(Path(place)).start("all", 90) as installation:
        fill(installation, datetime.now(UTC))
        with browser(Path(place), width=1400, height=1980) as driver:
            take(installation, driver, directory)


def fill(installation: Installation, now: datetime) -> None:
    """Accounts, budgets, two days of history, and some calls."""
    headers = installation.login()

    def post(path: str, body: Any) -> Any:
        status, _, text = installation.call("POST", f"{installation.api_url}/api/{path}", body, headers)
        assert status in (200, 201), text
        return json.loads(text)

    people = PEOPLE | {REFUSED: TRIAL}
    for team in sorted(set(people.values())):
        post("teams", {"name": team.title()})
    keys = {}
    for name, team in people.items():
        person = post("users", {"username": name, "password": f"a-password-of-{name}", "role": "member", "team": team})
        keys[name] = post("keys", {"name": name, "user": person["username"], "permissions": ["ingest"]})["key"]
    for budget in BUDGETS:
        post("budgets", budget)
    refused = keys.pop(REFUSED)
    rng = random.Random(7)
    for name, key in keys.items():
        events = [event(rng, f"{name}-{number}", now) for number in range(450)]
        url, bearer = f"{installation.proxy_url}/v1/usage/events", {"authorization": f"Bearer {key}"}
        wait_until(partial(accepts, installation, url, events, bearer), 20, "a gateway that knows the key")
    for text in ("Hello, who is there?", "What did we spend today?", "And on which model?"):
        wait_until(lambda text=text: installation.chat(text=text)[0] == 200, 20, "the budgets' counters")  # type: ignore[misc]
    for _ in range(7):
        wait_until(partial(is_refused, installation, refused), 20, "a refused call")


def accepts(installation: Installation, url: str, events: list[dict[str, Any]], headers: dict[str, str]) -> bool:
    return installation.call("POST", url, events, headers)[0] == 200


def is_refused(installation: Installation, key: str) -> bool:
    said = {"model": "demo", "messages": [{"role": "user", "content": "One more."}]}
    address = f"{installation.proxy_url}/v1/chat/completions"
    return installation.call("POST", address, said, {"authorization": f"Bearer {key}"})[0] == 402


def event(rng: random.Random, name: str, now: datetime) -> dict[str, Any]:
    """A call of office hours more often than of the night."""
    provider, model, _ = rng.choices(MODELS, [weight for *_, weight in MODELS])[0]
    back = timedelta(hours=min(rng.random(), rng.random() + (0.2 if rng.random() < 0.5 else 0)) % 1 * HOURS)
    failed = rng.random() < 0.015
    tokens = {
        "input_tokens": rng.randint(200, 6000),
        "cache_read_tokens": rng.choice((0, 0, 4000, 12000)),
        "output_tokens": rng.randint(50, 1500),
        "reasoning_tokens": rng.randint(100, 900) if model == "o4-mini" else 0,
    }
    latency_ms = rng.lognormvariate(7.2, 0.6)
    return {
        "id": name, "timestamp": (now - back).isoformat(), "model": model, "provider": provider,
        "agent": rng.choice(AGENTS), "latency_ms": round(latency_ms), "status_code": 500 if failed else 200,
        "end_reason": "upstream_error" if failed else "complete",
        **({"usage_source": "none"} if failed else tokens),
    }  # fmt: skip


def take(installation: Installation, driver: Chrome, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    driver.get(installation.dashboard_url)
    driver.find_element(By.NAME, "username").send_keys("admin")
    driver.find_element(By.NAME, "password").send_keys(installation.admin_password)
    driver.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
    WebDriverWait(driver, 30).until(lambda it: len(it.find_elements(By.CSS_SELECTOR, ".js-plotly-plot .main-svg")) >= 4)
    WebDriverWait(driver, 30).until(lambda it: it.find_element(By.ID, "card-calls").text not in ("", "0"))
    driver.execute_script("document.documentElement.style.overflow = 'hidden'")
    WebDriverWait(driver, 10).until(lambda it: it.execute_script("return document.readyState") == "complete")
    driver.save_screenshot(str(directory / "dashboard.png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
