"""The JSON routes whose answer has a size of its own: vectors, verdicts, orders, sound, pictures."""

from __future__ import annotations

import msgspec

from token_tracker.domain.bounds import MESSAGE_TOKENS, SPEECH_TOKENS_PER_CHARACTER, Extent
from token_tracker.proxy.bounds.outputs import answers, does_more, tiers
from token_tracker.proxy.dialects.base import Request
from token_tracker.proxy.dialects.facts import UNREADABLE, items

# Tokens of one picture that OpenAI's models make, by quality, at the dearest of its fixed sizes; four times as much for
# sizes of the client's own. Each partial picture of a stream adds 100.
_PICTURE_TOKENS = {b'"low"': 408, b'"medium"': 1584}
_BEST_PICTURE_TOKENS = 6240
_PARTIAL_TOKENS = 100
_SIZES = (b"null", b'"auto"', b'"1024x1024"', b'"1024x1536"', b'"1536x1024"')
_DOCUMENTS_PER_SEARCH = 100  # a search unit of Cohere: one query over so many documents,
_DOCUMENT_BYTES = 500  # each of at most 500 tokens: longer ones count as several

PICTURES_OWN = ("background",)  # behind a picture, not in which a response is made

# Texts that LiteLLM takes for addresses of pictures and films, and fields that some servers take besides the input.
_ADDRESSES = ("s3://", "files/", "https://generativelanguage.googleapis.com/")
_BUCKET = "gs://"  # anywhere in a text
_MARKS = (b"{", b"\\", b"gs://", b'"s3://', b'"files/', b'"data:', b'"https://generativelanguage.')
_BESIDE_THE_INPUT = ("inputs", "messages", "images", "content")
# By which a document, or the query, is something else than text.
_NO_TEXT = frozenset(("image", "image_url", "image_base64", "url", "video", "video_url", "content", "pdf"))
_NULL = b"null"

_plain = msgspec.json.Decoder(str | list[str | int | list[int]] | None).decode
_documents = msgspec.json.Decoder(list[str | dict[str, msgspec.Raw]] | None).decode


def embeddings(request: Request) -> Extent:
    """Texts or tokens; an object in the input may refer to anything, and each input may be as long as the model reads
    at once."""
    inputs = max(1, items(request.original, "input"))
    fields = request.fields
    return Extent(
        text_tokens=len(request.original) + MESSAGE_TOKENS * inputs,
        is_open=_refers(fields.get("input", b""))
        or any(fields.get(name, _NULL) != _NULL for name in _BESIDE_THE_INPUT),
        outputs=0,
        tiers=tiers(fields),
        windows=inputs,
    )


def moderations(request: Request) -> Extent:
    return embeddings(request)


def rerank(request: Request) -> Extent:
    """The query is read again with each document."""
    documents = max(1, items(request.original, "documents"))
    read_bytes = len(request.original) + documents * (len(request.fields.get("query", b"")) + MESSAGE_TOKENS)
    chunks = documents + read_bytes // _DOCUMENT_BYTES
    return Extent(
        text_tokens=read_bytes,
        is_open=_has_no_text(b"[%b]" % request.fields.get("query", _NULL), request.fields.get("documents", _NULL)),
        outputs=0,
        queries=-(-chunks // _DOCUMENTS_PER_SEARCH),
        windows=2 * documents,
    )


def speech(request: Request) -> Extent:
    characters = max(1, request.characters)
    return Extent(
        text_tokens=len(request.original) + MESSAGE_TOKENS,
        outputs=0,
        made_tokens=SPEECH_TOKENS_PER_CHARACTER * characters,
        made_class="output_audio_tokens",
        characters=characters,
    )


def images(request: Request) -> Extent:
    fields = request.fields
    number = answers(fields, "n")
    return pictures_made(
        number,
        text_tokens=len(request.original) + MESSAGE_TOKENS,
        quality=fields.get("quality", b"null"),
        size=fields.get("size", b"null"),
        partial=answers(fields, "partial_images", least=0),
        unbounded=does_more(fields, PICTURES_OWN),
    )


def pictures_made(
    number: int | None,
    *,
    text_tokens: int,
    quality: bytes,
    size: bytes,
    partial: int | None,
    inputs: int = 0,
    unbounded: str = "",
) -> Extent:
    """`quality` and `size` as JSON; `inputs`: pictures that are sent along."""
    if number is None or partial is None:
        unbounded = unbounded or "a number of pictures that cannot be read"
    each = _PICTURE_TOKENS.get(quality, _BEST_PICTURE_TOKENS) * (1 if size in _SIZES else 4)
    return Extent(
        text_tokens=text_tokens,
        images=inputs,
        unbounded=unbounded,
        outputs=0,
        made_tokens=(number or 1) * (each + _PARTIAL_TOKENS * (partial or 0)),
        made_class="output_image_tokens",
        pictures=number or 1,
    )


def _refers(raw: bytes) -> bool:
    """Whether there is anything else than tokens and texts that are no addresses."""
    if not any(mark in raw for mark in _MARKS):
        return False
    try:
        found = _plain(raw)
    except UNREADABLE:
        return True
    return any(type(text) is str and _is_address(text) for text in (found if type(found) is list else [found]))


def _is_address(text: str) -> bool:
    return _BUCKET in text or text.startswith(_ADDRESSES) or (text.startswith("data:") and ";base64," in text)


def _has_no_text(*lists: bytes) -> bool:
    for raw in lists:
        if b"{" not in raw:
            continue
        try:
            documents = _documents(raw) or ()
        except UNREADABLE:
            return True
        if not all(type(each) is str or _NO_TEXT.isdisjoint(each) for each in documents):
            return True
    return False
