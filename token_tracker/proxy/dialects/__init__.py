"""One module a wire format, and the routes they serve."""

from __future__ import annotations

from token_tracker.proxy.dialects.base import Route
from token_tracker.proxy.dialects.chat import Chat
from token_tracker.proxy.dialects.messages import Messages
from token_tracker.proxy.dialects.opaque import EMBEDDINGS, IMAGES, SPEECH
from token_tracker.proxy.dialects.responses import Responses

_ALL = (
    Route("/v1/chat/completions", Chat()),
    Route("/v1/embeddings", EMBEDDINGS),
    Route("/v1/responses", Responses()),
    Route("/v1/messages", Messages()),
    Route("/v1/audio/speech", SPEECH),
    Route("/v1/images/generations", IMAGES),
)
ROUTES: dict[str, Route] = {route.path: route for route in _ALL}
