"""Reranking, as Cohere began it and OpenAI-compatible servers took it over."""

from __future__ import annotations

from token_tracker.domain.providers import WireFormat
from token_tracker.domain.usage import Usage
from token_tracker.proxy.dialects.base import Reading
from token_tracker.proxy.dialects.counts import count, inclusive_usage, members
from token_tracker.proxy.dialects.extras import extras_of
from token_tracker.proxy.dialects.facts import facts, whole_answer
from token_tracker.proxy.dialects.opaque import Opaque


class Rerank(Opaque):
    """Tokens are in `usage`, or in `meta.billed_units.total_tokens`. Cohere's `meta.tokens` are not read: it bills by
    the search, and a count of tokens would make such a call look paid for at no cost."""

    def read_body(self, body: bytes) -> Reading:
        known = facts(body, "id", "usage", "meta", "error")
        usage, extras = inclusive_usage(known.get("usage"), is_input_only=True), extras_of(known.get("usage"))
        if usage is None and isinstance(known.get("meta"), dict):
            billed = members(known["meta"], "billed_units")
            extras = extras_of(billed)
            total = None if extras.queries else count(billed.get("total_tokens"))
            usage = None if total is None else Usage(input_tokens=total)
        return whole_answer(known, usage, extras)


RERANK = Rerank(WireFormat.RERANK, ("query", "documents"), frozenset(), inclusive_usage)
