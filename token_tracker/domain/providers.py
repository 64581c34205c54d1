"""What is known of each provider: its key's variable, its address, and the formats its servers speak."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class WireFormat(StrEnum):
    """A request and answer format an upstream may speak; one dialect module reads each."""

    CHAT = "chat"  # POST {base}/chat/completions
    COMPLETIONS = "completions"  # POST {base}/completions
    EMBEDDINGS = "embeddings"  # POST {base}/embeddings
    RESPONSES = "responses"  # POST {base}/responses
    MESSAGES = "messages"  # POST {base}/v1/messages (Anthropic)
    COUNT_TOKENS = "count_tokens"  # POST {base}/v1/messages/count_tokens (Anthropic)
    SPEECH = "speech"  # POST {base}/audio/speech
    TRANSCRIPTIONS = "transcriptions"  # POST {base}/audio/transcriptions
    TRANSLATIONS = "translations"  # POST {base}/audio/translations
    IMAGES = "images"  # POST {base}/images/generations
    IMAGE_EDITS = "image_edits"  # POST {base}/images/edits
    IMAGE_VARIATIONS = "image_variations"  # POST {base}/images/variations
    MODERATIONS = "moderations"  # POST {base}/moderations
    RERANK = "rerank"  # POST {base}/rerank


# What LiteLLM's proxy has no route for: only an upstream that speaks it can be asked.
UNTRANSLATED = frozenset({WireFormat.TRANSLATIONS, WireFormat.IMAGE_VARIATIONS})

_CHAT = frozenset({WireFormat.CHAT})
_CHAT_EMBEDDINGS = frozenset({WireFormat.CHAT, WireFormat.EMBEDDINGS})
_WITH_COMPLETIONS = _CHAT_EMBEDDINGS | {WireFormat.COMPLETIONS}
_HEARING = frozenset({WireFormat.TRANSCRIPTIONS, WireFormat.TRANSLATIONS})
_MESSAGES = frozenset({WireFormat.MESSAGES, WireFormat.COUNT_TOKENS})
# Rerank is not OpenAI's own, but what OpenAI-compatible servers take at the same base.
_OPENAI = frozenset(WireFormat) - _MESSAGES
_TOGETHER = _WITH_COMPLETIONS | {WireFormat.IMAGES, WireFormat.RERANK}
_DEMO = _WITH_COMPLETIONS | _MESSAGES | {WireFormat.RESPONSES}
_VLLM = _WITH_COMPLETIONS | _HEARING | {WireFormat.RESPONSES, WireFormat.RERANK}


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider by LiteLLM's name for it.

    `api_base` follows LiteLLM: OpenAI-compatible ones end before `/chat/completions`, Anthropic's before
    `/v1/messages`, Ollama's before `/v1`; None where a deployment must name one. `direct` are the formats that the
    gateway forwards itself; everything else goes through the LiteLLM child. `rejects_usage_option`: its chat answers
    `stream_options.include_usage` with an error, and counts streams without being asked. `reports_cost`: its usage says
    what the call costs the user, in US dollars.
    """

    name: str
    key_variable: str | None
    api_base: str | None
    direct: frozenset[WireFormat]
    self_hosted: bool = False
    rejects_usage_option: bool = False
    reports_cost: bool = False


_ALL = (
    Provider("openai", "OPENAI_API_KEY", "https://api.openai.com/v1", _OPENAI),
    Provider("anthropic", "ANTHROPIC_API_KEY", "https://api.anthropic.com", _MESSAGES),
    Provider("groq", "GROQ_API_KEY", "https://api.groq.com/openai/v1", _CHAT | _HEARING | {WireFormat.SPEECH}),
    Provider("mistral", "MISTRAL_API_KEY", "https://api.mistral.ai/v1", _CHAT_EMBEDDINGS, rejects_usage_option=True),
    Provider("deepseek", "DEEPSEEK_API_KEY", "https://api.deepseek.com/v1", _CHAT),
    Provider("openrouter", "OPENROUTER_API_KEY", "https://openrouter.ai/api/v1", _WITH_COMPLETIONS, reports_cost=True),
    Provider("together_ai", "TOGETHERAI_API_KEY", "https://api.together.xyz/v1", _TOGETHER),
    Provider("fireworks_ai", "FIREWORKS_AI_API_KEY", "https://api.fireworks.ai/inference/v1", _WITH_COMPLETIONS),
    Provider("xai", "XAI_API_KEY", "https://api.x.ai/v1", _CHAT | {WireFormat.IMAGES}, reports_cost=True),
    Provider("perplexity", "PERPLEXITYAI_API_KEY", "https://api.perplexity.ai", _CHAT, reports_cost=True),
    Provider("deepinfra", "DEEPINFRA_API_KEY", "https://api.deepinfra.com/v1/openai", _WITH_COMPLETIONS),
    Provider("cerebras", "CEREBRAS_API_KEY", "https://api.cerebras.ai/v1", _CHAT | {WireFormat.COMPLETIONS}),
    Provider("nvidia_nim", "NVIDIA_NIM_API_KEY", "https://integrate.api.nvidia.com/v1", _CHAT_EMBEDDINGS),
    Provider("hosted_vllm", "HOSTED_VLLM_API_KEY", None, _VLLM, self_hosted=True),
    Provider("ollama", None, "http://localhost:11434", _WITH_COMPLETIONS, self_hosted=True),
    # The echo provider that comes with the product; its address is set by the supervisor.
    Provider("demo", None, None, _DEMO, self_hosted=True),
    # Known by their key only: served on the translated lane.
    Provider("gemini", "GEMINI_API_KEY", None, frozenset()),
    Provider("cohere", "COHERE_API_KEY", None, frozenset()),
)
PROVIDERS: dict[str, Provider] = {provider.name: provider for provider in _ALL}
