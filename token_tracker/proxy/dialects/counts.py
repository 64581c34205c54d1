"""Every provider's way of counting tokens, translated once into disjoint classes whose sums are the provider's totals.

A count is a whole number from 0 to a billion, `12.0` included. A total that is none makes the whole usage unreadable; a
part that is none counts as not reported, and one that is larger than its whole is cut to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from token_tracker.domain.usage import Usage

MAX_COUNT = 10**9
Counts = Mapping[str, Any]
_NONE: Counts = {}
_PROMPT = ("prompt_tokens", "input_tokens")
_COMPLETION = ("completion_tokens", "output_tokens")


def count(value: Any) -> int | None:
    """A token count, None if `value` is not one."""
    if type(value) is int:
        return value if 0 <= value <= MAX_COUNT else None
    if type(value) is float and 0 <= value <= MAX_COUNT and value.is_integer():
        return int(value)
    return None


def first(source: Counts, *names: str) -> int | None:
    """The first of `names` that is a count."""
    for name in names:
        if name in source and (value := count(source[name])) is not None:
            return value
    return None


def is_garbled(source: Counts, *names: str) -> bool:
    """Whether a total was given, but as no count: then the rest is no proof of what was consumed either."""
    return any(source.get(name) is not None for name in names) and first(source, *names) is None


def part(source: Counts, *names: str) -> int:
    """A part of a total: the first of `names` that is a positive count, else 0."""
    for name in names:
        if (value := source.get(name)) and (counted := count(value)):
            return counted
    return 0


def members(source: Counts, *names: str) -> Counts:
    """The first of `names` that is an object; details are often null."""
    for name in names:
        if isinstance(value := source.get(name), dict):
            return value
    return _NONE


def inclusive_usage(usage: Any, *, is_input_only: bool = False) -> Usage | None:
    """OpenAI's counting (chat, Responses, embeddings, images and who copies them): `prompt_tokens` or `input_tokens`
    include what was cached, `completion_tokens` or `output_tokens` the reasoning. None if nothing was counted.

    `total_tokens` above their sum: xAI counts reasoning beside the completion, Gemini's compatible route counts its
    thoughts in the total alone, and some servers leave what was cached out of the prompt.
    """
    if not isinstance(usage, dict):
        return None
    prompt = first(usage, *_PROMPT)
    completion = first(usage, *_COMPLETION)
    total = first(usage, "total_tokens")
    if prompt is None and completion is None and total is None:
        return None
    if (prompt is None and is_garbled(usage, *_PROMPT)) or (completion is None and is_garbled(usage, *_COMPLETION)):
        return None
    inputs = members(usage, "prompt_tokens_details", "input_tokens_details")
    outputs = members(usage, "completion_tokens_details", "output_tokens_details")
    prompt, completion = prompt or 0, completion or 0
    reasoning = part(outputs, "reasoning_tokens")
    cached = part(inputs, "cached_tokens") or part(
        usage, "prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens"
    )
    if total is not None and (beyond := total - prompt - completion) > 0:
        if is_input_only or (beyond == cached and beyond != reasoning):
            prompt += beyond
        else:
            completion += beyond
            reasoning = max(reasoning, beyond)
    written_5m, written_1h = _inclusive_writes(usage, inputs, prompt - min(cached, prompt))
    fresh, cached, audio, images = _parts(
        prompt - written_5m - written_1h, cached, part(inputs, "audio_tokens"), part(inputs, "image_tokens")
    )
    text, reasoning, output_audio, output_images = _parts(
        completion, reasoning, part(outputs, "audio_tokens"), part(outputs, "image_tokens")
    )
    return Usage(fresh, cached, written_5m, written_1h, audio, images, text, reasoning, output_audio, output_images)


def _parts(whole: int, first_part: int, second: int, third: int) -> tuple[int, int, int, int]:
    """What is left of `whole`, and its parts; none takes more than the ones before it leave."""
    first_part = min(first_part, whole)
    second = min(second, whole - first_part)
    third = min(third, whole - first_part - second)
    return whole - first_part - second - third, first_part, second, third


def _inclusive_writes(usage: Counts, inputs: Counts, limit: int) -> tuple[int, int]:
    split = members(inputs, "cache_creation_token_details") or members(usage, "cache_creation")
    written = part(inputs, "cache_write_tokens", "cache_creation_tokens") or part(usage, "cache_creation_input_tokens")
    return _writes(min(written, limit) if written else None, split, limit)


def _writes(total: int | None, split: Counts, limit: int) -> tuple[int, int]:
    """Cache writes by their lifetime. What the split leaves unnamed is written for 5 minutes, Anthropic's default."""
    written_1h = part(split, "ephemeral_1h_input_tokens")
    if total is None:
        total = min(part(split, "ephemeral_5m_input_tokens") + written_1h, limit)
    written_1h = min(written_1h, total)
    return total - written_1h, written_1h


def exclusive_usage(usage: Any) -> Usage | None:
    """Anthropic's counting: `input_tokens` are the fresh ones alone, cache reads and writes stand beside them, output
    includes thinking. A compaction is billed on top of the totals and listed in `iterations` only.
    None if nothing was counted."""
    if not isinstance(usage, dict):
        return None
    fresh, output = first(usage, "input_tokens"), first(usage, "output_tokens")
    if (fresh is None and output is None) or is_garbled(usage, "input_tokens") or is_garbled(usage, "output_tokens"):
        return None
    read = part(usage, "cache_read_input_tokens")
    written_5m, written_1h = _anthropic_writes(usage)
    output = output or 0
    thinking = min(part(members(usage, "output_tokens_details"), "thinking_tokens"), output)
    total = Usage(fresh or 0, read, written_5m, written_1h, 0, 0, output - thinking, thinking)
    iterations = usage.get("iterations")
    return total if not isinstance(iterations, list) else _with_compactions(total, iterations)


def _anthropic_writes(usage: Counts) -> tuple[int, int]:
    return _writes(first(usage, "cache_creation_input_tokens"), members(usage, "cache_creation"), MAX_COUNT)


def _with_compactions(total: Usage, iterations: list[Any]) -> Usage:
    for one in iterations:
        if isinstance(one, dict) and one.get("type") == "compaction":
            written_5m, written_1h = _anthropic_writes(one)
            total = Usage(
                total.input_tokens + part(one, "input_tokens"),
                total.cache_read_tokens + part(one, "cache_read_input_tokens"),
                total.cache_write_5m_tokens + written_5m,
                total.cache_write_1h_tokens + written_1h,
                0,
                0,
                total.output_tokens + part(one, "output_tokens"),
                total.reasoning_tokens,
            )
    return total
