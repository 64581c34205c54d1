"""`rate_limits:`, `budget:` and `pricing:`."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.config.files import DEMO, Files
from token_tracker.config.values import AlertEntry, BudgetEntry, RateLimitEntry


def test_a_rate_limit_has_the_api_s_fields(files: Files) -> None:
    text = """
rate_limits:
  - {scope: {type: team, id: '*'}, unit: tokens, limit: 60000, period: minute, on_store_error: deny}
  - {scope: {type: model, id: demo}, limit: 5, period: second}
  - {unit: concurrent, limit: 3}
"""
    assert files.load(DEMO + text).rate_limits == (
        RateLimitEntry("team", "*", None, "tokens", 60000, "minute", "deny"),
        RateLimitEntry("global", None, "demo", "requests", 5, "second"),
        RateLimitEntry("global", None, None, "concurrent", 3, ""),
    )


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ("{limit: 1}", "rate_limits[0].period is missing"),
        ("{period: minute}", "rate_limits[0].limit is missing"),
        ("{limit: 1.5, period: minute}", "rate_limits[0].limit must be a whole number"),
        ("{limit: -1, period: minute}", "rate_limits[0].limit must be 0 or more"),
        ("{limit: 1, period: month}", "rate_limits[0].period must be one of second, minute, hour, day"),
        ("{limit: 1, period: day, unit: request}", "Did you mean 'requests'?"),
        ("{limit: 1, period: day, scope: {type: user}}", "rate_limits[0].scope.id is missing: which user?"),
        ("{limit: 1, period: day, scope: {id: x}}", "rate_limits[0].scope.id must be absent"),
        ("5", "rate_limits[0] must be a mapping"),
    ],
)
def test_a_wrong_rate_limit_is_named(files: Files, entry: str, complaint: str) -> None:
    assert complaint in "\n".join(files.problems(DEMO + f"rate_limits: [{entry}]\n"))


def test_two_limits_for_the_same_thing_contradict_each_other(files: Files) -> None:
    (problem,) = files.problems(DEMO + "rate_limits: [{limit: 1, period: day}, {limit: 2, period: day}]\n")
    assert "rate_limits[1] limits the same" in problem


@pytest.mark.parametrize("budget", ["budget:\n  daily: 1\n  daily: 2\n", "budget: {total: 1}\nbudget: {total: 2}\n"])
def test_two_budgets_for_the_same_period_contradict_each_other(files: Files, budget: str) -> None:
    assert "twice" in "\n".join(files.problems(DEMO + budget))


def test_a_budget_may_say_how_it_is_enforced_and_where_its_day_begins(files: Files) -> None:
    text = """
budget:
  daily: 0.1
  enforcement: soft
  timezone: Europe/Berlin
  alerts:
    - {threshold: 99.5, webhook: "https://example.com/x"}
    - {threshold: 120, slack_webhook: "https://example.com/y"}
"""
    assert files.load(DEMO + text).budgets == (
        BudgetEntry(
            "daily",
            100_000_000,
            "soft",
            "Europe/Berlin",
            (
                AlertEntry(Decimal("99.5"), webhook="https://example.com/x"),
                AlertEntry(Decimal(120), slack_webhook="https://example.com/y"),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("budget", "complaint"),
    [
        ("{enforcement: hard}", "budget names no amount"),
        ("{total: ten}", "budget.total must be a number"),
        ("{total: -1}", "budget.total must be 0 or more"),
        ("{total: 1e30}", "budget.total must be at most"),
        ("{total: 1, timezone: Berlin}", "budget.timezone is no time zone"),
        ("{total: 1, timezone: ../../etc/passwd}", "budget.timezone is no time zone"),
        ("{total: 1, enforcement: harder}", "budget.enforcement must be one of hard, soft, alert"),
        ("{total: 1, alerts: [{email: a@b.c}]}", "budget.alerts[0].threshold is missing"),
        ("{total: 1, alerts: [{threshold: 0, email: a@b.c}]}", "threshold must be more than 0"),
        ("{total: 1, alerts: [{threshold: 5}]}", "budget.alerts[0] must name exactly one of"),
        ("{total: 1, alerts: [{threshold: 5, email: a@b.c, webhook: 'https://x'}]}", "must name exactly one of"),
        ("{total: 1, alerts: [{threshold: 5, email: nobody}]}", "budget.alerts[0].email must be one e-mail"),
        ("{total: 1, alerts: [{threshold: 5, apprise: tgram}]}", "budget.alerts[0].apprise must be a URL as Apprise"),
        ("{total: 1, alerts: [{threshold: 5, webhook: x.y}]}", "budget.alerts[0].webhook must be a URL"),
        ("{total: 1, alerts: 50}", "budget.alerts must be a list"),
        ("[1]", "budget must be a mapping"),
    ],
)
def test_a_wrong_budget_is_named(files: Files, budget: str, complaint: str) -> None:
    assert complaint in "\n".join(files.problems(DEMO + f"budget: {budget}\n"))


def test_prices_count_for_a_million_tokens_unless_they_say_otherwise_and_are_exact(files: Files) -> None:
    text = """
pricing:
  openai:
    gpt-x: {input: 0.1, cache_read: 0.01, cache_write: 1, cache_write_1h: 2, output: 0.3, reasoning: 0.7, per: 1000000}
    "regex:gpt-.*-mini": {input: 0.15, output: 0.6}
    "*": {input: 0.0000001, output: 2.5e-06, per: 1}
    gpt-y: {input_cost_per_token: 0.000003, output_cost_per_token_above_128k_tokens: 0.000004}
"""
    exact, regex, star, own = files.load(DEMO + text).pricing
    assert exact.rates == {
        "input_cost_per_token": Decimal("0.0000001"),
        "cache_read_input_token_cost": Decimal("0.00000001"),
        "cache_creation_input_token_cost": Decimal("0.000001"),
        "cache_creation_input_token_cost_above_1hr": Decimal("0.000002"),
        "output_cost_per_token": Decimal("0.0000003"),
        "output_cost_per_reasoning_token": Decimal("0.0000007"),
    }
    assert (regex.provider, regex.pattern) == ("openai", "regex:gpt-.*-mini")
    assert regex.rates["input_cost_per_token"] == Decimal("0.00000015")
    assert star.rates == {
        "input_cost_per_token": Decimal("0.0000001"),
        "output_cost_per_token": Decimal("0.0000025"),
    }
    assert own.rates == {
        "input_cost_per_token": Decimal("0.000003"),
        "output_cost_per_token_above_128k_tokens": Decimal("0.000004"),
    }


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("x: {input: 0.0000025}", "pricing.openai.x.input is very little for a million tokens: add 'per: 1'"),
        ("x: {input: -1}", "pricing.openai.x.input must be 0 or more"),
        ("x: {input: free}", "pricing.openai.x.input must be a number"),
        ("x: {input: 1, per: 0}", "pricing.openai.x.per must be more than 0"),
        ("x: {per: 1}", "pricing.openai.x names no price"),
        ("x: {input: 1, input_cost_per_token: 1}", "is there under two names"),
        ("x: {cache_write: 1, cache_write_5m: 1}", "is there under two names"),
        ("'regex:(': {input: 1}", "is no regular expression"),
        ("gpt-*: {input: 1}", "must be an exact name, 'regex:…' or '*'"),
        ("x: 5", "pricing.openai.x must be a mapping"),
    ],
)
def test_a_wrong_price_is_named(files: Files, line: str, complaint: str) -> None:
    assert complaint in "\n".join(files.problems(DEMO + f"pricing: {{openai: {{{line}}}}}\n"))
