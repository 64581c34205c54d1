"""What a call consumed, in disjoint token classes, and on whose word."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, Self


class UsageSource(StrEnum):
    """Who counted. Ordered from proof to nothing."""

    PROVIDER = "provider"
    PROVIDER_PARTIAL = "provider_partial"
    ESTIMATED = "estimated"
    NONE = "none"


class EndReason(StrEnum):
    """How an attempt ended."""

    COMPLETE = "complete"
    CLIENT_DISCONNECT = "client_disconnect"
    CANCELLED = "cancelled"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_DISCONNECT = "upstream_disconnect"
    TIMEOUT = "timeout"
    BUDGET_CUTOFF = "budget_cutoff"
    CRASH = "crash"


ERROR_REASONS = frozenset({EndReason.UPSTREAM_ERROR, EndReason.UPSTREAM_DISCONNECT, EndReason.TIMEOUT, EndReason.CRASH})


class _Counts(NamedTuple):
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    input_audio_tokens: int = 0
    input_image_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0


TOKEN_CLASSES = _Counts._fields


class Usage(_Counts):
    """Tokens by class, in the order of `TOKEN_CLASSES`; no token is in two classes, so sums are plain sums (law 7).

    `input_tokens` are fresh text tokens (neither cached nor audio nor image); `output_tokens` exclude reasoning,
    audio and image tokens. Raises ValueError for a negative count.
    """

    __slots__ = ()

    def __new__(cls, *counts: int, **named: int) -> Self:
        usage = super().__new__(cls, *counts, **named)
        if min(usage) < 0:
            raise ValueError(f"{usage}: a token count cannot be negative")
        return usage

    @property
    def prompt_tokens(self) -> int:
        """The total that OpenAI calls `prompt_tokens`: everything that went in, cached or not."""
        return (
            self.input_tokens
            + self.cache_read_tokens
            + self.cache_write_5m_tokens
            + self.cache_write_1h_tokens
            + self.input_audio_tokens
            + self.input_image_tokens
        )

    @property
    def completion_tokens(self) -> int:
        """The total that OpenAI calls `completion_tokens`: everything that came out, reasoning included."""
        return self.output_tokens + self.reasoning_tokens + self.output_audio_tokens + self.output_image_tokens

    @property
    def total_tokens(self) -> int:
        return sum(self)


NO_USAGE = Usage()
