"""docs/configuration.md and alerts.md name every key of proxy.yaml; `test_environment` does the same for settings."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from tests.config.files import Files
from token_tracker.config.section import Section
from token_tracker.config.values import GatewayOptions

DOCS = Path(__file__).resolve().parents[2] / "docs"
REFERENCE = (DOCS / "configuration.md").read_text()
# One of each section and entry, so that every reader asks for its keys.
FILE = """
model_list:
  - {model_name: a, litellm_params: {model: openai/a, api_key: k, num_retries: 1}, model_info: {max_input_tokens: 1}}
  - {model_name: b, litellm_params: {model: anthropic/b, api_key: k}}
rate_limits: [{model: a, limit: 1, period: minute, scope: {type: team, id: t}}]
budget: {total: 1, alerts: [{threshold: 50, email: someone@example.com}]}
pricing: {openai: {a: {input: 1, output: 1}}}
router_settings: {model_group_alias: {c: {model: a}}, fallbacks: [{a: [b]}]}
litellm_settings: {num_retries: 1}
alerts: {channels: {chat: {slack_webhook: "https://hooks.example.com/x"}}, digest: {at: "08:00"}, rules: [
  {name: r, kind: usage.unpriced, channels: [chat]}]}
reports: [{period: weekly, recipients: [someone@example.com]}]
"""


def test_every_key_that_is_read_is_in_the_reference(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, get = set[str](), Section.get

    def remembering(section: Section, key: str) -> object:
        asked.add(key)
        return get(section, key)

    monkeypatch.setattr(Section, "get", remembering)
    files.load(FILE)
    names = {key for key in asked if re.fullmatch(r"[a-z_0-9]+", key)} - {"a", "c", "x", "openai", "chat"}
    text = REFERENCE + (DOCS / "alerts.md").read_text()
    assert len(names) > 60, "the readers were asked"
    assert sorted(name for name in names if not re.search(rf"\b{name}\b", text)) == []


def test_every_option_of_the_gateway_stands_there_with_its_default() -> None:
    section = REFERENCE.split("### gateway\n")[1].split("###")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| `?(.*?)`? \|", section, re.MULTILINE))
    defaults = {each.name: getattr(GatewayOptions(), each.name) for each in fields(GatewayOptions)}
    assert rows == {
        name: f"{value:g}" if isinstance(value, float) else str(value).lower() for name, value in defaults.items()
    }
