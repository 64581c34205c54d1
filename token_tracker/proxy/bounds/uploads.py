"""The routes that take files in a form: recordings to be written down, pictures to be changed."""

from __future__ import annotations

from collections.abc import Mapping

from token_tracker.domain.bounds import AUDIO_BYTES_PER_S, MESSAGE_TOKENS, Extent
from token_tracker.proxy.bounds.others import PICTURES_OWN, images, pictures_made
from token_tracker.proxy.bounds.outputs import answers, does_more
from token_tracker.proxy.dialects.base import Request
from token_tracker.proxy.dialects.forms import Form

_WRITTEN_TOKENS_PER_S = 16  # nobody speaks faster
_WAVE = b"RIFF"
_WAVE_CHANNELS, _WAVE_RATES_HZ = range(1, 9), range(1000, 384_001)  # what there is; other headers are not believed
_WAVE_FIELDS = ((22, 24), (24, 28), (32, 34), (34, 36))
_TWICE = b"?"
# Texts by whose names a provider takes what it is to hear or see from elsewhere (Groq's `url`, Mistral's `file_id`).
_REFERRING = ("file", "file_id", "image", "images", "mask", "uri", "url")
_REFERRING_ENDS = ("_file_id", "_uri", "_url")


def recordings(request: Request) -> Extent:
    """What is heard costs by the second or by tokens of sound; what is written down, by tokens of text."""
    form = request.form
    if form is None or not any(part.is_file for part in form.parts):
        return Extent(unbounded="a recording that is referred to instead of sent", outputs=0)
    sizes = [part.value_end - part.value_start for part in form.parts if part.is_file]
    fields = _fields(form)
    seconds = sum(_seconds(form, part.value_start, part.value_end) for part in form.parts if part.is_file)
    return Extent(
        text_tokens=len(form.body) - sum(sizes) + MESSAGE_TOKENS,
        unbounded=does_more(fields) or _refers(fields),
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
        channels, rate_hz, block, bits = (int.from_bytes(head[at:end], "little") for at, end in _WAVE_FIELDS)
        if (
            channels in _WAVE_CHANNELS
            and rate_hz in _WAVE_RATES_HZ
            and bits <= 64
            and block == channels * -(-bits // 8)
        ):
            return -(-size // max(rate_hz * block, AUDIO_BYTES_PER_S))
    return -(-size // AUDIO_BYTES_PER_S)


def pictures(request: Request) -> Extent:
    form = request.form
    if form is None:
        extent = images(request)
        return Extent(unbounded="pictures that are referred to instead of sent", outputs=0, pictures=extent.pictures)
    fields, files = _fields(form), [part for part in form.parts if part.is_file]
    return pictures_made(
        answers(fields, "n"),
        text_tokens=len(form.body) - sum(part.value_end - part.value_start for part in files) + MESSAGE_TOKENS,
        quality=b'"%b"' % fields.get("quality", b""),
        size=b'"%b"' % fields["size"] if fields.get("size") else b"null",
        partial=answers(fields, "partial_images", least=0),
        inputs=len(files),
        unbounded=does_more(fields, PICTURES_OWN) or _refers(fields),
    )


def _refers(fields: Mapping[str, bytes]) -> str:
    for name, value in fields.items():
        if value and (name in _REFERRING or name.endswith(_REFERRING_ENDS)):
            return f"'{name[:64]}', which refers to what is not sent"
    return ""


def _fields(form: Form) -> dict[str, bytes]:
    """The texts of a form by name, of lists (`n[]`) and objects (`n[x]`) by theirs; one that comes twice has no value
    that can be read."""
    found: dict[str, bytes] = {}
    for part in form.parts:
        if not part.is_file:
            name, value = part.name.partition("[")[0].strip(), form.body[part.value_start : part.value_end]
            found[name] = _TWICE if name in found else value
    return found
