"""How much output a request asks for: its own maximum under every name, and how many answers."""

from __future__ import annotations

from collections.abc import Container, Mapping

import msgspec

from token_tracker.domain.extras import SURCHARGED, ServiceTier, service_tier, surcharged
from token_tracker.proxy.dialects.facts import UNREADABLE
from token_tracker.proxy.dialects.fields import text_of

MAXIMA = ("max_completion_tokens", "max_tokens", "max_output_tokens")
ANSWERS_MOST = 1_000_000
_ALL_TIERS = tuple(tier for tier in ServiceTier if tier is not ServiceTier.BATCH and tier not in SURCHARGED)
_STANDARD = (ServiceTier.STANDARD,)
_ORDINARY = ("", "default", "standard", "standard_only")
_SILENT = frozenset(("text", "image"))


class _Edit(msgspec.Struct, gc=False):
    type: str


class _Edits(msgspec.Struct, gc=False):
    edits: list[_Edit] = []


_edits = msgspec.json.Decoder(_Edits).decode
_modalities = msgspec.json.Decoder(list[str] | None).decode

# Fields by which a provider does more than answer once: other models, searches, code of its own, a summary on the way.
_MORE = """
    web_search_options plugins models search_parameters compound_custom container mcp_servers context_management
    fallbacks background connectors enable_search web_search compaction data_sources enhancements
    """
# And other providers' own words, which LiteLLM hands on beside those that it made of ours, or in their place: maxima,
# numbers of answers, what is kept in a cache, kinds of answers, faster service.
_FOREIGN = """
    max_new_tokens max_gen_len max_length max_token_count max_tokens_to_sample num_predict n_predict candidate_count
    num_generations num_return_sequences num_results sample_count number_of_images num_images cached_content
    response_modalities speech_config generation_config inference_config text_generation_config
    additional_model_request_fields performance_config extra_body
    """


def _bare(name: str) -> str:
    """Google takes `maxOutputTokens` and `max_output_tokens`."""
    return name.replace("_", "").lower()


_DOES_MORE = frozenset(map(_bare, (_MORE + _FOREIGN).split()))
# What is read here, by which a call costs more: spelt otherwise, as some servers take it too, it is not read.
_READ = """
    n best_of tools functions messages input prompt system modalities audio prediction cache_control service_tier speed
    inference_geo thread previous_response_id conversation partial_images quality size documents query
    """
_ANSWERED = {_bare(name): name for name in (*MAXIMA, *_READ.split())}
_OFF = (b"null", b"", b"[]", b"false")  # not {}: a search with the usual settings


def does_more(fields: Mapping[str, bytes], own: Container[str] = ()) -> str:
    """Why a field lets the provider do more than its maximum and number of answers say; '' if none does. `own`: those
    that mean something else on this route."""
    for name, raw in fields.items():
        bare = _bare(name)
        if name in own or raw in _OFF or (name == "context_management" and _only_clears(raw)):
            continue
        if bare in _DOES_MORE or _ANSWERED.get(bare, name) != name:
            return f"'{name[:64]}', by which the provider may do more than is asked here"
    return ""


def _only_clears(raw: bytes) -> bool:
    """Anthropic's edits that take something out of the conversation; others have it summed up."""
    try:
        edits = _edits(raw).edits
    except UNREADABLE:
        return False
    return all(edit.type.startswith("clear_") for edit in edits)


def speaks(fields: Mapping[str, bytes]) -> bool:
    """Whether the answer may be sound."""
    modalities = fields.get("modalities", b"null")
    try:
        named = _modalities(modalities) or []
    except UNREADABLE:
        return True
    return fields.get("audio", b"null") not in _OFF or not frozenset(map(str.lower, named)) <= _SILENT


def own_maximum(fields: Mapping[str, bytes]) -> int | None:
    """The largest that any of its names holds: which one an upstream obeys is its own affair. None if one of them holds
    no plain number, or there is none. At least 1: where 0 is no maximum at all, nothing would bound the answer."""
    found: int | None = None
    for name in MAXIMA:
        raw = fields.get(name, b"null")
        if raw == b"null":
            continue
        if not raw.isdigit() or len(raw) > 15:
            return None
        found = max(found or 1, int(raw))
    return found


def answers(fields: Mapping[str, bytes], *names: str, least: int = 1) -> int | None:
    """The largest of the named multipliers, `least` where there is none; None for what is no plain number."""
    most = least
    for name in names:
        raw = fields.get(name, b"null")
        if raw in (b"null", b""):
            continue
        if not raw.isdigit() or len(raw) > 7 or int(raw) > ANSWERS_MOST:
            return None
        most = max(most, int(raw))
    return most


def tiers(fields: Mapping[str, bytes]) -> tuple[ServiceTier, ...]:
    """How the call may be served and billed; all that there are where the request leaves it open."""
    raw = fields.get("service_tier", b"null")
    if raw == b"null" and "speed" not in fields and "inference_geo" not in fields:
        return _STANDARD
    named = text_of(raw).lower()
    chosen = {ServiceTier.STANDARD}
    is_fast = fields.get("speed", b"null") != b"null" and text_of(fields["speed"]) != "standard"
    is_us = fields.get("inference_geo", b"null") != b"null" and text_of(fields["inference_geo"]) != "global"
    chosen.add(surcharged(is_fast=is_fast, is_us=is_us))
    if raw == b"null" or (raw.startswith(b'"') and named in _ORDINARY):
        return tuple(sorted(chosen))
    known = service_tier(named)
    return tuple(sorted(chosen | (set(_ALL_TIERS) if known is ServiceTier.STANDARD else {known})))
