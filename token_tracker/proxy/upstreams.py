"""Which deployments serve a model name: lookup, fallbacks, and everything about their requests that can be prepared
before a call comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from yarl import URL

from token_tracker.config.values import Deployment, GatewayOptions, ModelTable, Routing
from token_tracker.domain import pricing
from token_tracker.domain.bounds import Facts
from token_tracker.domain.errors import Refusal, model_not_found, model_switched_off
from token_tracker.domain.providers import PROVIDERS, WireFormat
from token_tracker.proxy.cooldown import Health
from token_tracker.proxy.credentials import Credentials, with_credentials
from token_tracker.proxy.lanes.direct import credential_headers, direct_url
from token_tracker.proxy.objects.accounts import Accounts
from token_tracker.proxy.plan import Group

NEAREST_PERCENT = 55  # how alike two names must be
# Names behind a wildcard come from clients: only so many are remembered before the memory is emptied.
REMEMBERED_NAMES = 4096
FALLBACKS_MAX = 5


@dataclass(slots=True)
class Target:
    """One deployment as one wire format reaches it. `url` is None on the translated lane, which makes its own.

    `price` is remembered here by the price book, with the time of the snapshot that it was chosen from.
    """

    deployment: Deployment
    lane: str  # 'direct' | 'litellm'
    url: URL | None
    credentials: tuple[tuple[str, str], ...]
    connect_timeout_s: float
    first_byte_timeout_s: float
    idle_timeout_s: float
    on_disconnect: str | None  # 'drain' | 'cancel'; None: drained unless it costs nothing
    price: pricing.Choice | None = None
    price_from_us: int = -1
    health: Health | None = None  # None: it never rests
    facts: Facts | None = None  # remembered by `ModelFacts`

    def rests(self, now_s: float) -> bool:
        return self.health is not None and self.health.rests(now_s)


@dataclass(frozen=True, slots=True)
class Choice:
    """Where calls of one name go, and the names to fall back on. `only`: the one target, where that is all there is to
    try, ever."""

    group: Group
    fallbacks: tuple[str, ...]
    only: Target | None


class Upstreams:
    """The model table, ready for calls. `demo_url` is where the echo provider listens ('' if it does not run); `off`:
    names that are configured but switched off, and why. `unavailable`: deployments that wait for their credential, by
    name, and why."""

    def __init__(
        self,
        models: ModelTable,
        options: GatewayOptions,
        demo_url: str = "",
        routing: Routing | None = None,
        off: Iterable[tuple[str, str]] = (),
        credentials: Credentials | None = None,
    ) -> None:
        self._off = dict(off)
        self._configured = models
        self._options = options
        self._routing = routing or Routing()
        self._health: dict[tuple[str, int], Health] = {}  # by entry, whatever names and formats lead to it
        self._demo_url = demo_url
        self._prefixes = sorted(models.wildcards, key=len, reverse=True)
        self._choices: dict[tuple[str, WireFormat], Choice | None] = {}
        self._credentials: Credentials | None = None
        self.take_credentials(credentials or Credentials())

    def take_credentials(self, credentials: Credentials) -> None:
        """From the next call on deployments use these; what failed with the ones before is tried anew."""
        if credentials is self._credentials:
            return
        self._credentials = credentials
        self._models, self.unavailable = with_credentials(self._configured, credentials)
        self.accounts = Accounts(self._models, self._demo_url)
        self._choices.clear()
        self._health.clear()

    @property
    def demo_url(self) -> str:
        return self._demo_url

    @property
    def retry_after_s(self) -> float:
        """The least to wait before a deployment is asked again by the same call."""
        return self._routing.retry_after_s

    def choice(self, name: str, wire: WireFormat) -> Choice | None:
        """Where calls of `name` in this wire format go; None if the name is not offered."""
        try:
            return self._choices[name, wire]
        except KeyError:
            pass
        if len(self._choices) >= REMEMBERED_NAMES:
            self._choices.clear()
        choice = self._choices[name, wire] = self._make_choice(name, wire)
        return choice

    def deployments(self, name: str) -> tuple[Deployment, ...]:
        """Exact name, alias, environment offer, wildcard (longest prefix first); empty if none fits, or none of those
        that do can be used: then no others stand in for them, for theirs would be another account."""
        name = self._models.aliases.get(name, name)
        if (found := self._models.exact.get(name)) is not None:
            return tuple(found)
        if offer := self._models.env_offers.get(name):
            return (replace(offer, name=name, model=name),) if offer.model != name else (offer,)
        for prefix in self._prefixes:
            if name.startswith(prefix) and len(name) > len(prefix):
                return tuple(_filled(each, name[len(prefix) :]) for each in self._models.wildcards[prefix])
        return ()

    def lacks_credentials(self, name: str) -> bool:
        """Whether it is the name of an entry, or an alias of one, of which no deployment has its credential."""
        return self._models.exact.get(self.alias_of(name)) == ()

    def names(self) -> list[str]:
        """Every name that can be listed (wildcards cannot), sorted."""
        listed = {*self._models.exact, *self._models.aliases, *self._models.env_offers}
        if self.unavailable:
            listed = {name for name in listed if self.deployments(name)}
        return sorted(listed)

    def provider(self, name: str) -> str:
        """Who serves an offered name."""
        return self.deployments(name)[0].provider

    def alias_of(self, name: str) -> str:
        return self._models.aliases.get(name, name)

    def fallbacks(self, name: str) -> tuple[str, ...]:
        """The names to try after this one, each followed by its own fallbacks; at most 5."""
        found: list[str] = []
        self._follow(name, found, {self.alias_of(name)})
        return tuple(found[:FALLBACKS_MAX])

    def nearest(self, name: str, allowed: Callable[[str], bool]) -> str | None:
        """The name most like a wrong one, of those the key may use; only for the refusal's text."""
        from rapidfuzz import fuzz, process  # on the refusal path only: a gateway without mistakes never loads it

        asked, names = name[:256].lower(), [each for each in self.names() if allowed(each)]
        found = process.extractOne(asked, names, scorer=fuzz.ratio, processor=str.lower, score_cutoff=NEAREST_PERCENT)
        if found is not None:
            return str(found[0])
        return next((each for each in names if len(asked) > 2 and each.lower().startswith(asked)), None)

    def not_found(self, name: str, allowed: Callable[[str], bool]) -> Refusal:
        """Why a model cannot be asked: it is switched off, for a reason, or there is none of the name."""
        reasons = dict(self.unavailable) | self._off
        prefixes = [f"{prefix}*" for prefix in self._prefixes if name.startswith(prefix)]
        why = next((reasons[each] for each in (name, self.alias_of(name), *prefixes) if each in reasons), None)
        if why is not None:
            return model_switched_off(name[:256], why)
        return model_not_found(name[:256], self.nearest(name, allowed))

    def _make_choice(self, name: str, wire: WireFormat) -> Choice | None:
        targets = tuple(self._target(deployment, wire) for deployment in self.deployments(name))
        if not targets:
            return None
        group = Group(name, targets, self._routing.num_retries)
        for index, target in enumerate(targets):
            target.health = self._health_of(target.deployment, index, group)
        fallbacks = self.fallbacks(name)
        is_all = len(targets) == 1 and not fallbacks and not group.retries_after(targets[0])
        return Choice(group, fallbacks, targets[0] if is_all else None)

    def _health_of(self, deployment: Deployment, index: int, group: Group) -> Health | None:
        routing, is_alone = self._routing, len(group.targets) == 1
        if not routing.has_cooldowns or (is_alone and not group.retries_after(group.targets[0])):
            return None
        own = deployment.allowed_fails
        made = Health(
            routing.allowed_fails if own is None else own, deployment.cooldown_time_s, routing.cooldown_time_s, is_alone
        )
        return self._health.setdefault((deployment.name, index), made)

    def _follow(self, name: str, found: list[str], seen: set[str]) -> None:
        chains, own = self._routing.fallbacks, self.alias_of(name)
        chain = next((chains[each] for each in (name, own, "*") if each in chains), ())
        for other in chain:
            if self.alias_of(other) not in seen:
                seen.add(self.alias_of(other))
                found.append(other)
                self._follow(other, found, seen)

    def _target(self, deployment: Deployment, wire: WireFormat) -> Target:
        lane = lane_of(deployment, wire)
        direct = lane == "direct"
        url = URL(direct_url(deployment, wire, self._demo_url)) if direct else None
        return self.target_at(deployment, lane, url, credential_headers(deployment, wire) if direct else ())

    def target_at(
        self, deployment: Deployment, lane: str, url: URL | None, credentials: tuple[tuple[str, str], ...]
    ) -> Target:
        """A deployment as it is reached at an address of its own."""
        options = self._options
        return Target(
            deployment=deployment,
            lane=lane,
            url=url,
            credentials=credentials,
            connect_timeout_s=_first(deployment.connect_timeout_s, options.connect_timeout_s),
            first_byte_timeout_s=_first(deployment.first_byte_timeout_s, options.first_byte_timeout_s),
            idle_timeout_s=_first(deployment.idle_timeout_s, options.idle_timeout_s),
            on_disconnect=deployment.on_disconnect or ("cancel" if options.on_disconnect == "cancel" else None),
        )


def lane_of(deployment: Deployment, wire: WireFormat) -> str:
    """'direct' where the provider speaks the client's format, unless the entry forces a lane."""
    if deployment.lane is not None:
        return deployment.lane
    return "direct" if wire in _speaks(deployment) else "litellm"


def _speaks(deployment: Deployment) -> frozenset[WireFormat]:
    provider = PROVIDERS.get(deployment.provider)
    return provider.direct if provider is not None else frozenset()


def _filled(template: Deployment, model: str) -> Deployment:
    """A wildcard's deployment for one name: a '*' in its model is the rest of the name; without one, all names get it.

    It keeps the name of its entry, by which the entry's own price is known to the database as well.
    """
    return replace(template, model=template.model.replace("*", model))


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)
