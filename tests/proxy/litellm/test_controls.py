"""Clients' fields that LiteLLM would obey never reach it, in the version that is installed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from token_tracker.proxy.litellm.controls import is_control

# `metadata` is cut down and `model` replaced by the lane itself.
HANDLED_BY_THE_LANE = {"metadata", "model"}
NAMES_OF_LITELLM = """
import json
from litellm.proxy.auth.auth_utils import _BANNED_REQUEST_BODY_PARAMS
from litellm.types.router import GenericLiteLLMParams, LiteLLM_Params
from litellm.types.utils import all_litellm_params
names = {*all_litellm_params, *_BANNED_REQUEST_BODY_PARAMS}
names |= {*GenericLiteLLMParams.model_fields, *LiteLLM_Params.model_fields}
print(json.dumps(sorted(names)))
"""


def test_every_parameter_that_litellm_calls_its_own_is_a_control() -> None:
    command = [sys.executable, "-W", "ignore", "-c", NAMES_OF_LITELLM]
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    listed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    names = json.loads(listed.stdout.splitlines()[-1])
    assert len(names) > 300
    assert {name for name in names if not is_control(name)} == HANDLED_BY_THE_LANE


CONTROLS = """
no-log num_retries fallbacks cache mock_response mock_testing_fallbacks api_base api_key base_url custom_llm_provider
input_cost_per_token extra_headers timeout callbacks _anything
"""
FORWARDED = """
messages input prompt system tools tool_choice temperature top_p top_k max_tokens max_completion_tokens stop
max_output_tokens stop_sequences stream stream_options response_format reasoning reasoning_effort thinking user seed n
logprobs logit_bias store service_tier voice instructions speed size quality background encoding_format dimensions
parallel_tool_calls previous_response_id include text truncation modalities audio prediction mcp_servers
context_management a_field_of_tomorrow
"""


@pytest.mark.parametrize("name", CONTROLS.split())
def test_what_changes_how_litellm_works_is_a_control(name: str) -> None:
    assert is_control(name)


@pytest.mark.parametrize("name", FORWARDED.split())
def test_what_the_upstream_judges_is_forwarded(name: str) -> None:
    assert not is_control(name)
