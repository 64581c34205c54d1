"""proxy.yaml as a whole: the original project's file, variables, LiteLLM's sections, and what is wrong."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest

from tests.config.files import DEMO, Files
from token_tracker.config.values import AlertEntry, BudgetEntry, GatewayOptions, RateLimitEntry

ROOT = Path(__file__).resolve().parents[2]
ORIGINAL = """
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


def test_the_original_projects_file_loads_as_it_is(files: Files) -> None:
    configuration = files.load(ORIGINAL, OPENAI_API_KEY="a", GROQ_API_KEY="b")
    (gpt,) = configuration.models.exact["gpt-3.5-turbo"]
    assert (gpt.provider, gpt.model, gpt.api_key and gpt.api_key.value) == ("openai", "gpt-3.5-turbo", "a")
    (llama,) = configuration.models.exact["llama-4-scout"]
    assert (llama.provider, llama.model) == ("groq", "meta-llama/llama-4-scout-17b-16e-instruct")
    assert configuration.rate_limits == (RateLimitEntry("global", None, "gpt-3.5-turbo", "requests", 10, "minute"),)
    alerts = (AlertEntry(Decimal(50), "someone@example.com"),)
    assert configuration.budgets == (
        BudgetEntry("total", 100_000_000_000, alerts=alerts),
        BudgetEntry("daily", 10_000_000_000, alerts=alerts),
    )
    assert configuration.off == ()


def test_rules_of_the_file_are_enforced_so_nothing_is_said_of_them(files: Files) -> None:
    assert files.load(ORIGINAL, OPENAI_API_KEY="a", GROQ_API_KEY="b").warnings == ()


def test_a_variable_that_is_not_set_switches_off_only_the_entries_that_use_it(files: Files) -> None:
    configuration = files.load(ORIGINAL, OPENAI_API_KEY="a", GROQ_API_KEY="")
    assert "gpt-3.5-turbo" in configuration.models.exact
    assert configuration.off == (("llama-4-scout", "GROQ_API_KEY is not set"),)


def test_outside_the_model_list_such_a_variable_stops_the_start(files: Files) -> None:
    assert files.problems(DEMO + "budget: {total: '${LIMIT}'}\ngeneral_settings: {master_key: os.environ/KEY}\n") == [
        "config/proxy.yaml: budget uses LIMIT, which is not set: set it, or take it out of the file.",
        "config/proxy.yaml: general_settings uses KEY, which is not set: set it, or take it out of the file.",
    ]


def test_a_number_may_come_from_a_variable(files: Files) -> None:
    budgets = files.load(DEMO + "budget: {total: '${LIMIT}'}\n", LIMIT="12.50").budgets
    assert budgets == (BudgetEntry("total", 12_500_000_000),)


def test_a_reference_that_nobody_would_fill_in_is_a_problem(files: Files) -> None:
    (problem,) = files.problems(DEMO + "gateway: {drains: '${DRAINS:-5}'}\n", DRAINS="1")[:1]
    assert "gateway holds a '${' that is no reference" in problem


def test_the_shipped_file_offers_the_demo_model_at_a_price(files: Files) -> None:
    configuration = files.load((ROOT / "config" / "proxy.yaml").read_text())
    (demo,) = configuration.models.exact["demo"]
    assert (demo.provider, demo.model, demo.api_base) == ("demo", "demo", None)
    assert demo.rates is not None
    assert all(rate > 0 for rate in demo.rates.values())
    assert configuration.needs_demo
    assert not configuration.needs_litellm
    assert (configuration.warnings, configuration.off) == ((), ())


def test_its_commented_examples_load_too(files: Files) -> None:
    shipped = (ROOT / "config" / "proxy.yaml").read_text()
    text = re.sub(r"^( *)# ( *(?:- )?[a-z_0-9.*-]+:(?: .*)?)$", r"\1\2", shipped, flags=re.MULTILINE)
    configuration = files.load(text, OPENAI_API_KEY="a", ANTHROPIC_API_KEY="b", GROQ_API_KEY="c")
    assert {"fast", "claude", "llama3.2", "qwen"} <= set(configuration.models.exact)
    assert configuration.models.exact["qwen"][0].model == "Qwen/Qwen2.5-7B-Instruct"
    assert "groq/" in configuration.models.wildcards
    assert configuration.pricing[0].rates["input_cost_per_token"] == Decimal("0.00000225")
    assert configuration.off == ()


def test_an_unknown_key_names_the_nearest_wherever_it_stands(files: Files) -> None:
    problems = files.problems(
        """
        modellist: []
        model_list:
          - {model_name: a, litellm_params: {model: openai/a, api_key: x}, wieght: 2}
        gateway: {on_disconect: drain}
        rate_limits: [{modle: a, limit: 1, period: minute}]
        budget: {totl: 5, total: 5, alerts: [{threshold: 50, emial: a@b.c, email: a@b.c}]}
        pricing: {opnai: {x: {input: 1}}, openai: {x: {inptu: 1, input: 1}}}
        """
    )
    found = {problem.removeprefix("config/proxy.yaml: ") for problem in problems}
    assert found == {
        "modellist is unknown. Did you mean 'model_list'?",
        "model_list[0].wieght is unknown. Did you mean 'weight'?",
        "gateway.on_disconect is unknown. Did you mean 'on_disconnect'?",
        "rate_limits[0].modle is unknown. Did you mean 'model'?",
        "budget.totl is unknown. Did you mean 'total'?",
        "budget.alerts[0].emial is unknown. Did you mean 'email'?",
        "pricing.opnai is no provider. Did you mean 'openai'?",
        "pricing.openai.x.inptu is unknown. Did you mean 'input'?",
    }


def test_sections_of_later_versions_are_not_silently_ignored(files: Files) -> None:
    (problem,) = files.problems(DEMO + "agents: []\n")
    assert "agents is not known yet" in problem


def test_a_broken_file_is_named_with_line_and_column(files: Files) -> None:
    (problem,) = files.problems("model_list: [\nbudget: {total: 1\n")
    assert problem.startswith("config/proxy.yaml: line 3, column 1: ")


@pytest.mark.parametrize("text", ["- a\n", "just text\n", "3\n"])
def test_a_file_without_sections_is_a_problem(files: Files, text: str) -> None:
    assert files.problems(text) == ["config/proxy.yaml: it must hold sections such as 'model_list:'."]


@pytest.mark.parametrize("text", ["", "# nothing\n", "model_list: []\n"])
def test_no_model_at_all_is_said(files: Files, text: str) -> None:
    assert files.load(text).warnings == ("No model is offered: add one to model_list, or set a provider's key.",)


def test_what_is_not_honoured_of_litellms_sections_is_named_once(files: Files) -> None:
    warnings = files.load(
        DEMO
        + """
litellm_settings: {num_retries: 2, request_timeout: 60, callbacks: [prometheus]}
router_settings: {retry_policy: {}, allowed_fails: 3, cooldown_time: 5, model_group_alias: {x: demo}}
general_settings: {master_key: sk-hunter2, never_heard_of: 1}
"""
    ).warnings
    assert [warning.partition(" is ignored: ")[0] for warning in warnings] == [
        "litellm_settings.callbacks",
        "router_settings.retry_policy",
        "general_settings.master_key",
        "general_settings.never_heard_of",
    ]
    assert "hunter2" not in str(warnings)


def test_gateway_defaults_are_those_of_the_contract_and_may_all_be_written_out(files: Files) -> None:
    text = """
gateway: {on_disconnect: drain, drain_timeout_s: 10, drains: 100, evidence_wait_s: 5, retry_ambiguous: false,
          connect_timeout_s: 10, first_byte_timeout_s: 600, idle_timeout_s: 120, client_stall_s: 60, shutdown_s: 30}
"""
    assert files.load(DEMO + text).gateway == files.load(DEMO).gateway == GatewayOptions()


def test_gateway_options_are_read(files: Files) -> None:
    gateway = files.load(
        DEMO + "gateway: {on_disconnect: cancel, drains: 0, idle_timeout_s: 2.5, retry_ambiguous: true}\n"
    ).gateway
    assert gateway == GatewayOptions(on_disconnect="cancel", drains=0, idle_timeout_s=2.5, retry_ambiguous=True)


def test_litellms_time_out_for_all_models_counts_where_ours_is_not_given(files: Files) -> None:
    text = DEMO + "router_settings: {timeout: 30}\nlitellm_settings: {request_timeout: 90}\n"
    assert files.load(text).gateway == GatewayOptions(first_byte_timeout_s=30, idle_timeout_s=30)
    assert files.load(text + "gateway: {first_byte_timeout_s: 7}\n").gateway.first_byte_timeout_s == 7


@pytest.mark.parametrize(
    "line",
    [
        "on_disconnect: wait", "drains: 1.5", "drains: -1", "shutdown_s: 0", "idle_timeout_s: soon",
        "idle_timeout_s: true", "connect_timeout_s: .nan", "retry_ambiguous: 1",
    ],
)  # fmt: skip
def test_a_wrong_gateway_option_is_named(files: Files, line: str) -> None:
    (problem,) = files.problems(DEMO + f"gateway: {{{line}}}\n")
    assert f"gateway.{line.split(':')[0]} must be" in problem
