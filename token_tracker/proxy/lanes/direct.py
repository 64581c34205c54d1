"""The direct lane: where a deployment listens and how it is told who pays. The client's bytes go as they are."""

from __future__ import annotations

from token_tracker.config.values import Deployment
from token_tracker.domain.providers import PROVIDERS, WireFormat

ANTHROPIC_VERSION = "2023-06-01"
_PATHS = {
    WireFormat.CHAT: "/chat/completions",
    WireFormat.EMBEDDINGS: "/embeddings",
    WireFormat.RESPONSES: "/responses",
    WireFormat.COMPLETIONS: "/completions",
    WireFormat.MESSAGES: "/messages",
    WireFormat.COUNT_TOKENS: "/messages/count_tokens",
    WireFormat.SPEECH: "/audio/speech",
    WireFormat.TRANSCRIPTIONS: "/audio/transcriptions",
    WireFormat.TRANSLATIONS: "/audio/translations",
    WireFormat.IMAGES: "/images/generations",
    WireFormat.IMAGE_EDITS: "/images/edits",
    WireFormat.IMAGE_VARIATIONS: "/images/variations",
    WireFormat.MODERATIONS: "/moderations",
    WireFormat.RERANK: "/rerank",
}
_ANTHROPIC = frozenset((WireFormat.MESSAGES, WireFormat.COUNT_TOKENS))


def direct_url(deployment: Deployment, wire: WireFormat, demo_url: str = "") -> str:
    """The address of a wire format at a deployment; `api_base` means what it means in LiteLLM (see `Provider`)."""
    base = plain_base(deployment, demo_url)
    path = _PATHS[wire]
    if wire in _ANTHROPIC:  # LiteLLM takes an Anthropic base that names its route
        base = base.removesuffix("/messages")
    if wire is not WireFormat.COMPLETIONS and base.endswith(path):  # ours takes every such base
        return base
    return base + ("" if _ends_in_version(base, deployment.provider) else "/v1") + path


def plain_base(deployment: Deployment, demo_url: str = "") -> str:
    """Where a deployment listens; '' for one that only LiteLLM knows how to reach."""
    return (deployment.api_base or _default_base(deployment, demo_url)).rstrip("/")


def _default_base(deployment: Deployment, demo_url: str) -> str:
    if deployment.provider == "demo":
        return demo_url
    provider = PROVIDERS.get(deployment.provider)
    return (provider.api_base if provider else None) or ""


def _ends_in_version(base: str, provider: str) -> bool:
    """Anthropic's, Ollama's and the demo provider's bases end before /v1; all others where the routes begin."""
    return provider not in ("anthropic", "ollama", "demo") or base.endswith("/v1")


def credential_headers(deployment: Deployment, wire: WireFormat) -> tuple[tuple[str, str], ...]:
    """The upstream's own key in its own style; nothing where the deployment has none."""
    if deployment.api_key is None:
        return ()
    if wire in _ANTHROPIC:
        return (("x-api-key", deployment.api_key.value),)
    return (("authorization", f"Bearer {deployment.api_key.value}"),)


def request_headers(
    forward: list[tuple[str, str]],
    wire: WireFormat,
    credentials: tuple[tuple[str, str], ...],
    accept_encoding: str | None,
) -> list[tuple[str, str]]:
    """The client's headers (already without ours), then what the gateway must set itself."""
    headers = [*forward, *credentials]
    if accept_encoding is not None:
        headers.append(("accept-encoding", accept_encoding))
    if wire in _ANTHROPIC and not any(name == "anthropic-version" for name, _ in forward):
        headers.append(("anthropic-version", ANTHROPIC_VERSION))
    return headers
