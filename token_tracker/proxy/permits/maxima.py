"""The output maximum of a call under a hard budget, written where its upstream looks for it and nowhere else."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import urlsplit

from token_tracker.domain.providers import PROVIDERS, WireFormat
from token_tracker.proxy.bounds.outputs import MAXIMA
from token_tracker.proxy.dialects import fields as top
from token_tracker.proxy.dialects.base import Request
from token_tracker.proxy.upstreams import Target

_NULL = b"null"
_OPENAI_HOST = "api.openai.com"
_REASONING = re.compile(r"(?:^|[/.])(?:o\d|gpt-[5-9]|codex)")  # they refuse `max_tokens`
_FIXED = {
    WireFormat.RESPONSES: "max_output_tokens",
    WireFormat.MESSAGES: "max_tokens",
    WireFormat.COMPLETIONS: "max_tokens",
}


def with_maximum(request: Request, target: Target, wire: WireFormat, maximum: int) -> Request:
    """The request with this output maximum under the one name that its upstream obeys; its bytes untouched if that is
    what it says. A maximum under a name that an upstream may not know would bound nothing."""
    name = name_of_maximum(target, wire)
    value = b"%d" % maximum
    fields = request.fields
    named = [each for each in MAXIMA if each in fields]
    if named == [name] and fields[name] == value:
        return request._replace(is_bounded=True)
    fields = {each: raw for each, raw in fields.items() if each not in named or each == name}
    fields[name] = value
    return request._replace(fields=fields, original=top.join(fields), output_bound=maximum, is_bounded=True)


def name_of_maximum(target: Target, wire: WireFormat) -> str:
    """LiteLLM takes `max_tokens` for every provider and gives it the provider's own name."""
    if wire is not WireFormat.CHAT:
        return _FIXED[wire]
    deployment = target.deployment
    if target.lane != "direct" or deployment.provider != "openai":
        return "max_tokens"
    return _openais_name(deployment.api_base or "", deployment.model, deployment.base_model or "")


@lru_cache(maxsize=1024)
def _openais_name(api_base: str, *names: str) -> str:
    host = urlsplit(api_base or PROVIDERS["openai"].api_base or "").hostname
    is_reasoning = any(_REASONING.search(each) for each in names)
    return "max_completion_tokens" if is_reasoning or host == _OPENAI_HOST else "max_tokens"
