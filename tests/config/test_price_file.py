"""The price file is read exactly, from the locked package, without importing it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from token_tracker.config import price_file
from token_tracker.config.price_file import load_catalogue, load_limits, load_rates


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "prices.json"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_price_is_the_text_of_the_file_and_never_a_float(tmp_path: Path) -> None:
    path = written(
        tmp_path, '{"m": {"input_cost_per_token": 2.500000000000000000000001e-06, "output_cost_per_token": 1e-5}}'
    )
    assert load_rates(path) == {
        "m": {"input_cost_per_token": "0.000002500000000000000000000001", "output_cost_per_token": "0.00001"}
    }


def test_what_is_no_price_is_left_out(tmp_path: Path) -> None:
    model = {
        "litellm_provider": "openai",
        "max_tokens": 4096,
        "supports_vision": True,
        "provider_specific_entry": {"us": 1.1},
    }
    assert load_rates(written(tmp_path, json.dumps({"sample_spec": {"input_cost_per_token": 0.0}, "m": model}))) == {}


def test_a_price_of_zero_is_a_price(tmp_path: Path) -> None:
    path = written(tmp_path, '{"m": {"input_cost_per_token": 0.0, "output_cost_per_token": 0}}')
    assert load_rates(path) == {"m": {"input_cost_per_token": "0", "output_cost_per_token": "0"}}


def test_a_tier_table_becomes_the_fields_that_other_models_have(tmp_path: Path) -> None:
    tiers = (
        '{"range": [32000.0, 128000.0], "input_cost_per_token": 1.8e-06, "output_cost_per_token": 9e-06}, '
        '{"range": [0, 32000.0], "input_cost_per_token": 1e-06, "output_cost_per_token": 5e-06}'
    )
    assert load_rates(written(tmp_path, f'{{"m": {{"tiered_pricing": [{tiers}]}}}}')) == {
        "m": {
            "input_cost_per_token": "0.000001",
            "output_cost_per_token": "0.000005",
            "input_cost_per_token_above_32k_tokens": "0.0000018",
            "output_cost_per_token_above_32k_tokens": "0.000009",
        }
    }


@pytest.mark.parametrize(
    "table",
    [
        '[{"range": [1000, 2000], "input_cost_per_token": 1e-06}]',
        '[{"max_results_range": [0, 25], "input_cost_per_query": 0.005}]',
        "[]",
        "null",
    ],
)
def test_a_tier_table_that_does_not_say_what_a_small_prompt_costs_is_not_guessed_at(table: str, tmp_path: Path) -> None:
    assert load_rates(written(tmp_path, f'{{"m": {{"tiered_pricing": {table}}}}}')) == {}


def test_the_catalogue_names_provider_and_mode_and_follows_the_file(tmp_path: Path) -> None:
    path = written(
        tmp_path, '{"sample_spec": {}, "m": {"litellm_provider": "groq", "mode": "chat", "x": [1]}, "n": {}}'
    )
    catalogue = load_catalogue(path)
    assert {name: (entry.provider, entry.mode) for name, entry in catalogue.entries.items()} == {
        "m": ("groq", "chat"),
        "n": ("", ""),
    }
    path.write_text("{}", encoding="utf-8")
    assert load_catalogue(path).digest != catalogue.digest


def test_the_locked_package_has_thousands_of_priced_models_and_is_not_imported() -> None:
    code = (
        "import sys\n"
        "from token_tracker.config.price_file import load_catalogue, load_limits, load_rates\n"
        "assert load_catalogue().entries['gpt-4o'].provider == 'openai'\n"
        "assert len(load_rates()) > 3000\n"
        "assert 'litellm' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_missing_package_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price_file, "FILE_NAME", "no_such_file.json")
    with pytest.raises(FileNotFoundError, match="make install"):
        load_catalogue()


def test_a_tier_of_xai_begins_at_its_threshold_and_not_above_it(tmp_path: Path) -> None:
    model = (
        '{"litellm_provider": "xai", "input_cost_per_token": 2e-06, "input_cost_per_token_above_200k_tokens": 4e-06}'
    )
    assert load_rates(written(tmp_path, f'{{"xai/m": {model}}}')) == {
        "xai/m": {"input_cost_per_token": "0.000002", "input_cost_per_token_above_199999_tokens": "0.000004"}
    }


def test_fireworks_bills_cached_input_at_half_where_it_names_no_rate(tmp_path: Path) -> None:
    named = '{"litellm_provider": "fireworks_ai", "input_cost_per_token": 9e-07, "cache_read_input_token_cost": 1e-07}'
    silent = '{"litellm_provider": "fireworks_ai", "input_cost_per_token": 9e-07}'
    rates = load_rates(written(tmp_path, f'{{"named": {named}, "silent": {silent}}}'))
    assert rates["named"]["cache_read_input_token_cost"] == "0.0000001"
    assert rates["silent"]["cache_read_input_token_cost"] == "0.00000045"


def test_anthropics_surcharges_are_written_out_as_service_tiers(tmp_path: Path) -> None:
    model = (
        '{"litellm_provider": "anthropic", "input_cost_per_token": 5e-06, "input_cost_per_token_batches": 2.5e-06, '
        '"output_cost_per_token_above_200k_tokens": 2.5e-05, "provider_specific_entry": {"us": 1.1, "fast": 2, "x": 3}}'
    )
    assert load_rates(written(tmp_path, f'{{"m": {model}}}'))["m"] == {
        "input_cost_per_token": "0.000005",
        "input_cost_per_token_batches": "0.0000025",
        "output_cost_per_token_above_200k_tokens": "0.000025",
        "input_cost_per_token_fast": "0.00001",
        "output_cost_per_token_above_200k_tokens_fast": "0.00005",
        "input_cost_per_token_us": "0.0000055",
        "output_cost_per_token_above_200k_tokens_us": "0.0000275",
        "input_cost_per_token_us_fast": "0.000011",
        "output_cost_per_token_above_200k_tokens_us_fast": "0.000055",
    }


def test_the_table_of_search_prices_becomes_a_field_for_each_size(tmp_path: Path) -> None:
    sizes = '{"search_context_size_low": 0.03, "search_context_size_high": 5e-02, "search_context_size_huge": 1.0}'
    assert load_rates(written(tmp_path, f'{{"m": {{"search_context_cost_per_query": {sizes}}}}}')) == {
        "m": {"search_context_cost_per_query_low": "0.03", "search_context_cost_per_query_high": "0.05"}
    }


def test_rates_of_service_tiers_and_of_other_units_are_kept_by_their_names(tmp_path: Path) -> None:
    named = {
        "input_cost_per_token_batches": "0.5",
        "input_cost_per_token_above_272k_tokens_priority": "0.25",
        "output_cost_per_image": "0.04",
        "input_cost_per_character": "0.000015",
        "output_cost_per_second_1080p": "0.1",
    }
    text = ", ".join(f'"{name}": {rate}' for name, rate in named.items())
    assert load_rates(written(tmp_path, f'{{"m": {{{text}}}}}')) == {"m": named}


def test_limits_are_read_where_the_file_knows_them(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text(
        '{"sample_spec": {"max_input_tokens": "many"}, "a": {"max_input_tokens": 128000, "max_output_tokens": 16384.0},'
        ' "b": {"max_output_tokens": 0}, "c": {"max_input_tokens": null, "max_output_tokens": 5}}'
    )
    assert load_limits(path) == {"a": (128_000, 16_384), "c": (None, 5)}
    assert load_limits()["gpt-4o"] == (128_000, 16_384)
