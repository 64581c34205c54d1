"""The model table: `model_list` and its aliases, and what each provider key in the environment offers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from token_tracker.config.entries import Context, read_entry
from token_tracker.config.environment import PROVIDER_KEYS
from token_tracker.config.problems import nearest
from token_tracker.config.section import Section
from token_tracker.config.upstream import SAME_AS, Known
from token_tracker.config.values import Deployment, ModelTable, Secret
from token_tracker.domain.providers import PROVIDERS

_ENVIRONMENT = "environment"
_OFFERED_MODES = frozenset({"chat", "embedding", "responses", "audio_speech", "image_generation"})
# The price file also lists sizes and qualities of images, bases of fine-tunes, and tools: prices, not models.
_NO_MODEL = re.compile(r"(ft:|(low|medium|high|hd|standard|auto)/|[\d.]+-x-|container$)")


def read_models(entries: list[Section], aliases: Section, context: Context) -> ModelTable:
    """`entries` is `model_list` as written (variables not yet filled in), `aliases` is `model_group_alias`."""
    exact: dict[str, list[Deployment]] = {}
    wildcards: dict[str, list[Deployment]] = {}
    named: set[str] = set()
    for entry in entries:
        name, deployment = read_entry(entry, context)
        named.add(name)
        if "*" in name[:-1]:
            entry.complain("model_name", "may have a '*' only at its end.")
        elif deployment is not None:
            group = wildcards if name.endswith("*") else exact
            group.setdefault(name.removesuffix("*"), []).append(deployment)
    offers = _offers(context, named, wildcards)
    return ModelTable(
        exact={name: tuple(group) for name, group in exact.items()},
        aliases=_aliases(aliases, named, {*exact, *offers}, wildcards, context),
        wildcards={prefix: tuple(group) for prefix, group in wildcards.items()},
        env_offers=offers,
    )


def _offers(context: Context, named: set[str], wildcards: dict[str, list[Deployment]]) -> dict[str, Deployment]:
    """Bare names by provider, the first provider of `PROVIDERS` winning; adds `<provider>/*` to `wildcards`."""
    keys = {name: Secret(context.variables[key]) for key, name in PROVIDER_KEYS.items() if key in context.variables}
    offers: dict[str, Deployment] = {}
    for provider, key in keys.items():
        if PROVIDERS[provider].self_hosted:
            continue  # an address is needed as well, and only an entry can name it
        if f"{provider}/*" not in named:
            wildcards.setdefault(f"{provider}/", []).append(
                Deployment(f"{provider}/*", provider, "*", None, key, source=_ENVIRONMENT)
            )
        for name in _bare_names(provider, context.known):
            if name not in named:
                offers.setdefault(name, Deployment(name, provider, name, None, key, source=_ENVIRONMENT))
    return offers


def _bare_names(provider: str, known: Known) -> list[str]:
    bare = []
    for listed, entry in known.entries.items():
        if SAME_AS.get(entry.provider, entry.provider) != provider or entry.mode not in _OFFERED_MODES:
            continue
        name = listed.removeprefix(f"{provider}/")
        if not _NO_MODEL.match(name) and not _belongs_elsewhere(name, known) and not _is_bucket(name, provider):
            bare.append(name)
    return bare


def _belongs_elsewhere(name: str, known: Known) -> bool:
    """Groq's 'openai/gpt-oss-20b' reads like OpenAI's own: it is served as 'groq/openai/gpt-oss-20b' only."""
    prefix, slash, _ = name.partition("/")
    return bool(slash) and known.is_provider(prefix)


def _is_bucket(name: str, provider: str) -> bool:
    """'together-ai-4.1b-8b' is a price for every model of that size."""
    return "_" in provider and name.startswith(provider.replace("_", "-") + "-")


def _aliases(
    section: Section, named: set[str], offered: set[str], wildcards: Mapping[str, object], context: Context
) -> dict[str, str]:
    aliases = {}
    for alias in section.names():
        target = _alias_target(section, alias)
        if target is None:
            continue
        if alias in named:
            section.complain(alias, "is also a model_name: rename one of them.")
        elif target in offered or any(target.startswith(prefix) for prefix in wildcards):
            aliases[alias] = target
        elif target in named:
            context.off.append((alias, f"it stands for '{target}', which is off"))
        else:
            section.complain(alias, f"stands for '{target}', which nothing offers.{nearest(target, named | offered)}")
    return aliases


def _alias_target(section: Section, alias: str) -> str | None:
    """`alias: name`, or LiteLLM's longer form `alias: {model: name, hidden: …}`."""
    if not isinstance(section.content[alias], Mapping):
        return section.text(alias)
    longer = section.section(alias)
    target = longer.text("model")
    longer.get("hidden")
    longer.finish()
    if "model" not in longer.content:
        longer.complain("model", "is missing.")
    return target
