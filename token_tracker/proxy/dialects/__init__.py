"""One module a wire format, and the routes they serve."""

from __future__ import annotations

from token_tracker.proxy.dialects.base import Route
from token_tracker.proxy.dialects.chat import Chat, Completions
from token_tracker.proxy.dialects.messages import CountTokens, Messages
from token_tracker.proxy.dialects.opaque import EMBEDDINGS, IMAGES, MODERATIONS, SPEECH
from token_tracker.proxy.dialects.rerank import RERANK
from token_tracker.proxy.dialects.responses import Responses
from token_tracker.proxy.dialects.uploads import IMAGE_EDITS, IMAGE_VARIATIONS, TRANSCRIPTIONS, TRANSLATIONS

_ALL = (
    Route("/v1/chat/completions", Chat()),
    Route("/v1/completions", Completions()),
    Route("/v1/embeddings", EMBEDDINGS),
    Route("/v1/responses", Responses(), keeps="response"),
    Route("/v1/messages", Messages()),
    Route("/v1/messages/count_tokens", CountTokens()),
    Route("/v1/audio/speech", SPEECH),
    Route("/v1/audio/transcriptions", TRANSCRIPTIONS),
    Route("/v1/audio/translations", TRANSLATIONS),
    Route("/v1/images/generations", IMAGES),
    Route("/v1/images/edits", IMAGE_EDITS),
    Route("/v1/images/variations", IMAGE_VARIATIONS),
    Route("/v1/moderations", MODERATIONS),
    Route("/v1/rerank", RERANK),
)
ROUTES: dict[str, Route] = {route.path: route for route in _ALL}

AZURE = "/openai/"
_DEPLOYMENTS = "deployments/"
_TAILS = tuple(route.path.removeprefix("/v1/") for route in _ALL)


def find(path: str) -> tuple[str, str]:
    """A request's path as OpenAI writes it, and the model that it names ('' if none). Azure's styles are understood:
    `/openai/deployments/{model}/chat/completions`, `/openai/v1/…`, `/openai/responses`. A doubled `/v1/v1/` is `/v1/`.
    """
    if path.startswith("/v1/v1/"):
        return path[3:], ""
    if not path.startswith(AZURE):
        return path, ""
    rest = path.removeprefix(AZURE).removeprefix("v1/")
    if not rest.startswith(_DEPLOYMENTS):
        return f"/v1/{rest}", ""
    rest = rest.removeprefix(_DEPLOYMENTS)
    tails = [tail for tail in _TAILS if rest.endswith("/" + tail)]
    if not tails:
        return path, ""
    tail = max(tails, key=len)  # '/chat/completions' ends in '/completions'
    return f"/v1/{tail}", rest.removesuffix("/" + tail)
