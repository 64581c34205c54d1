"""The accounts behind the configured deployments: an address with a key, where stored objects lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from token_tracker.config.values import Deployment, ModelTable
from token_tracker.proxy.books.records import Stored
from token_tracker.proxy.lanes.direct import ANTHROPIC_VERSION, plain_base

Headers = tuple[tuple[str, str], ...]

FILES = frozenset(("openai", "azure", "groq", "mistral", "together_ai"))  # speak OpenAI's files and batches
_RESPONSES = frozenset(("openai", "azure", "hosted_vllm", "demo"))  # keep responses under the ids that they tell
_DIGITS = 16


class Accounts:
    """Found again by what was noted when an object was made, as long as some entry still leads there."""

    def __init__(self, models: ModelTable, demo_url: str = "") -> None:
        groups: Iterable[Iterable[Deployment]] = (
            *models.exact.values(),
            *models.wildcards.values(),
            models.env_offers.values(),
        )
        self._demo_url = demo_url
        self._deployments: dict[str, list[Deployment]] = {}
        for group in groups:
            for deployment in group:
                if plain_base(deployment, demo_url):
                    self._deployments.setdefault(self.of(deployment), []).append(deployment)

    def of(self, deployment: Deployment) -> str:
        """'<digest of provider and address>-<digest of its key>'."""
        key = deployment.api_key.value if deployment.api_key is not None else ""
        place = f"{deployment.provider}\0{plain_base(deployment, self._demo_url)}"
        return f"{_digest(place)}-{_digest(key)}"

    def deployment(self, stored: Stored) -> Deployment | None:
        """Where an object lies: in the account that made it; else, if the entry only has a new key, there."""
        found = self._deployments.get(stored.account)
        if found is None:
            place = stored.account[: _DIGITS + 1]
            moved = [each for account, each in self._deployments.items() if account.startswith(place)]
            found = [each for group in moved for each in group if each.name == stored.deployment]
        return next((each for each in found if each.name == stored.deployment), found[0] if found else None)

    def every(self, providers: frozenset[str]) -> dict[str, list[Deployment]]:
        """All accounts of those providers, with the entries that lead there."""
        return {key: found for key, found in self._deployments.items() if found[0].provider in providers}

    def keeps_responses(self, deployment: Deployment, lane: str) -> bool:
        """Whether the ids of its responses are the upstream's own; LiteLLM makes up those that it translates to."""
        return deployment.provider in _RESPONSES and (lane == "direct" or deployment.provider == "azure")


def versioned_base(deployment: Deployment, demo_url: str) -> str:
    """Where '/files' and '/responses' are appended."""
    base = plain_base(deployment, demo_url)
    if deployment.provider == "azure":  # its v1 routes take OpenAI's paths without a version in the query
        return base if base.endswith("/openai/v1") else base + "/openai/v1"
    base = base.removesuffix("/responses").removesuffix("/messages")
    is_bare = deployment.provider in ("anthropic", "ollama", "demo") and not base.endswith("/v1")
    return base + "/v1" if is_bare else base


def account_headers(deployment: Deployment) -> Headers:
    """The upstream's own key in its provider's style."""
    if deployment.api_key is None:
        return ()
    if deployment.provider == "anthropic":
        return (("x-api-key", deployment.api_key.value),)
    if deployment.provider == "azure":
        return (("api-key", deployment.api_key.value),)
    return (("authorization", f"Bearer {deployment.api_key.value}"),)


def with_version(headers: list[tuple[str, str]], deployment: Deployment) -> list[tuple[str, str]]:
    """Anthropic takes no request without its version."""
    if deployment.provider == "anthropic" and not any(name == "anthropic-version" for name, _ in headers):
        headers.append(("anthropic-version", ANTHROPIC_VERSION))
    return headers


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
