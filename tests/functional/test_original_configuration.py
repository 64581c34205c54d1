"""The original project's proxy.yaml loads as it is: its models are offered, its rules stored, and what is not yet done
said plainly. Nothing here calls a model: their providers are on the internet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.functional.books import Ledger
from tests.functional.installation import Installation

ORIGINAL = """\
model_list:
  - model_name: gpt-3.5-turbo
    litellm_params: {model: gpt-3.5-turbo, api_key: "${OPENAI_API_KEY}"}
  - model_name: llama-4-scout
    litellm_params: {model: meta-llama/llama-4-scout-17b-16e-instruct, api_key: "${GROQ_API_KEY}"}
rate_limits:
  - {model: gpt-3.5-turbo, limit: 10, period: minute}
budget:
  total: 100.00
  daily: 10.00
  alerts:
    - {threshold: 50, email: someone@example.com}
"""
KEYS = {"OPENAI_API_KEY": "sk-for-a-test", "GROQ_API_KEY": "gsk-for-a-test"}


def make(directory: Path, database_url: str, **env: str) -> Installation:
    installation = Installation(directory, {}, database_url, **env)
    installation.config_path.write_text(ORIGINAL)
    return installation


def offered(installation: Installation) -> list[str]:
    headers = {"authorization": f"Bearer {installation.key}"}
    status, _, body = installation.call("GET", f"{installation.proxy_url}/v1/models", headers=headers)
    assert status == 200, body
    return [each["id"] for each in json.loads(body)["data"]]


def switched_off(installation: Installation) -> list[str]:
    _, _, body = installation.call("GET", f"{installation.proxy_url}/health/ready")
    return [each["message"] for each in json.loads(body)["reasons"] if each["code"] == "switched_off"]


def warnings(installation: Installation) -> list[str]:
    return [line for line in installation.printed.splitlines() if "warning" in line]


def check_rules(ledger: Ledger) -> None:
    """Both budgets with the alert of both, and the limit, as `POST /api/…` would have made them."""
    [limit] = ledger.table("rate_limits")
    limited = ("scope_type", "model", "unit", "limit", "period", "source")
    assert [limit[name] for name in limited] == ["global", "gpt-3.5-turbo", "requests", 10, "minute", "config"]
    budgets = {each["period"]: each for each in ledger.table("budgets")}
    assert {period: each["limit_nano_usd"] for period, each in budgets.items()} == {
        "total": 100_000_000_000,
        "daily": 10_000_000_000,
    }
    assert {(each["scope_type"], each["enforcement"], each["source"]) for each in budgets.values()} == {
        ("global", "hard", "config")
    }
    alerts = ledger.table("budget_alerts")
    assert {each["budget_id"] for each in alerts} == {each["id"] for each in budgets.values()}
    assert [(float(each["threshold_percent"]), each["email"]) for each in alerts] == [(50, "someone@example.com")] * 2


def test_it_loads_with_its_variables_set(tmp_path: Path, database_url: str) -> None:
    installation, ledger = make(tmp_path, database_url, **KEYS), Ledger(database_url)
    with installation.start("proxy"):
        # A provider's key in the environment offers its other models without an entry.
        assert {"gpt-3.5-turbo", "llama-4-scout", "gpt-4o"} <= set(offered(installation))
        assert switched_off(installation) == []
        assert not [line for line in warnings(installation) if "ENFORCED" in line]
        check_rules(ledger)
        assert not [key for key in KEYS.values() if key in installation.printed]
    with installation.start("proxy"):  # a second start changes nothing
        check_rules(ledger)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_it_loads_without_its_variables_and_names_what_is_off(tmp_path: Path, database_url: str) -> None:
    installation, ledger = make(tmp_path, database_url), Ledger(database_url)
    with installation.start("proxy"):
        assert offered(installation) == []
        said = switched_off(installation)
        assert len(said) == 2
        for name, variable in (("gpt-3.5-turbo", "OPENAI_API_KEY"), ("llama-4-scout", "GROQ_API_KEY")):
            assert any(each.startswith(f"{name}: ") and variable in each for each in said)
            assert any(f"'{name}' is switched off" in line and variable in line for line in warnings(installation))
        status, _, body = installation.chat("gpt-3.5-turbo")
        assert status == 404, body
        check_rules(ledger)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_it_loads_with_one_of_them(tmp_path: Path, database_url: str) -> None:
    installation = make(tmp_path, database_url, GROQ_API_KEY=KEYS["GROQ_API_KEY"])
    with installation.start("proxy"):
        names = offered(installation)
        assert "llama-4-scout" in names and "gpt-3.5-turbo" not in names
        [said] = switched_off(installation)
        assert "OPENAI_API_KEY" in said


def test_rules_taken_out_of_the_file_are_gone_after_the_next_start(tmp_path: Path, database_url: str) -> None:
    installation, ledger = make(tmp_path, database_url), Ledger(database_url)
    installation.initialise()
    check_rules(ledger)
    installation.config_path.write_text(ORIGINAL.partition("rate_limits")[0])
    installation.initialise()
    assert [ledger.table(name) for name in ("rate_limits", "budgets", "budget_alerts")] == [[], [], []]
