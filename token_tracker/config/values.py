"""The frozen values that configuration is read into; everything else in this room produces them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path


class Secret:
    """A string that does not show itself in reprs, logs and tracebacks; `.value` is the one way in."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.value)


class Hidden(dict[str, object]):
    """A mapping whose values may be secrets: reprs and logs show its names only."""

    def __repr__(self) -> str:
        return f"Hidden({', '.join(self)})"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files: the certificate with its chain, and its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Address:
    """Where a process listens, by TLS if it has a certificate."""

    host: str
    port: int
    tls: Tls | None = None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SingleSignOn:
    """An OpenID Connect provider. `roles`: values of the claim `roles_claim` and the role that each stands for; who
    has none of them gets `default_role`, or with None may not log in. `team_claim` '': teams are set here."""

    issuer: str
    client_id: str
    client_secret: Secret | None
    roles_claim: str = "groups"
    roles: Mapping[str, str] = field(default_factory=dict)
    default_role: str | None = "member"
    team_claim: str = ""


@dataclass(frozen=True, slots=True)
class Mail:
    """How mail goes out. `server` '': none does. `security`: 'starttls', 'tls' or 'none'; `sender`: the address in
    From; `recipient`: who gets what no budget sends to people of its own, '' for nobody."""

    server: str = ""
    port: int = 587
    username: str = ""
    password: Secret | None = None
    security: str = "starttls"
    sender: str = ""
    recipient: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """Read once from the environment and `.env`; see `.env.example` for each name's meaning."""

    config_path: Path
    data_dir: Path
    database_url: Secret  # SQLAlchemy URL; default: SQLite in data_dir
    proxy: Address
    api: Address
    dashboard: Address
    secret_key: Secret | None  # None: generated and kept in data_dir (mode 0600)
    admin_password: Secret | None
    max_body_bytes: int
    journal_sync_ms: int
    retention_days: int | None
    single_sign_on: SingleSignOn | None = None
    api_url: str = ""  # how people reach it, where a proxy stands between; '': as they asked for it
    dashboard_url: str = ""
    mail: Mail = Mail()
    webhook_secret: Secret | None = None  # None: generated and kept in data_dir
    log_format: str = "text"  # or 'json'
    log_calls: bool = True
    metrics: Address | None = None  # where /metrics answers without a key
    redis_url: Secret | None = None  # where several gateway workers count together; None: in the worker's memory
    redis_namespace: str = "token-tracker"  # before all keys there: one for each installation
    proxy_workers: int = 1
    encryption_keys: tuple[Secret, ...] = ()  # the first encrypts, all decrypt; see `paths.encryption_keys`


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """`gateway:` of proxy.yaml. `on_disconnect`: 'drain' or 'cancel'."""

    on_disconnect: str = "drain"
    drain_timeout_s: float = 10
    drains: int = 100
    evidence_wait_s: float = 5
    connect_timeout_s: float = 10
    first_byte_timeout_s: float = 600
    idle_timeout_s: float = 120
    client_stall_s: float = 60
    shutdown_s: float = 30
    retry_ambiguous: bool = False


@dataclass(frozen=True, slots=True)
class Deployment:
    """One upstream behind a model name: what to send where, and how it is priced.

    `model` is the provider's own name, without the provider prefix; for a wildcard (`name` 'openai/*' or the bare
    names of an environment key) see `ModelTable`. `rates` are prices of the entry itself, in LiteLLM's field names
    (USD per unit); None where the entry names none. `price_names` are the names to look up in `pricing` and the price
    file, in order of precedence. `credential`: of `/api/provider-credentials`, '' for none; gateways fill in `api_key`
    from it. `source`: 'config', or 'environment' for what a provider's key in the environment offers.
    """

    name: str
    provider: str
    model: str
    api_base: str | None
    api_key: Secret | None
    rates: Mapping[str, Decimal] | None = None
    base_model: str | None = None
    lane: str | None = None  # 'direct' or 'litellm' where the entry forces one
    weight: float = 1
    on_disconnect: str | None = None
    connect_timeout_s: float | None = None
    first_byte_timeout_s: float | None = None
    idle_timeout_s: float | None = None
    order: int | None = None  # lower ones first; None: after all that have one
    num_retries: int | None = None
    allowed_fails: int | None = None
    cooldown_time_s: float | None = None
    is_local: bool = False  # loopback, private, ollama or hosted_vllm: never priced by the price file
    max_input_tokens: int | None = None  # of the model; None: as the price file says
    max_output_tokens: int | None = None
    litellm_params: Mapping[str, object] = field(default_factory=dict)  # other parameters, for the translated lane only
    credential: str = ""
    source: str = "config"

    @property
    def price_names(self) -> tuple[str, ...]:
        """`base_model`, `provider/model`, `model`: the order of the contract."""
        names = (self.base_model, f"{self.provider}/{self.model}", self.model)
        return tuple(name for name in names if name)


@dataclass(frozen=True, slots=True)
class PricingEntry:
    """One line of `pricing:`. `pattern`: an exact name, 'regex:…' or '*'; `rates`: LiteLLM's names, USD per unit."""

    provider: str
    pattern: str
    rates: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class RateLimitEntry:
    """One line of `rate_limits:`, already in the shape of `POST /api/rate-limits`."""

    scope_type: str
    scope_id: str | None
    model: str | None
    unit: str  # requests | tokens | concurrent
    limit: int
    period: str  # second | minute | hour | day
    on_store_error: str = "allow"


@dataclass(frozen=True, slots=True)
class AlertEntry:
    """A threshold, in percent or in money, and whom to tell."""

    threshold_percent: Decimal | None
    email: str | None = None
    slack_webhook: str | None = None
    webhook: str | None = None
    apprise: str | None = field(default=None, repr=False)  # a URL as the library Apprise reads it
    threshold_nano_usd: int | None = None


@dataclass(frozen=True, slots=True)
class BudgetEntry:
    """A budget of the file: `total` and `daily` are two global ones, with the same alerts."""

    period: str  # daily | total
    limit_nano_usd: int
    enforcement: str = "hard"
    timezone: str = "UTC"
    alerts: tuple[AlertEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class ReportEntry:
    """One line of `reports:`, in the shape of `POST /api/reports`. `team` '' for everybody's spend."""

    name: str
    period: str  # daily | weekly | monthly
    timezone: str
    hour: int
    team: str
    recipients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AlertRuleEntry:
    """A rule as `domain/alert_fields.py` completes it."""

    name: str
    kind: str
    subject: str
    thresholds: list[str]
    options: Mapping[str, int | str]
    severity: str
    cooldown_s: int
    quiet_hours: Mapping[str, str] | None
    channels: list[str]
    enabled: bool


@dataclass(frozen=True, slots=True)
class ChannelEntry:
    """`type`: a channel of `config/recipients.py`."""

    name: str
    type: str
    recipient: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """`alerts:` of proxy.yaml. The digest goes out at `digest_at` ('08:00') by the clocks of `timezone`."""

    rules: tuple[AlertRuleEntry, ...] = ()
    channels: tuple[ChannelEntry, ...] = ()
    digest_at: str = "08:00"
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class ModelTable:
    """What the gateway offers. Lookup: exact name, alias, environment offer, then wildcard (longest prefix first).

    `wildcards` maps a prefix ('openai/') to a template deployment whose `model` is filled with the rest of the name.
    `env_offers` maps a bare model name of the price file to the provider whose key is in the environment; such names
    are served like '<provider>/<name>'.
    """

    exact: Mapping[str, tuple[Deployment, ...]]
    aliases: Mapping[str, str]
    wildcards: Mapping[str, tuple[Deployment, ...]]
    env_offers: Mapping[str, Deployment]


@dataclass(frozen=True, slots=True)
class Routing:
    """What LiteLLM's settings say about failures, for all models. `num_retries` None: 2 for a name with several
    deployments, else 0. `allowed_fails` None: see `proxy/cooldown.py`. `fallbacks`: what to try after a name has
    failed, in order; '*' stands for names without fallbacks of their own."""

    num_retries: int | None = None
    retry_after_s: float = 0
    fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    allowed_fails: int | None = None
    cooldown_time_s: float = 5
    has_cooldowns: bool = True


@dataclass(frozen=True, slots=True)
class Configuration:
    """All of it: settings and proxy.yaml. `warnings` are to be said once at start; `off` are entries switched off
    because a variable is not set or their provider is unknown: (name, reason)."""

    settings: Settings
    models: ModelTable
    gateway: GatewayOptions = field(default_factory=GatewayOptions)
    routing: Routing = field(default_factory=Routing)
    pricing: tuple[PricingEntry, ...] = ()
    rate_limits: tuple[RateLimitEntry, ...] = ()
    budgets: tuple[BudgetEntry, ...] = ()
    reports: tuple[ReportEntry, ...] = ()
    alerts: AlertSettings = AlertSettings()
    warnings: tuple[str, ...] = ()
    off: tuple[tuple[str, str], ...] = ()

    @property
    def deployments(self) -> tuple[Deployment, ...]:
        """All that is offered, templates of wildcards included."""
        groups = (*self.models.exact.values(), *self.models.wildcards.values(), self.models.env_offers.values())
        return tuple(deployment for group in groups for deployment in group)

    @property
    def needs_demo(self) -> bool:
        return any(deployment.provider == "demo" for deployment in self.deployments)

    @property
    def needs_litellm(self) -> bool:
        """Whether any deployment may be asked in a format that its provider does not speak. The demo provider speaks
        all that it serves."""
        return any(d.lane == "litellm" or (d.lane is None and d.provider != "demo") for d in self.deployments)
