"""The translated lane: a call as the LiteLLM child takes it, with its upstream's address and key in the body."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from yarl import URL

from token_tracker.config.values import Deployment, Secret
from token_tracker.domain.errors import invalid_request
from token_tracker.domain.providers import PROVIDERS, WireFormat
from token_tracker.proxy.bounds.schemas import all_written_out
from token_tracker.proxy.dialects.base import Request
from token_tracker.proxy.dialects.forms import Form
from token_tracker.proxy.lanes.restoring import Restorer
from token_tracker.proxy.lanes.upstream_request import UpstreamRequest
from token_tracker.proxy.litellm.controls import is_control

# LiteLLM refuses to call without a key; servers that need none do not look at it.
NO_KEY = "none"

# A form makes texts of them, which LiteLLM refuses; its own configuration says the same.
_NUMBERS = ("num_retries", "max_retries")
_MULTIPLYING = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of")
_TEXT_FORMATS = ("text", "srt", "vtt")
_ASKED_FOR_USAGE = ("/v1/chat/completions", "/v1/completions")
_encode = msgspec.json.encode
_Fields = dict[str, msgspec.Raw]


class TranslatedLane:
    """`url`: where the child listens; `master_key`: what it asks for; `demo_url`: the echo provider, '' without."""

    def __init__(self, url: str, master_key: str, demo_url: str = "") -> None:
        self._url = url.rstrip("/")
        self._authorization = f"Bearer {master_key}"
        self._demo_url = demo_url.rstrip("/")

    def prepare(self, call_id: str, path: str, request: Request, deployment: Deployment) -> UpstreamRequest:
        """The request to the child on `path` ('/v1/messages'). None of the client's headers go along; of its body
        everything but what LiteLLM would obey. Raises `Refusal` (400) for a model name that LiteLLM would split, and
        for schemas that would grow in it beyond all bounds."""
        if "," in deployment.model:
            raise invalid_request(f"The model '{request.model}' contains a comma.", param="model")
        if request.form is not None:
            if request.stream:
                raise invalid_request(f"The answer of {path} cannot be streamed for '{request.model}'.", "stream")
            return self._form(call_id, path, request.form, deployment)
        if all_written_out(request.fields) is None:
            raise invalid_request("A schema has too many parts with all of its '$ref' written out.")
        fields = {name: msgspec.Raw(raw) for name, raw in request.fields.items() if not is_control(name)}
        _keep_user_id_only(fields, path)
        if request.stream and path in _ASKED_FOR_USAGE:
            fields["stream_options"] = _with_usage(fields.get("stream_options"))
        wires_up = _speaks_responses(deployment)
        if path == "/v1/responses" and not wires_up and _called_as(deployment) == "openai":
            fields["use_chat_completions_api"] = msgspec.Raw(b"true")
        destination = self._destination(deployment)
        if request.is_bounded:  # what the entry says must not raise what is held for the call
            destination = {name: value for name, value in destination.items() if name not in _MULTIPLYING}
        fields |= destination
        return self._request(call_id, path, "application/json", _encode(fields))

    def _form(self, call_id: str, path: str, form: Form, deployment: Deployment) -> UpstreamRequest:
        """A multipart request: the client's parts as they are, without what LiteLLM would obey, and the destination."""
        destination = {k: v for k, v in self._destination(deployment).items() if k not in _NUMBERS}
        left_out = {part.name for part in form.parts if is_control(part.name.removesuffix("[]"))}
        added = [(name, _form_text(value)) for name, value in destination.items()]
        body = form.rebuilt({*left_out, "metadata", *destination}, added)
        boundary = form.boundary.decode("latin-1")
        return self._request(call_id, path, f'multipart/form-data; boundary="{boundary}"', body)

    def _request(self, call_id: str, path: str, content_type: str, body: bytes) -> UpstreamRequest:
        headers = [
            ("authorization", self._authorization),
            ("content-type", content_type),
            ("accept-encoding", "identity"),
            ("x-litellm-call-id", call_id),
        ]
        return UpstreamRequest("POST", URL(self._url + path), headers, body)

    def restorer(self, wire: WireFormat, deployment: Deployment, request: Request) -> Restorer:
        """What undoes the traces of the child in one call's answer."""
        secrets = [deployment.api_key.value] if deployment.api_key else []
        addresses = [base for base in (self._base(deployment), self._url) if base]
        hidden = (*secrets, *addresses)
        wants_text = request.form is not None and request.form.hint("response_format") in _TEXT_FORMATS
        return Restorer(wire, litellm_model(deployment), deployment.model, request.model, hidden, wants_text)

    def _destination(self, deployment: Deployment) -> _Fields:
        """What the entry says beyond the request: where, with which key, and LiteLLM's own parameters."""
        entry: dict[str, object] = {name: _plain(value) for name, value in deployment.litellm_params.items()}
        entry |= {"model": litellm_model(deployment), "num_retries": 0, "max_retries": 0}
        if base := self._base(deployment):
            entry["api_base"] = base
        key = deployment.api_key.value if deployment.api_key else None
        if key or base:
            entry["api_key"] = key or NO_KEY
        return {name: msgspec.Raw(_encode(value)) for name, value in entry.items()}

    def _base(self, deployment: Deployment) -> str | None:
        """`api_base` in the meaning of the LiteLLM provider that is called."""
        base = (deployment.api_base or "").rstrip("/")
        if deployment.provider == "demo":
            return f"{self._demo_url}/v1"
        if deployment.provider == "ollama":
            base = base or PROVIDERS["ollama"].api_base or ""
            return base if base.endswith("/v1") else f"{base}/v1"
        if deployment.provider == "anthropic":  # LiteLLM appends /v1/messages
            return base.removesuffix("/messages").removesuffix("/v1") or None
        return base or None


def litellm_model(deployment: Deployment) -> str:
    """`<provider>/<model>` by LiteLLM's names."""
    return f"{_called_as(deployment)}/{deployment.model}"


def _called_as(deployment: Deployment) -> str:
    """LiteLLM's provider. Ollama is called by its OpenAI-compatible routes, as on the direct lane: LiteLLM's own
    `ollama` counts and streams differently and asks the server about the model on each call."""
    return "openai" if deployment.provider in ("ollama", "demo") else deployment.provider


def _speaks_responses(deployment: Deployment) -> bool:
    provider = PROVIDERS.get(deployment.provider)
    return provider is not None and WireFormat.RESPONSES in provider.direct


def _keep_user_id_only(fields: _Fields, path: str) -> None:
    """LiteLLM reads `metadata` as settings of its own; of Anthropic's, the user's id is all there is."""
    metadata = fields.pop("metadata", None)
    if metadata is None or path != "/v1/messages":
        return
    try:
        entries = msgspec.json.decode(metadata, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return
    if "user_id" in entries:
        fields["metadata"] = msgspec.Raw(_encode({"user_id": entries["user_id"]}))


def _with_usage(stream_options: msgspec.Raw | None) -> msgspec.Raw:
    """The client's stream options with the usage asked for, whatever it said."""
    options: Mapping[str, object] = {}
    if stream_options is not None:
        decoded = msgspec.json.decode(stream_options)
        options = decoded if isinstance(decoded, dict) else {}
    return msgspec.Raw(_encode({**options, "include_usage": True}))


def _form_text(raw: msgspec.Raw) -> str:
    """A value as a form carries it: texts bare, all else as JSON."""
    value = msgspec.json.decode(raw)
    return value if isinstance(value, str) else bytes(raw).decode()


def _plain(value: object) -> object:
    return value.value if isinstance(value, Secret) else value
