"""The routes that take files in a form: recordings to be written down, pictures to be changed."""

from __future__ import annotations

from token_tracker.domain.bounds import AUDIO_BYTES_PER_S, MESSAGE_TOKENS, Extent
from token_tracker.proxy.bounds.others import images, pictures_made
from token_tracker.proxy.dialects.base import Request
from token_tracker.proxy.dialects.forms import Form

_WRITTEN_TOKENS_PER_S = 16  # nobody speaks faster
_WAVE = b"RIFF"


def recordings(request: Request) -> Extent:
    """What is heard costs by the second or by tokens of sound; what is written down, by tokens of text."""
    form = request.form
    if form is None:  # JSON that names a file
        return Extent(unbounded="a recording that is referred to instead of sent", outputs=0)
    sizes = [part.value_end - part.value_start for part in form.parts if part.is_file]
    seconds = sum(_seconds(form, part.value_start, part.value_end) for part in form.parts if part.is_file)
    return Extent(
        text_tokens=len(form.body) - sum(sizes) + MESSAGE_TOKENS,
        audio_bytes=seconds * AUDIO_BYTES_PER_S,
        outputs=0,
        made_tokens=max(2000, seconds * _WRITTEN_TOKENS_PER_S),
        made_class="output_tokens",
        seconds=max(1, seconds),
    )


def _seconds(form: Form, start: int, end: int) -> int:
    """Of a plain wave file, what its header says; of anything else, what the lowest bit rate would make of it."""
    size, head = end - start, form.body[start : start + 44]
    if head.startswith(_WAVE) and head[8:16] == b"WAVEfmt " and head[20:22] == b"\x01\x00":
        bytes_per_s = int.from_bytes(head[24:28], "little") * int.from_bytes(head[32:34], "little")
        if bytes_per_s >= AUDIO_BYTES_PER_S:
            return -(-size // bytes_per_s)
    return -(-size // AUDIO_BYTES_PER_S)


def pictures(request: Request) -> Extent:
    form = request.form
    if form is None:
        extent = images(request)
        return Extent(unbounded="pictures that are referred to instead of sent", outputs=0, pictures=extent.pictures)
    files = [part for part in form.parts if part.is_file]
    return pictures_made(
        _count(form.hint("n")),
        text_tokens=len(form.body) - sum(part.value_end - part.value_start for part in files) + MESSAGE_TOKENS,
        quality=b'"%s"' % form.hint("quality").encode(),
        size=b'"%s"' % form.hint("size").encode() if form.hint("size") else b"null",
        partial=_count(form.hint("partial_images") or "0"),
        inputs=len(files),
    )


def _count(text: str) -> int | None:
    if not text:
        return 1
    return int(text) if text.isdecimal() and len(text) < 6 else None
