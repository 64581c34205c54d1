"""The most that a request asks for, read from its bytes: one reader for each wire format."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from token_tracker.domain.bounds import NOTHING, Extent
from token_tracker.domain.providers import WireFormat
from token_tracker.proxy.bounds.conversations import chat, completions, messages, responses
from token_tracker.proxy.bounds.others import embeddings, images, moderations, rerank, speech
from token_tracker.proxy.bounds.uploads import pictures, recordings
from token_tracker.proxy.dialects.base import Request


def _free(_: Request) -> Extent:
    return NOTHING


_READERS: Mapping[WireFormat, Callable[[Request], Extent]] = {
    WireFormat.CHAT: chat,
    WireFormat.COMPLETIONS: completions,
    WireFormat.EMBEDDINGS: embeddings,
    WireFormat.RESPONSES: responses,
    WireFormat.MESSAGES: messages,
    WireFormat.COUNT_TOKENS: _free,
    WireFormat.SPEECH: speech,
    WireFormat.TRANSCRIPTIONS: recordings,
    WireFormat.TRANSLATIONS: recordings,
    WireFormat.IMAGES: images,
    WireFormat.IMAGE_EDITS: pictures,
    WireFormat.IMAGE_VARIATIONS: pictures,
    WireFormat.MODERATIONS: moderations,
    WireFormat.RERANK: rerank,
}


def extent_of(wire: WireFormat, request: Request) -> Extent:
    """Raises nothing: what cannot be read is taken for the most that it could be."""
    return _READERS[wire](request)
