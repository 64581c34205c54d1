"""Which deployment a name leads to, and where it is."""

from __future__ import annotations

from typing import Any

import pytest

from token_tracker.config.values import Deployment, GatewayOptions, ModelTable, Routing, Secret
from token_tracker.domain.providers import WireFormat
from token_tracker.proxy.credentials import Credentials
from token_tracker.proxy.lanes.direct import credential_headers, direct_url, request_headers
from token_tracker.proxy.upstreams import Upstreams, lane_of


def deployment(name: str = "m", provider: str = "openai", **more: Any) -> Deployment:
    fields: dict[str, Any] = {"name": name, "provider": provider, "model": name, "api_base": None, "api_key": None}
    return Deployment(**(fields | more))


def upstreams(**tables: Any) -> Upstreams:
    empty: dict[str, Any] = {"exact": {}, "aliases": {}, "wildcards": {}, "env_offers": {}}
    routing = tables.pop("routing", None)
    return Upstreams(ModelTable(**(empty | tables)), GatewayOptions(), "http://127.0.0.1:1", routing)


def test_lookup_goes_exact_alias_offer_wildcard_with_the_longest_prefix_first() -> None:
    table = upstreams(
        exact={"a": (deployment("a", model="exact"),)},
        aliases={"nick": "a", "far": "openai/x"},
        env_offers={"a": deployment("a", model="offer"), "b": deployment("b", model="offer")},
        wildcards={
            "": (deployment("*", model="*"),),
            "openai/": (deployment("openai/*", model="*"),),
            "openai/ft:": (deployment("openai/ft:*", model="ft:*", provider="groq"),),
        },
    )

    def model_of(name: str) -> str:
        return table.deployments(name)[0].model

    assert model_of("a") == model_of("nick") == "exact"
    assert model_of("b") == "b"
    assert model_of("openai/gpt-9") == "gpt-9"
    assert model_of("far") == "x"
    assert table.deployments("openai/ft:mine")[0].provider == "groq"
    assert model_of("openai/ft:mine") == "ft:mine"
    assert model_of("whatever") == "whatever"
    assert table.names() == ["a", "b", "far", "nick"]


def test_a_prefix_alone_is_no_model() -> None:
    assert upstreams(wildcards={"openai/": (deployment("openai/*", model="*"),)}).deployments("openai/") == ()


def test_fallbacks_are_followed_once_each_and_five_at_most() -> None:
    names = "abcdefgh"
    exact = {name: (deployment(name),) for name in names}
    chains = {"a": ("b", "c"), "b": ("d", "a"), "*": ("e", "f", "g", "h")}
    table = upstreams(exact=exact, aliases={"nick": "a"}, routing=Routing(fallbacks=chains))
    assert table.fallbacks("a") == table.fallbacks("nick") == ("b", "d", "e", "f", "g")
    assert table.fallbacks("h") == ("e", "f", "g")


def test_only_a_single_deployment_that_nothing_is_to_follow_needs_no_plan() -> None:
    alone, several = (deployment(),), (deployment(), deployment())

    def only(group: tuple[Deployment, ...], **routing: Any) -> Any:
        choice = upstreams(exact={"m": group, "n": alone}, routing=Routing(**routing)).choice("m", WireFormat.CHAT)
        assert choice is not None
        return choice.only

    assert only(alone) is not None and only(alone, num_retries=0) is not None
    assert only(several) is only(several, num_retries=0) is None
    assert only(alone, num_retries=1) is only((deployment(num_retries=1),)) is None
    assert only(alone, fallbacks={"m": ("n",)}) is None


def test_one_deployments_rest_holds_for_all_formats_and_names_that_lead_to_it() -> None:
    table = upstreams(exact={"m": (deployment("m"), deployment("m"))}, aliases={"nick": "m"})
    chat, embeddings = table.choice("m", WireFormat.CHAT), table.choice("nick", WireFormat.EMBEDDINGS)
    assert chat is not None and embeddings is not None
    first, second = chat.group.targets
    assert first.health is not None and first.health.failed(0.0, 429, None) == 5
    assert embeddings.group.targets[0].rests(1.0) and not second.rests(1.0)


def test_a_deployment_alone_never_rests_unless_it_is_retried() -> None:
    assert upstreams(exact={"m": (deployment(),)}).choice("m", WireFormat.CHAT).only.health is None  # type: ignore[union-attr]
    retried = upstreams(exact={"m": (deployment(num_retries=1),)}).choice("m", WireFormat.CHAT)
    assert retried is not None and retried.group.targets[0].health is not None
    off = upstreams(exact={"m": (deployment(), deployment())}, routing=Routing(has_cooldowns=False))
    assert off.choice("m", WireFormat.CHAT).group.targets[0].health is None  # type: ignore[union-attr]


def test_the_nearest_name_is_one_that_the_key_may_use() -> None:
    table = upstreams(exact={"gpt-4o": (deployment(),), "gpt-4o-mini": (deployment(),), "claude": (deployment(),)})
    assert table.nearest("gtp-4o", lambda _: True) == "gpt-4o"
    assert table.nearest("gtp-4o", lambda name: name != "gpt-4o") == "gpt-4o-mini"
    assert table.nearest("GPT-4O", lambda _: True) == "gpt-4o"
    assert table.nearest("gpt", lambda _: True) == "gpt-4o", "one that begins so"
    assert table.nearest("zzzzzz", lambda _: True) is None


def test_a_model_that_is_switched_off_says_why() -> None:
    table = Upstreams(
        ModelTable({}, {}, {}, {}), GatewayOptions(), off=[("claude", "its ANTHROPIC_API_KEY is not set")]
    )
    assert "ANTHROPIC_API_KEY" in str(table.not_found("claude", lambda _: True))
    assert "not configured" in str(table.not_found("claud", lambda _: True))


def test_names_behind_a_wildcard_do_not_fill_the_memory() -> None:
    table = upstreams(wildcards={"openai/": (deployment("openai/*", model="*"),)})
    for n in range(5000):
        assert table.choice(f"openai/{n}", WireFormat.CHAT) is not None
    assert len(table._choices) <= 4096


@pytest.mark.parametrize(
    ("provider", "wire", "lane"),
    [
        ("openai", WireFormat.CHAT, "direct"),
        ("openai", WireFormat.RESPONSES, "direct"),
        ("openai", WireFormat.MESSAGES, "litellm"),
        ("anthropic", WireFormat.MESSAGES, "direct"),
        ("anthropic", WireFormat.CHAT, "litellm"),
        ("groq", WireFormat.EMBEDDINGS, "litellm"),
        ("openai", WireFormat.SPEECH, "direct"),
        ("openai", WireFormat.IMAGE_EDITS, "direct"),
        ("groq", WireFormat.TRANSCRIPTIONS, "direct"),
        ("hosted_vllm", WireFormat.RERANK, "direct"),
        ("cohere", WireFormat.RERANK, "litellm"),
        ("mistral", WireFormat.COMPLETIONS, "litellm"),
        ("anthropic", WireFormat.COUNT_TOKENS, "direct"),
        ("bedrock", WireFormat.CHAT, "litellm"),
    ],
)
def test_a_call_goes_directly_where_the_provider_speaks_its_format(provider: str, wire: WireFormat, lane: str) -> None:
    assert lane_of(deployment(provider=provider), wire) == lane
    assert lane_of(deployment(provider=provider, lane="litellm"), wire) == "litellm"


@pytest.mark.parametrize(
    ("provider", "base", "wire", "url"),
    [
        ("openai", None, WireFormat.CHAT, "https://api.openai.com/v1/chat/completions"),
        ("openai", "http://h/v1/", WireFormat.EMBEDDINGS, "http://h/v1/embeddings"),
        ("openai", "http://h", WireFormat.CHAT, "http://h/chat/completions"),
        ("groq", None, WireFormat.CHAT, "https://api.groq.com/openai/v1/chat/completions"),
        ("anthropic", None, WireFormat.MESSAGES, "https://api.anthropic.com/v1/messages"),
        ("anthropic", "http://h", WireFormat.MESSAGES, "http://h/v1/messages"),
        ("anthropic", "http://h/v1", WireFormat.MESSAGES, "http://h/v1/messages"),
        ("anthropic", "http://h/v1/messages", WireFormat.MESSAGES, "http://h/v1/messages"),
        ("ollama", None, WireFormat.CHAT, "http://localhost:11434/v1/chat/completions"),
        ("ollama", "http://h:1/v1", WireFormat.CHAT, "http://h:1/v1/chat/completions"),
        ("demo", None, WireFormat.MESSAGES, "http://127.0.0.1:9/v1/messages"),
        ("demo", None, WireFormat.RESPONSES, "http://127.0.0.1:9/v1/responses"),
    ],
)
def test_an_api_base_means_what_it_means_in_litellm(
    provider: str, base: str | None, wire: WireFormat, url: str
) -> None:
    assert direct_url(deployment(provider=provider, api_base=base), wire, "http://127.0.0.1:9") == url


def test_the_upstreams_key_goes_in_the_providers_own_style() -> None:
    with_key = deployment(api_key=Secret("sk-up"))
    assert credential_headers(with_key, WireFormat.CHAT) == (("authorization", "Bearer sk-up"),)
    assert credential_headers(with_key, WireFormat.MESSAGES) == (("x-api-key", "sk-up"),)
    assert credential_headers(deployment(), WireFormat.CHAT) == ()


def test_anthropic_version_is_added_only_where_the_client_sent_none() -> None:
    added = request_headers([], WireFormat.MESSAGES, (), None)
    assert added == [("anthropic-version", "2023-06-01")]
    own = [("anthropic-version", "2024-01-01")]
    assert request_headers(own, WireFormat.MESSAGES, (), None) == own
    assert request_headers([], WireFormat.CHAT, (), "gzip") == [("accept-encoding", "gzip")]


def test_a_wildcard_with_a_fixed_model_sends_every_name_to_it() -> None:
    table = upstreams(wildcards={"": (deployment("*", model="gpt-4o"),)})
    assert [each.model for each in table.deployments("anything")] == ["gpt-4o"]


def test_what_waits_for_its_credential_is_not_offered_and_nothing_stands_in_for_it() -> None:
    waiting = deployment("a", credential="prod")
    table = upstreams(
        exact={"a": (waiting,), "b": (deployment("b"), deployment("b", credential="prod"))},
        aliases={"nick": "a"},
        wildcards={"": (deployment("*", model="*", api_key=Secret("of-another-account")),)},
    )
    assert table.deployments("a") == table.deployments("nick") == ()
    assert table.choice("a", WireFormat.CHAT) is None
    assert [each.credential for each in table.deployments("b")] == [""]
    assert table.names() == ["b"]
    assert [name for name, _ in table.unavailable] == ["a", "b"]
    for name in ("a", "nick"):
        assert "its credential 'prod' does not exist" in table.not_found(name, lambda _: True).message


def test_another_credential_counts_for_the_next_choice() -> None:
    table = upstreams(exact={"a": (deployment("a", credential="prod"),)})
    for text in ("first", "second"):
        table.take_credentials(Credentials({"prod": Secret(text)}))
        choice = table.choice("a", WireFormat.CHAT)
        assert choice is not None
        assert dict(choice.group.targets[0].credentials) == {"authorization": f"Bearer {text}"}
        assert table.accounts.of(table.deployments("a")[0]) == table.accounts.of(deployment("a", api_key=Secret(text)))
    assert table.unavailable == ()
    table.take_credentials(Credentials(problems={"prod": "no key opens it"}))
    assert table.choice("a", WireFormat.CHAT) is None
    assert "cannot be used: no key opens it" in table.not_found("a", lambda _: True).message
