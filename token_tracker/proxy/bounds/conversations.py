"""The routes whose answer is as long as the model likes, up to a maximum of output tokens."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from token_tracker.domain.bounds import MESSAGE_TOKENS, PREAMBLE_TOKENS, Extent
from token_tracker.proxy.bounds.outputs import answers, does_more, own_maximum, speaks, tiers
from token_tracker.proxy.bounds.parts import Found, messages_of_text
from token_tracker.proxy.bounds.schemas import all_written_out
from token_tracker.proxy.bounds.tools import NO_TOOLS, Tools, together, tools_of
from token_tracker.proxy.dialects.base import Request
from token_tracker.proxy.dialects.facts import UNREADABLE

_NULL = (b"null", b"")
_EMPTY = (*_NULL, b"[]", b"{}", b"false")
_Fields = Mapping[str, bytes]
_RESPONSES_OPEN = ("previous_response_id", "conversation", "prompt")
_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode

# Fields that change nothing of what is consumed, beside the messages and the maxima: with these alone, messages of text
# tell all.
_HARMLESS = frozenset(
    """
    model messages max_tokens max_completion_tokens max_output_tokens stream stream_options temperature top_p top_k stop
    stop_sequences seed user metadata frequency_penalty presence_penalty logit_bias logprobs top_logprobs store
    reasoning_effort verbosity parallel_tool_calls prompt_cache_key safety_identifier
    """.split()  # noqa: SIM905 (one word a name reads better than twenty quoted strings)
)


def chat(request: Request) -> Extent:
    fields = request.fields
    if (plain := _plain(request)) is not None:
        return plain
    found = Found("openai")
    found.conversation(fields.get("messages", b"null"))
    return _extent(
        request,
        found,
        tools=together(tools_of(fields.get("tools"), "openai"), tools_of(fields.get("functions"), "functions")),
        outputs=answers(fields, "n", "best_of"),
        has_format=_has(fields, "response_format", "functions"),
    )


def messages(request: Request) -> Extent:
    fields = request.fields
    if (plain := _plain(request)) is not None:
        return plain
    found = Found("anthropic")
    found.conversation(fields.get("messages", b"null"))
    found.is_open = found.is_open or _has(fields, "thread")
    if fields.get("system", b"null") not in _NULL:
        found.conversation(fields["system"])
    return _extent(
        request,
        found,
        tools=tools_of(fields.get("tools"), "anthropic"),
        outputs=1,
        has_format=_has(fields, "output_format", "output_config", "thinking"),
    )


def responses(request: Request) -> Extent:
    fields = request.fields
    found = Found("openai")
    found.conversation(fields.get("input", b"null"))
    found.is_open = found.is_open or _has(fields, *_RESPONSES_OPEN)
    return _extent(
        request,
        found,
        tools=tools_of(fields.get("tools"), "openai"),
        outputs=1,
        has_format=_has(fields, "text"),
    )


def _plain(request: Request) -> Extent | None:
    """The same as the long way tells, for messages of text and nothing else: what nearly all calls are."""
    fields = request.fields
    if not fields.keys() <= _HARMLESS:
        return None
    number = messages_of_text(fields.get("messages", b""))
    if number is None:
        return None
    return Extent(len(request.original) + number * MESSAGE_TOKENS, own_maximum=own_maximum(fields))


def completions(request: Request) -> Extent:
    """Every prompt of a list is answered `n` times, and `best_of` answers are made where only the best is sent."""
    fields = request.fields
    prompt = fields.get("prompt", b"null")
    found = Found("openai", items=1)
    number = 1 if prompt in _NULL or prompt.startswith(b'"') else _number_of_prompts(prompt)
    each = answers(fields, "n", "best_of")
    outputs = None if number is None or each is None else number * each
    return _extent(request, found, tools=NO_TOOLS, outputs=outputs, has_format=False)


def _number_of_prompts(raw: bytes) -> int | None:
    """Texts, lists of tokens, or one list of tokens; None if it is something else."""
    try:
        prompts = _raws(raw)
    except UNREADABLE:
        return None
    kinds = {bytes(prompt)[:1] for prompt in prompts}
    if kinds and kinds <= {b'"', b"["}:
        return len(prompts)
    return 1 if all(bytes(prompt).isdigit() for prompt in prompts) else None


def _extent(request: Request, found: Found, *, tools: Tools, outputs: int | None, has_format: bool) -> Extent:
    fields, body = request.fields, request.original
    tools = together(tools, found.tools)
    wrapped = (found.items + tools.number) * MESSAGE_TOKENS
    if tools.number or has_format:
        wrapped += PREAMBLE_TOKENS
    unfolded = all_written_out(fields)
    unbounded = tools.foreign or found.unbounded or does_more(fields)
    if outputs is None:
        unbounded = unbounded or "a number of answers that cannot be read"
    return Extent(
        text_tokens=len(body) - found.media_bytes + wrapped + (unfolded or 0),
        images=found.images,
        audio_bytes=found.audio_bytes,
        is_open=found.is_open or unfolded is None,
        unbounded=unbounded,
        outputs=outputs or 1,
        own_maximum=own_maximum(fields),
        extra_output_tokens=len(fields.get("prediction", b"")),
        writes_cache=found.writes_cache or tools.writes_cache or _has(fields, "cache_control"),
        speaks=speaks(fields),
        tiers=tiers(fields),
    )


def _has(fields: _Fields, *names: str) -> bool:
    return any(fields.get(name, b"null") not in _EMPTY for name in names)
