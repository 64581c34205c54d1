"""Run as a child process: what LiteLLM's own cost calculator says, for the differential test.

Reads JSON lines `{"model", "provider", "usage": {token class: count}}` and prints one cost in USD a line, or 'null'
where LiteLLM raises.
"""

import json
import sys

import litellm
from litellm.types.utils import CacheCreationTokenDetails, CompletionTokensDetailsWrapper, PromptTokensDetailsWrapper
from litellm.types.utils import Usage as LiteLlmUsage


def main() -> None:
    for line in sys.stdin:
        case = json.loads(line)
        try:
            costs = litellm.cost_per_token(
                model=case["model"], custom_llm_provider=case["provider"], usage_object=_usage(**case["usage"])
            )
            print(repr(sum(costs)))
        except Exception:
            print("null")


def _usage(
    *, fresh: int, read: int, write_5m: int, write_1h: int, audio: int, output: int, reasoning: int
) -> LiteLlmUsage:
    prompt = fresh + read + write_5m + write_1h + audio
    return LiteLlmUsage(
        prompt_tokens=prompt,
        completion_tokens=output + reasoning,
        total_tokens=prompt + output + reasoning,
        prompt_tokens_details=PromptTokensDetailsWrapper(
            text_tokens=fresh,
            cached_tokens=read,
            audio_tokens=audio,
            cache_creation_tokens=write_5m + write_1h,
            cache_creation_token_details=CacheCreationTokenDetails(
                ephemeral_5m_input_tokens=write_5m, ephemeral_1h_input_tokens=write_1h
            ),
        ),
        completion_tokens_details=CompletionTokensDetailsWrapper(text_tokens=output, reasoning_tokens=reasoning),
    )


if __name__ == "__main__":
    main()
