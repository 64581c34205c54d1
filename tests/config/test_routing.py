"""What LiteLLM's settings say about failures."""

from __future__ import annotations

import pytest

from tests.config.files import DEMO, Files
from token_tracker.config.values import Routing

TWO = """
model_list:
  - {model_name: a, litellm_params: {model: openai/x, api_key: k, order: 2, num_retries: 1, cooldown_time: 2.5}}
  - {model_name: a, litellm_params: {model: openai/x, api_key: k}, model_info: {order: 1, allowed_fails: 0}}
  - {model_name: b/*, litellm_params: {model: openai/*, api_key: k}}
  - {model_name: c, litellm_params: {model: openai/x, api_key: "${UNSET}"}}
"""


def test_nothing_said_is_the_default(files: Files) -> None:
    assert files.load(DEMO).routing == Routing()


def test_router_settings_win_over_litellm_settings(files: Files) -> None:
    text = (
        TWO
        + """
litellm_settings: {num_retries: 9, allowed_fails: 9, fallbacks: [{a: [b/z]}, {b/y: [a]}], default_fallbacks: [a]}
router_settings:
  num_retries: 0
  retry_after: 1.5
  fallbacks: [{a: [b/x, c]}]
  allowed_fails: 2
  cooldown_time: 30
  disable_cooldowns: true
"""
    )
    configuration = files.load(text)
    assert configuration.routing == Routing(
        num_retries=0,
        retry_after_s=1.5,
        fallbacks={"a": ("b/x",), "b/y": ("a",), "*": ("a",)},
        allowed_fails=2,
        cooldown_time_s=30,
        has_cooldowns=False,
    )
    assert configuration.warnings == ()


def test_an_entry_says_its_order_its_retries_and_its_cooldown(files: Files) -> None:
    first, second = files.load(TWO).models.exact["a"]
    assert (first.order, first.num_retries, first.cooldown_time_s, first.allowed_fails) == (2, 1, 2.5, None)
    assert (second.order, second.num_retries, second.cooldown_time_s, second.allowed_fails) == (1, None, None, 0)
    assert first.litellm_params == second.litellm_params == {}


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("fallbacks: [{aa: [a]}]", "fallbacks[0].aa is a model that nothing offers. Did you mean 'a'?"),
        ("fallbacks: [{a: [nobody]}]", "fallbacks[0].a names 'nobody', which nothing offers."),
        ("fallbacks: [{a: b/x}]", "fallbacks[0].a must be a list of model names."),
        ("fallbacks: [{a: ['*']}]", "fallbacks[0].a names '*', which nothing offers."),
        ("fallbacks: {a: [b/x]}", "fallbacks must be a list."),
        ("num_retries: -1", "num_retries must be 0 or more."),
        ("num_retries: 1.5", "num_retries must be a whole number."),
        ("cooldown_time: soon", "cooldown_time must be a number."),
        ("disable_cooldowns: maybe", "disable_cooldowns must be true or false."),
    ],
)
def test_what_cannot_be_meant_is_named(files: Files, line: str, complaint: str) -> None:
    (problem,) = files.problems(TWO + f"router_settings: {{{line}}}\n")
    assert f"router_settings.{complaint}" in problem
