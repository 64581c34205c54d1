"""Run as a child process: what LiteLLM's own cost calculator says, for the differential test.

Reads JSON lines `{"model", "provider", "kind", "tier", "usage", "units"}` and prints a JSON line for each: the name in
the price file that LiteLLM took, and its cost in USD. Both are null where it raises.
"""

import json
import sys
from typing import Any

import litellm
from litellm.types.utils import (
    CacheCreationTokenDetails,
    CompletionTokensDetailsWrapper,
    ImageObject,
    ImageResponse,
    PromptTokensDetailsWrapper,
)
from litellm.types.utils import Usage as LiteLlmUsage


def main() -> None:
    litellm.suppress_debug_info = True
    for line in sys.stdin:
        case = json.loads(line)
        try:
            print(json.dumps([_key(case), _cost(case)]))
        except Exception:
            print("[null, null]")


def _key(case: dict[str, Any]) -> str | None:
    return litellm.get_model_info(model=case["model"], custom_llm_provider=case["provider"])["key"]


def _cost(case: dict[str, Any]) -> float:
    model, provider, units = case["model"], case["provider"], case["units"]
    if case["kind"] == "images":
        answer = ImageResponse(created=1, data=[ImageObject(url="u") for _ in range(units["images"])])
        return litellm.completion_cost(
            completion_response=answer, model=model, custom_llm_provider=provider, call_type="image_generation"
        )
    call = {
        "speech": {"call_type": "speech", "prompt_characters": units.get("characters")},
        "transcription": {"call_type": "transcription", "audio_transcription_file_duration": units.get("seconds")},
        "rerank": {"call_type": "rerank", "rerank_billed_units": {"search_units": units.get("queries")}},
        "search": {"call_type": "search", "number_of_queries": units.get("queries")},
        "batch": {"call_type": "aretrieve_batch"},
        "tokens": {},
    }[case["kind"]]
    usage = _usage(**case["usage"])
    costs = litellm.cost_per_token(
        model=model, custom_llm_provider=provider, usage_object=usage, service_tier=case["tier"] or None, **call
    )
    return sum(costs)


def _usage(
    *,
    fresh: int = 0,
    read: int = 0,
    write_5m: int = 0,
    write_1h: int = 0,
    audio: int = 0,
    image: int = 0,
    output: int = 0,
    reasoning: int = 0,
    output_audio: int = 0,
    output_image: int = 0,
) -> LiteLlmUsage:
    prompt = fresh + read + write_5m + write_1h + audio + image
    completion = output + reasoning + output_audio + output_image
    return LiteLlmUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=PromptTokensDetailsWrapper(
            text_tokens=fresh,
            cached_tokens=read,
            audio_tokens=audio,
            image_tokens=image,
            cache_creation_tokens=write_5m + write_1h,
            cache_creation_token_details=CacheCreationTokenDetails(
                ephemeral_5m_input_tokens=write_5m, ephemeral_1h_input_tokens=write_1h
            ),
        ),
        completion_tokens_details=CompletionTokensDetailsWrapper(
            text_tokens=output, reasoning_tokens=reasoning, audio_tokens=output_audio, image_tokens=output_image
        ),
    )


if __name__ == "__main__":
    main()
