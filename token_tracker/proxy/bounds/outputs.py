"""How much output a request asks for: its own maximum under every name, and how many answers."""

from __future__ import annotations

from collections.abc import Mapping

from token_tracker.domain.extras import ServiceTier, service_tier
from token_tracker.proxy.dialects.fields import text_of

MAXIMA = ("max_completion_tokens", "max_tokens", "max_output_tokens")
ANSWERS_MOST = 1_000_000
_ALL_TIERS = tuple(tier for tier in ServiceTier if tier is not ServiceTier.BATCH)
_STANDARD = (ServiceTier.STANDARD,)
_ORDINARY = ("", "default", "standard", "standard_only")
_FAST = b'"fast"'


def own_maximum(fields: Mapping[str, bytes]) -> int | None:
    """The largest that any of its names holds: which one an upstream obeys is its own affair. None if one of them holds
    no plain number, or there is none."""
    found: int | None = None
    for name in MAXIMA:
        raw = fields.get(name, b"null")
        if raw == b"null":
            continue
        if not raw.isdigit() or len(raw) > 15:
            return None
        found = max(found or 0, int(raw))
    return found


def answers(fields: Mapping[str, bytes], *names: str) -> int | None:
    """The largest of the named multipliers, 1 where there is none; None for what is no plain number."""
    most = 1
    for name in names:
        raw = fields.get(name, b"null")
        if raw == b"null":
            continue
        if not raw.isdigit() or len(raw) > 7 or int(raw) > ANSWERS_MOST:
            return None
        most = max(most, int(raw))
    return most


def tiers(fields: Mapping[str, bytes]) -> tuple[ServiceTier, ...]:
    """How the call may be served and billed; all that there are where the request leaves it open."""
    raw = fields.get("service_tier", b"null")
    if raw == b"null" and "speed" not in fields:
        return _STANDARD
    named = text_of(raw).lower()
    chosen = {ServiceTier.STANDARD}
    if fields.get("speed", b"null") == _FAST:
        chosen.add(ServiceTier.PRIORITY)
    if raw == b"null" or named in _ORDINARY:
        return tuple(sorted(chosen))
    known = service_tier(named)
    return _ALL_TIERS if known is ServiceTier.STANDARD else tuple(sorted(chosen | {known}))
