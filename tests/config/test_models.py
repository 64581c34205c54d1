"""`model_list`: whose upstream each entry is, at what price; aliases, wildcards, and offers of the environment."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.config.files import DEMO, Files
from token_tracker.config.price_file import load_rates
from token_tracker.config.values import Configuration, Deployment


def one(configuration: Configuration, name: str = "m") -> Deployment:
    (deployment,) = configuration.models.exact[name]
    return deployment


def entry(params: str, more: str = "") -> str:
    return f"model_list:\n  - {{model_name: m, litellm_params: {{{params}}}{more}}}\n"


@pytest.mark.parametrize(
    ("params", "provider", "model"),
    [
        ("model: openai/gpt-4o, api_key: k", "openai", "gpt-4o"),
        ("model: openrouter/anthropic/claude-3, api_key: k", "openrouter", "anthropic/claude-3"),
        ("model: hosted_vllm/Qwen/Q, api_base: 'http://h:1/v1'", "hosted_vllm", "Qwen/Q"),
        ("model: ollama_chat/llama3", "ollama", "llama3"),
        ("model: lm_studio/x, api_base: 'http://localhost:1234/v1'", "openai", "x"),
        ("model: bedrock/anthropic.claude", "bedrock", "anthropic.claude"),
        ("model: vertex_ai/gemini-x", "vertex_ai", "gemini-x"),
        ("model: gpt-4o, api_key: k", "openai", "gpt-4o"),
        ("model: claude-sonnet-4-5, api_key: k", "anthropic", "claude-sonnet-4-5"),
        ("model: meta-llama/new, api_key: os.environ/GROQ_API_KEY", "groq", "meta-llama/new"),
        ("model: new, api_key: '${SAMBANOVA_API_KEY}'", "sambanova", "new"),
        ("model: meta-llama/new, api_base: 'https://llm.example.com/v1', api_key: k", "openai", "meta-llama/new"),
        ("model: gpt-4o, custom_llm_provider: azure, api_key: k", "azure", "gpt-4o"),
    ],
)
def test_the_provider_is_the_prefix_else_the_price_files_else_the_keys_else_openais_format(
    files: Files, params: str, provider: str, model: str
) -> None:
    deployment = one(files.load(entry(params), GROQ_API_KEY="k", SAMBANOVA_API_KEY="k"))
    assert (deployment.provider, deployment.model) == (provider, model)


def test_a_model_of_nobody_is_off_with_a_reason(files: Files) -> None:
    configuration = files.load(entry("model: who/knows, api_key: k"))
    assert configuration.models.exact == {}
    ((name, reason),) = configuration.off
    assert name == "m"
    assert "nothing tells whose model 'who/knows' is" in reason


def test_an_entry_without_a_key_takes_its_providers_from_the_environment(files: Files) -> None:
    deployment = one(files.load(entry("model: openai/x"), OPENAI_API_KEY="k"))
    assert deployment.api_key is not None
    assert files.load(entry("model: openai/x")).off == (("m", "it has no api_key, and OPENAI_API_KEY is not set"),)


def test_the_environments_key_never_goes_to_an_address_that_an_entry_names(files: Files) -> None:
    text = entry("model: openai/x, api_base: 'https://elsewhere.example.com/v1'")
    assert one(files.load(text, OPENAI_API_KEY="k")).api_key is None


def test_a_self_hosted_server_takes_its_variable_wherever_it_is(files: Files) -> None:
    text = entry("model: hosted_vllm/x, api_base: 'http://vllm:8000/v1'")
    assert one(files.load(text, HOSTED_VLLM_API_KEY="k")).api_key is not None
    assert "litellm_params.api_base is missing" in files.problems(entry("model: hosted_vllm/x"))[0]


@pytest.mark.parametrize(
    ("params", "local"),
    [
        ("model: openai/x, api_base: 'http://localhost:1/v1'", True),
        ("model: openai/x, api_base: 'http://127.8.0.1:1/v1'", True),
        ("model: openai/x, api_base: 'http://[::1]:1/v1'", True),
        ("model: openai/x, api_base: 'http://10.1.2.3/v1'", True),
        ("model: openai/x, api_base: 'http://192.168.0.2/v1'", True),
        ("model: openai/x, api_base: 'http://llama-server:8080/v1'", True),
        ("model: openai/x, api_base: 'http://gpu.lan/v1'", True),
        ("model: ollama/x, api_base: 'https://ollama.example.com'", True),
        ("model: demo/echo", True),
        ("model: openai/x, api_base: 'https://api.example.com/v1'", False),
        ("model: openai/x, api_base: 'http://8.8.8.8/v1'", False),
        ("model: openai/x, api_base: 'https://localhost.example.com/v1'", False),
        ("model: openai/x, api_key: k", False),
    ],
)
def test_loopback_private_and_self_hosted_upstreams_are_local(files: Files, params: str, local: bool) -> None:
    assert one(files.load(entry(params))).is_local is local


def test_an_entrys_own_fields_are_read(files: Files) -> None:
    more = ", lane: direct, weight: 3, on_disconnect: cancel, connect_timeout_s: 1, idle_timeout_s: 2.5"
    deployment = one(files.load(entry("model: openai/x, api_key: k, timeout: 9, weight: 7", more)))
    assert (deployment.lane, deployment.weight, deployment.on_disconnect) == ("direct", 3, "cancel")
    assert (deployment.connect_timeout_s, deployment.first_byte_timeout_s, deployment.idle_timeout_s) == (1, 9, 2.5)


def test_prices_of_an_entry_are_exact_and_may_stand_in_either_place(files: Files) -> None:
    more = ", model_info: {output_cost_per_token: 0.00000123, base_model: azure/gpt-4o, description: x}"
    deployment = one(files.load(entry("model: azure/mine, api_key: k, input_cost_per_token: 1e-07", more)))
    assert deployment.rates == {
        "input_cost_per_token": Decimal("0.0000001"),
        "output_cost_per_token": Decimal("0.00000123"),
    }
    assert deployment.price_names == ("azure/gpt-4o", "azure/mine", "mine")
    assert deployment.litellm_params == {}
    assert one(files.load(entry("model: openai/x, api_key: k"))).rates is None


def test_a_misspelt_price_is_not_taken_for_another_unit(files: Files) -> None:
    (problem,) = files.problems(entry("model: openai/x, api_key: k, input_cost_per_tokens: 0.1"))
    assert "Did you mean 'input_cost_per_token'?" in problem
    rates = one(files.load(entry("model: openai/x, api_key: k, input_cost_per_second: 0.1"))).rates
    assert rates == {"input_cost_per_second": Decimal("0.1")}


def test_every_rate_of_litellms_price_file_may_stand_on_an_entry(files: Files) -> None:
    names = sorted({name for rates in load_rates().values() for name in rates})
    params = "model: openai/x, api_key: k, " + ", ".join(f"{name}: 0.5" for name in names)
    rates = one(files.load(entry(params))).rates
    assert rates == dict.fromkeys(names, Decimal("0.5"))
    assert len(names) > 100


def test_the_price_of_a_search_may_be_litellms_table(files: Files) -> None:
    table = "search_context_cost_per_query: {search_context_size_low: 0.01, search_context_size_high: 0.05}"
    rates = one(files.load(entry("model: openai/x, api_key: k", f", model_info: {{{table}}}"))).rates
    assert rates == {
        "search_context_cost_per_query_low": Decimal("0.01"),
        "search_context_cost_per_query_high": Decimal("0.05"),
    }
    (problem,) = files.problems(
        entry("model: openai/x, api_key: k", f", model_info: {{{table.replace('low', 'lwo')}}}")
    )
    assert "search_context_size_lwo is unknown" in problem


def test_deployments_of_one_name_stay_together(files: Files) -> None:
    text = """
    model_list:
      - {model_name: m, litellm_params: {model: openai/a, api_key: k}}
      - {model_name: m, litellm_params: {model: anthropic/b, api_key: k}}
    """
    assert [deployment.provider for deployment in files.load(text).models.exact["m"]] == ["openai", "anthropic"]


def test_other_parameters_are_kept_for_the_translated_lane_and_that_is_said(files: Files) -> None:
    text = entry("model: openai/x, api_key: k, temperature: 0.5, extra_headers: {A: b}")
    configuration = files.load(text)
    assert one(configuration).litellm_params == {"temperature": 0.5, "extra_headers": {"A": "b"}}
    (warning,) = configuration.warnings
    assert "temperature, extra_headers reach 'm' on the translated lane only" in warning
    assert files.load(text.replace("}}}", "}}, lane: litellm}")).warnings == ()


def test_parameters_that_are_not_honoured_are_named_and_not_sent(files: Files) -> None:
    configuration = files.load(entry("model: gemini/x, api_key: k, rpm: 5, max_retries: 2, order: 1, num_retries: 2"))
    assert one(configuration).litellm_params == {}
    assert [warning.partition(" is ")[0].rpartition(".")[2] for warning in configuration.warnings] == [
        "rpm",
        "max_retries",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("model_list: [{model_name: m}]", "model_list[0].litellm_params is missing"),
        ("model_list: [{litellm_params: {model: demo/echo}}]", "model_list[0].model_name is missing"),
        ("model_list: [{model_name: 4.1, litellm_params: {model: demo/echo}}]", "model_name must be text"),
        ("model_list: [{model_name: m, litellm_params: {modle: demo/echo}}]", "litellm_params.model is missing"),
        ("model_list: {m: demo/echo}", "model_list must be a list"),
        (entry("model: demo/echo, api_base: localhost"), "api_base must be a URL"),
        (entry("model: demo/echo, api_base: 'http://[bad/'"), "api_base must be a URL"),
        (entry("model: openai/x, api_base: 'http://a b/v1'"), "api_base holds a space"),
        (entry("model: openai/x, api_base: 'http://me:hidden@a/v1'"), "api_base holds a user name or a password"),
        (entry("model: openai/x, base_url: 'https://a/v1?key=1'"), "base_url ends in a '?query'"),
        (entry("model: openai/x, api_base: 'https://a/v1#here'"), "or a '#fragment'"),
        (entry("model: demo/echo, lane: direct"), "lane belongs beside litellm_params"),
        (entry("model: gemini/x, api_key: k", ", lane: direct"), "lane cannot be direct"),
        (entry("model: demo/echo", ", weight: heavy"), "model_list[0].weight must be a number"),
        (entry("model: demo/echo, input_cost_per_token: -1"), "input_cost_per_token must be 0 or more"),
        ("model_list: [{model_name: 'a*b', litellm_params: {model: demo/echo}}]", "may have a '*' only at its end"),
        (DEMO + "router_settings: {model_group_alias: {a: dmeo}}", "which nothing offers. Did you mean 'demo'?"),
        (DEMO + "router_settings: {model_group_alias: {demo: demo}}", "model_group_alias.demo is also a model_name"),
    ],
)
def test_a_wrong_entry_is_named(files: Files, text: str, complaint: str) -> None:
    assert complaint in "\n".join(files.problems(text))


def test_a_wildcard_is_a_template(files: Files) -> None:
    configuration = files.load("model_list: [{model_name: 'fast/*', litellm_params: {model: 'groq/*', api_key: k}}]")
    (template,) = configuration.models.wildcards["fast/"]
    assert (template.provider, template.model) == ("groq", "*")


def test_aliases_are_read_in_both_of_litellms_forms(files: Files) -> None:
    text = DEMO + "router_settings: {model_group_alias: {gpt-4: demo, hidden: {model: demo, hidden: true}}}\n"
    assert files.load(text).models.aliases == {"gpt-4": "demo", "hidden": "demo"}


def test_an_alias_of_a_model_that_is_off_is_off(files: Files) -> None:
    text = entry("model: openai/x, api_key: '${NONE}'") + "router_settings: {model_group_alias: {a: m}}\n"
    configuration = files.load(text)
    assert configuration.models.aliases == {}
    assert configuration.off == (("m", "NONE is not set"), ("a", "it stands for 'm', which is off"))


def test_a_providers_key_offers_its_models(files: Files) -> None:
    models = files.load(OPENAI_API_KEY="a", GROQ_API_KEY="b").models
    gpt = models.env_offers["gpt-4o"]
    assert (gpt.provider, gpt.model, gpt.api_key and gpt.api_key.value) == ("openai", "gpt-4o", "a")
    assert {"text-embedding-3-small", "tts-1", "gpt-image-1"} <= set(models.env_offers)
    assert set(models.wildcards) == {"openai/", "groq/"}
    assert models.wildcards["groq/"][0].model == "*"
    for price_only in ("ft:gpt-3.5-turbo", "whisper-1", "container"):
        assert price_only not in models.env_offers
    assert not any(name.startswith(("openai/", "hd/", "1024-x-")) for name in models.env_offers)


def test_what_the_model_list_names_is_not_offered_beside_it(files: Files) -> None:
    text = """
    model_list:
      - {model_name: gpt-4o, litellm_params: {model: demo/echo}}
      - {model_name: gpt-4, litellm_params: {model: openai/gpt-4, api_key: "${NONE}"}}
      - {model_name: openai/*, litellm_params: {model: openai/*, api_key: other}}
    """
    models = files.load(text, OPENAI_API_KEY="k").models
    assert not {"gpt-4o", "gpt-4"} & set(models.env_offers)
    assert [deployment.api_key and deployment.api_key.value for deployment in models.wildcards["openai/"]] == ["other"]


def test_the_litellm_child_is_needed_for_anything_but_the_demo_and_what_is_forced_direct(files: Files) -> None:
    assert not files.load(DEMO).needs_litellm
    assert files.load(DEMO, OPENAI_API_KEY="k").needs_litellm
    assert files.load(entry("model: ollama/x")).needs_litellm
    assert not files.load(entry("model: ollama/x", ", lane: direct")).needs_litellm
    assert files.load(entry("model: demo/echo", ", lane: litellm")).needs_litellm


def test_a_password_in_an_address_is_not_repeated_in_the_complaint(files: Files) -> None:
    problems = files.problems(entry("model: openai/x, api_base: 'http://me:hidden@a/v1'"))
    assert "hidden" not in " ".join(problems)


def test_an_entry_names_a_credential_instead_of_a_key_and_never_gets_the_environments(files: Files) -> None:
    text = "model_list: [{model_name: a, litellm_params: {model: openai/a, litellm_credential_name: prod%s}}]"
    [found] = files.load(text % "", OPENAI_API_KEY="sk-env").models.exact["a"]
    assert (found.credential, found.api_key, found.litellm_params) == ("prod", None, {})
    [problem] = files.problems(text % ", api_key: sk-x")
    assert "litellm_credential_name" in problem and "give one of the two" in problem
