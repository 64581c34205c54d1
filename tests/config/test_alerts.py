"""`alerts:` of proxy.yaml."""

from __future__ import annotations

import pytest

from tests.config.files import DEMO, Files
from token_tracker.config.values import ChannelEntry
from token_tracker.domain.alert_kinds import KINDS

DEFAULTS = {kind.default for kind in KINDS.values() if kind.default}


def test_rules_exist_without_configuration_and_the_file_replaces_or_leaves_them_out(files: Files) -> None:
    assert {rule.name for rule in files.load(DEMO).alerts.rules} == DEFAULTS
    text = """
alerts:
  channels:
    chat: {slack_webhook: "https://hooks.example.com/T0"}
  digest: {at: "07:30", timezone: Europe/Berlin}
  rules:
    - {name: Unpriced traffic, kind: usage.unpriced, thresholds: [10, 1], enabled: false}
    - name: Mine
      kind: upstream.latency
      channels: [chat, email]
      quiet_hours: {from: "22:00", to: "07:00"}
"""
    alerts = files.load(DEMO + text).alerts
    rules = {rule.name: rule for rule in alerts.rules}
    assert rules.keys() == DEFAULTS | {"Mine"}
    assert (rules["Unpriced traffic"].enabled, rules["Unpriced traffic"].thresholds) == (False, ["1", "10"])
    assert rules["Mine"].quiet_hours == {"from": "22:00", "to": "07:00", "timezone": "UTC"}
    assert alerts.channels == (ChannelEntry("chat", "slack", "https://hooks.example.com/T0"),)
    assert (alerts.digest_at, alerts.timezone) == ("07:30", "Europe/Berlin")
    assert files.load(DEMO + "alerts: {defaults: false}\n").alerts.rules == ()


@pytest.mark.parametrize(
    ("alerts", "complaint"),
    [
        ("{rule: []}", "alerts.rule is unknown. Did you mean 'rules'?"),
        ("{rules: [{name: x, kind: upstream.error}]}", "alerts.rules[0].kind must be one of"),
        ("{rules: [{kind: store.away}]}", "alerts.rules[0].name must be text"),
        ("{rules: [{name: x, kind: upstream.errors, thresholds: [120]}]}", "can never be passed"),
        ("{rules: [{name: x, kind: store.away, every: 5}]}", "alerts.rules[0].every is unknown"),
        ("{rules: [{name: x, kind: store.away}, {name: x, kind: store.away}]}", "alerts.rules[1].name is that of"),
        ("{channels: {email: {email: a@example.com}}}", "alerts.channels.email is NOTIFICATION_EMAIL"),
        ("{channels: {a: {email: a@example.com, webhook: https://x}}}", "must name exactly one of email"),
        ("{channels: {a: {webhook: ftp://x}}}", "alerts.channels.a.webhook must be a URL"),
        ("{digest: {at: 8}}", "alerts.digest.at must be text"),
        ('{digest: {at: "25:00"}}', "alerts.digest.at must be a time of day"),
    ],
)
def test_a_mistake_is_named_with_its_place(files: Files, alerts: str, complaint: str) -> None:
    assert complaint in "\n".join(files.problems(DEMO + f"alerts: {alerts}\n"))
