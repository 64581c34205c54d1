"""One entry of `model_list`: whose upstream it is, with which key, at what price, and which parameters apply."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from urllib.parse import urlsplit

from token_tracker.config.expansion import expand, references
from token_tracker.config.problems import nearest
from token_tracker.config.rates import entry_rates, is_rate
from token_tracker.config.section import Section
from token_tracker.config.upstream import Known, is_local, split_model
from token_tracker.config.values import Deployment, GatewayOptions, Hidden, Secret
from token_tracker.domain.providers import PROVIDERS

_LIMITS = "use rate_limits"
IGNORED_PARAMS: Mapping[str, str] = {
    "max_retries": "use num_retries",
    "fallbacks": "use router_settings.fallbacks",
    "allowed_fails": "put it under model_info, or into router_settings",
    "rpm": _LIMITS,
    "tpm": _LIMITS,
    "max_parallel_requests": f"{_LIMITS} with 'unit: concurrent'",
    "max_budget": "use budget",
    "budget_duration": "use budget",
    "stream_timeout": "use first_byte_timeout_s and idle_timeout_s beside litellm_params",
    "tags": "the client's x-tt-tags are what is recorded",
    "mock_response": "use the demo model",
    "drop_params": "parameters that a provider does not know are always dropped on the translated lane",
    "use_in_pass_through": "there are no pass-through routes yet",
    "configurable_clientside_auth_params": "clients never choose the upstream's address or key",
}
# All that is read of litellm_params here; the rest is LiteLLM's.
_READ_PARAMS = frozenset(
    (
        "model",
        "api_key",
        "api_base",
        "base_url",
        "custom_llm_provider",
        "weight",
        "timeout",
        "base_model",
        "order",
        "num_retries",
        "cooldown_time",
        "litellm_credential_name",
    )
)
_TIMEOUTS = ("connect_timeout_s", "first_byte_timeout_s", "idle_timeout_s")


@dataclass(slots=True)
class Context:
    """What entries are read against, and where the results of reading them go."""

    variables: Mapping[str, str]
    known: Known
    gateway: GatewayOptions
    warnings: list[str] = field(default_factory=list)
    off: list[tuple[str, str]] = field(default_factory=list)


def read_entry(entry: Section, context: Context) -> tuple[str, Deployment | None]:
    """(model_name, deployment): no deployment if the entry is off or wrong; the context knows why."""
    name = entry.text("model_name")
    if name is None:
        if "model_name" not in entry.content:
            entry.complain("model_name", "is missing.")
        return "", None
    unset = [variable for variable in references(entry.content) if variable not in context.variables]
    if unset:
        context.off.append((name, f"{' and '.join(unset)} {'is' if len(unset) == 1 else 'are'} not set"))
        return name, None
    filled = Section(entry.where, expand(entry.content, context.variables), entry.problems)
    name = filled.text("model_name") or name
    return name, _Entry(filled, name, context).read(_key_variables(entry))


def _key_variables(entry: Section) -> list[str]:
    params = entry.content.get("litellm_params")
    return references(params.get("api_key")) if isinstance(params, Mapping) else []


@dataclass(frozen=True, slots=True)
class _Upstream:
    provider: str
    model: str
    api_base: str | None
    api_key: Secret | None
    credential: str


class _Entry:
    """An entry whose variables are filled in."""

    def __init__(self, section: Section, name: str, context: Context) -> None:
        self.section, self.name, self.context = section, name, context
        self.params = section.section("litellm_params")
        self.info = section.section("model_info")

    def read(self, key_variables: list[str]) -> Deployment | None:
        section, params = self.section, self.params
        section.get("model_name")
        timeouts = self._timeouts()
        lane = section.choice("lane", ("direct", "litellm"))
        on_disconnect = section.choice("on_disconnect", ("drain", "cancel"))
        own, theirs = section.number("weight", least=0), params.number("weight", least=0)
        weight = own if own is not None else theirs
        orders = [part.whole("order", least=0) for part in (self.params, self.info)]
        order = next((each for each in orders if each is not None), None)
        num_retries = self.params.whole("num_retries", least=0)
        allowed_fails = self.info.whole("allowed_fails", least=0)
        rests = [part.number("cooldown_time", least=0) for part in (self.info, self.params)]
        cooldown_time = next((each for each in rests if each is not None), None)
        section.finish()
        self._check_unknown()
        rates = entry_rates(params, self.info)
        base_model = self.info.text("base_model") or params.text("base_model")
        upstream = self._upstream(key_variables)
        if upstream is None:
            return None
        provider, api_base = upstream.provider, upstream.api_base
        if lane == "direct" and api_base is None and not _has_address(provider):
            section.complain("lane", f"cannot be direct: '{provider}' is reached through LiteLLM only.")
        return Deployment(
            name=self.name,
            provider=provider,
            model=upstream.model,
            api_base=api_base,
            api_key=upstream.api_key,
            rates=rates,
            base_model=base_model,
            lane=lane,
            weight=float(weight) if weight is not None else 1,
            on_disconnect=on_disconnect,
            is_local=is_local(provider, api_base),
            order=order,
            num_retries=num_retries,
            allowed_fails=allowed_fails,
            cooldown_time_s=None if cooldown_time is None else float(cooldown_time),
            max_input_tokens=self.info.whole("max_input_tokens", least=1),
            max_output_tokens=self.info.whole("max_output_tokens", least=1),
            litellm_params=self._other_params(provider, lane),
            credential=upstream.credential,
            source="config",
            **timeouts,
        )

    def _check_unknown(self) -> None:
        """What belongs beside `litellm_params` but stands inside would silently do nothing."""
        for key in (*_TIMEOUTS, "lane", "on_disconnect"):
            if key in self.params.content:
                self.params.complain(key, "belongs beside litellm_params, not inside.")
        if "litellm_params" not in self.section.content:
            self.section.complain("litellm_params", "is missing: it names the upstream's model.")
        elif "model" not in self.params.content and isinstance(self.section.content["litellm_params"], Mapping):
            self.params.complain("model", f"is missing.{nearest('model', set(self.params.names()))}")

    def _timeouts(self) -> dict[str, float | None]:
        """LiteLLM's `timeout` bounds each wait for bytes: the first, and (never more than ours) the next."""
        found = {name: self.section.number(name, above=0) for name in _TIMEOUTS}
        seconds: dict[str, float | None] = {
            name: None if value is None else float(value) for name, value in found.items()
        }
        timeout = self.params.number("timeout", above=0)
        if timeout is not None and seconds["first_byte_timeout_s"] is None:
            seconds["first_byte_timeout_s"] = float(timeout)
        if timeout is not None and seconds["idle_timeout_s"] is None:
            seconds["idle_timeout_s"] = min(float(timeout), self.context.gateway.idle_timeout_s)
        return seconds

    def _upstream(self, key_variables: list[str]) -> _Upstream | None:
        """None if something is missing; then it is said."""
        text, named = self.params.text("model"), self.params.text("custom_llm_provider")
        api_base = self._api_base()
        has_base = api_base is not None
        found = text and split_model(
            text, named=named, key_variables=key_variables, has_base=has_base, known=self.context.known
        )
        if text and not found:
            self._off(
                f"nothing tells whose model '{text}' is; write <provider>/{text}, or give an api_base if its server "
                "speaks OpenAI's format"
            )
        elif found:
            return self._with_key(*found, api_base)
        return None

    def _with_key(self, provider: str, model: str, api_base: str | None) -> _Upstream | None:
        """The entry's own key; else the environment's, which goes to the provider's own address only (a self-hosted
        one's is wherever the entry says)."""
        given, credential = self.params.text("api_key"), self.params.text("litellm_credential_name") or ""
        if given is not None and credential:
            self.params.complain("litellm_credential_name", "stands beside an api_key: give one of the two.")
        known = PROVIDERS.get(provider)
        self_hosted = known is not None and known.self_hosted
        if known and self_hosted and not known.api_base and not api_base and provider != "demo":
            self.params.complain("api_base", f"is missing: where does '{provider}' listen?")
            return None
        variable = known.key_variable if known else f"{provider.upper()}_API_KEY"
        if given is None and not credential and (api_base is None or self_hosted) and variable is not None:
            given = self.context.variables.get(variable)
            if given is None and known and not self_hosted:
                self._off(f"it has no api_key, and {variable} is not set")
                return None
        if given is not None and not given.isprintable():  # it goes into a header
            self.params.complain("api_key", "holds a line break or another character that no key has.")
        return _Upstream(provider, model, api_base, Secret(given) if given else None, credential)

    def _api_base(self) -> str | None:
        api_base = self.params.text("api_base")
        other = self.params.text("base_url")
        address = api_base or other
        if address is None:
            return None
        if problem := _address_problem(address):
            self.params.complain("api_base" if api_base else "base_url", problem)
            return None
        return address.rstrip("/")

    def _off(self, reason: str) -> None:
        self.context.off.append((self.name, reason))

    def _other_params(self, provider: str, lane: str | None) -> Mapping[str, object]:
        """Parameters that LiteLLM would add to a call; only the translated lane has a place for them."""
        others = [key for key in self.params.names() if key not in _READ_PARAMS and not is_rate(key)]
        ignored = [key for key in others if key in IGNORED_PARAMS]
        for key in ignored:
            self.context.warnings.append(f"{self.params.place(key)} is ignored: {IGNORED_PARAMS[key]}.")
        passed = {key: _as_json(self.params.content[key]) for key in others if key not in IGNORED_PARAMS}
        known = PROVIDERS.get(provider)
        if passed and lane != "litellm" and known and known.direct:
            self.context.warnings.append(
                f"{self.params.where}: {', '.join(passed)} reach '{self.name}' on the translated lane only, since the "
                "direct lane sends what the client sent; say 'lane: litellm' to translate every call."
            )
        return Hidden(passed)


def _address_problem(address: str) -> str | None:
    """Why calls cannot be sent below `address`; it is not quoted, since it may hold a password."""
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        return "must be a URL such as http://localhost:8000/v1."
    if any(character.isspace() or not character.isprintable() for character in address):
        return "holds a space or another character that no URL has."
    if parts.username is not None or parts.password is not None:
        return "holds a user name or a password, which is not sent: give the key as api_key."
    if "?" in address or "#" in address:
        return "ends in a '?query' or a '#fragment', but paths such as /chat/completions are added to it: leave it out."
    return None


def _has_address(provider: str) -> bool:
    known = PROVIDERS.get(provider)
    return known is not None and bool(known.direct)


def _as_json(value: object) -> object:
    """As LiteLLM is told: numbers that are no money may be floats."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    return [_as_json(item) for item in value] if isinstance(value, list) else value
