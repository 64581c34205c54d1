"""Routes that take files in a multipart form (or JSON that names them): transcriptions, translations, image edits."""

from __future__ import annotations

from typing import Any

from token_tracker.domain.errors import invalid_request
from token_tracker.domain.providers import WireFormat
from token_tracker.domain.usage import Usage
from token_tracker.proxy.dialects import fields as top
from token_tracker.proxy.dialects import forms
from token_tracker.proxy.dialects.base import NO_ENVELOPE, Envelope, Request
from token_tracker.proxy.dialects.counts import inclusive_usage
from token_tracker.proxy.dialects.opaque import Opaque, OpaqueObserver, images_usage


class Upload(Opaque):
    """A form's model is changed in place; every other byte, the files above all, goes up as it came."""

    def read(self, body: bytes, envelope: Envelope = NO_ENVELOPE) -> Request:
        if not forms.is_form(envelope.content_type):
            return super().read(body, envelope)
        form = forms.parse(body, envelope.content_type)
        said = form.text("model")
        if envelope.model and envelope.model != said:
            body = form.with_text("model", top.checked_model(envelope.model))
            form = forms.parse(body, envelope.content_type)
        model = envelope.model or said
        if model is None:
            raise invalid_request("The form's field 'model' is missing (GET /v1/models lists all).", "model")
        return Request(
            model=top.checked_model(model),
            stream=form.hint("stream").lower() in ("true", "1"),
            fields={},
            wants_usage=True,
            end_user=form.hint("user"),
            metadata="",
            output_bound=None,
            original=body,
            form=form,
        )

    def outgoing(self, request: Request, *, model: str, meter_stream: bool) -> bytes:
        if request.form is None:
            return super().outgoing(request, model=model, meter_stream=meter_stream)
        return request.original if model == request.model else request.form.with_text("model", model)

    def observer(self, request: Request) -> OpaqueObserver:
        if request.form is None:
            return super().observer(request)
        pictures = request.form.hint("n")
        return self.observing(int(pictures) if pictures.isdecimal() else 1)


def _heard_usage(usage: Any) -> Usage | None:
    """Transcriptions count in tokens, with details under a name of their own, or in seconds, which are no tokens. Input
    without details is sound: these models hear."""
    if not isinstance(usage, dict) or usage.get("type") == "duration":
        return None
    details = usage.get("input_token_details")
    read = inclusive_usage({"input_tokens_details": details, **usage})
    if read is None or isinstance(details, dict):
        return read
    return read._replace(input_tokens=0, input_audio_tokens=read.input_tokens + read.input_audio_tokens)


_EDITED = frozenset(("image_edit.completed",))
_HEARD = frozenset(("transcript.text.done",))
TRANSCRIPTIONS = Upload(WireFormat.TRANSCRIPTIONS, ("prompt",), _HEARD, _heard_usage)
TRANSLATIONS = Upload(WireFormat.TRANSLATIONS, ("prompt",), frozenset(), _heard_usage)
IMAGE_EDITS = Upload(WireFormat.IMAGE_EDITS, ("prompt",), _EDITED, images_usage)
IMAGE_VARIATIONS = Upload(WireFormat.IMAGE_VARIATIONS, (), frozenset(), images_usage)
