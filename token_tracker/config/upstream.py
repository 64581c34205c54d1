"""Whose upstream an entry is: the provider by prefix, price file, key or address; and whether it is local."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from ipaddress import ip_address
from urllib.parse import urlsplit

from token_tracker.config.price_file import Catalogue, CatalogueEntry, load_catalogue
from token_tracker.domain.providers import PROVIDERS

# LiteLLM's names for servers that speak OpenAI's or another provider's format; they differ only on LiteLLM's side.
SAME_AS: Mapping[str, str] = {
    "ollama_chat": "ollama",
    "custom_openai": "openai",
    "openai_like": "openai",
    "litellm_proxy": "openai",
    "lm_studio": "openai",
    "llamafile": "openai",
    "docker_model_runner": "openai",
    "cohere_chat": "cohere",
    "bedrock_converse": "bedrock",
}
# Prefixes that LiteLLM translates and its price file does not mention.
_TRANSLATED = frozenset(
    """
    ai21_chat aiohttp_openai anthropic_text bytez chutes clarifai cometapi compactifai custom datarobot empower
    galadriel github helicone huggingface infinity langgraph maritalk modelscope nano-gpt oobabooga openrouter petals
    poe predibase reka sagemaker_chat sap synthetic triton vertex_ai vllm watsonx_text xinference
    """.split()  # noqa: SIM905 (a list of names in quotes hides what it lists)
)
_PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")
_KEY_VARIABLE = re.compile(r"(?P<provider>\w+)_API_KEY")


class Known:
    """Providers and models known beforehand; the price file is read only when somebody asks for it."""

    @cached_property
    def _catalogue(self) -> Catalogue:
        return load_catalogue()

    @property
    def entries(self) -> Mapping[str, CatalogueEntry]:
        """The price file's models. Raises FileNotFoundError without the litellm package."""
        return self._catalogue.entries

    @cached_property
    def providers(self) -> frozenset[str]:
        """Every provider's name, in LiteLLM's spelling."""
        listed = {_plain(entry.provider) for entry in self.entries.values() if entry.provider}
        return frozenset(listed | set(PROVIDERS) | set(SAME_AS) | _TRANSLATED)

    def is_provider(self, name: str) -> bool:
        return name in PROVIDERS or name in SAME_AS or name in self.providers

    def provider_of(self, model: str) -> str | None:
        """The price file's provider of exactly this model."""
        entry = self.entries.get(model)
        return _plain(entry.provider) or None if entry else None


def _plain(provider: str) -> str:
    """'vertex_ai-language-models' is the price file's name for what LiteLLM is asked for as 'vertex_ai'."""
    return "vertex_ai" if provider.startswith("vertex_ai-") else provider


def split_model(
    model: str, *, named: str | None, key_variables: Sequence[str], has_base: bool, known: Known
) -> tuple[str, str] | None:
    """(provider, the provider's own name of the model), in the contract's order; None if nothing tells.

    `named` is LiteLLM's `custom_llm_provider`, which says it outright; `key_variables` are those of the entry's key.
    """
    prefix, slash, rest = model.partition("/")
    if named is not None:
        provider, name = named, model.removeprefix(f"{named}/")
    elif slash and rest and known.is_provider(prefix):
        provider, name = prefix, rest
    else:
        found = known.provider_of(model) or _by_key(key_variables, known.providers) or ("openai" if has_base else None)
        if found is None:
            return None
        provider, name = found, model
    return SAME_AS.get(provider, provider), name


def _by_key(variables: Sequence[str], providers: Collection[str]) -> str | None:
    for variable in variables:
        for provider in PROVIDERS.values():
            if provider.key_variable == variable:
                return provider.name
        match = _KEY_VARIABLE.fullmatch(variable)
        if match and match["provider"].lower() in providers:
            return match["provider"].lower()
    return None


def is_local(provider: str, api_base: str | None) -> bool:
    """Whether nobody bills for it: our own, Ollama, vLLM, or any address on loopback or a private network."""
    known = PROVIDERS.get(provider)
    return (known is not None and known.self_hosted) or (api_base is not None and _is_private(api_base))


def _is_private(api_base: str) -> bool:
    host = (urlsplit(api_base).hostname or "").rstrip(".")
    try:
        address = ip_address(host)
    except ValueError:
        # A name without a dot is a neighbour's (a container's, say): the internet has none.
        return bool(host) and ("." not in host or host.endswith(_PRIVATE_SUFFIXES))
    return address.is_loopback or address.is_private or address.is_link_local
