"""Settings from the environment and `.env`: which there are, what they default to, and how each is read."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv.parser import parse_stream

from token_tracker.config.encryption import HOW_TO_MAKE_ONE, is_key
from token_tracker.config.mail import read_mail
from token_tracker.config.problems import nearest
from token_tracker.config.values import Address, Secret, Settings, SingleSignOn, Tls
from token_tracker.domain.access import Role
from token_tracker.domain.providers import PROVIDERS

PREFIX = "TOKEN_TRACKER_"
DATABASE_URL = "DATABASE_URL"
REDIS_URL = "REDIS_URL"
# Every setting with its default as text ('' where there is none); docs and .env.example are compared with this.
DEFAULTS: Mapping[str, str] = {
    DATABASE_URL: "",  # SQLite in the data directory
    REDIS_URL: "",  # limits are counted in the gateway's own memory
    PREFIX + "REDIS_NAMESPACE": "token-tracker",
    PREFIX + "CONFIG": "config/proxy.yaml",
    PREFIX + "DATA_DIR": "./data",
    PREFIX + "PROXY_HOST": "127.0.0.1",
    PREFIX + "PROXY_PORT": "8000",
    PREFIX + "METRICS_PORT": "",
    PREFIX + "PROXY_WORKERS": "1",
    PREFIX + "API_HOST": "127.0.0.1",
    PREFIX + "API_PORT": "5000",
    PREFIX + "DASHBOARD_HOST": "127.0.0.1",
    PREFIX + "DASHBOARD_PORT": "8050",
    **{f"{PREFIX}{of}TLS_{part}": "" for of in ("", "PROXY_", "API_", "DASHBOARD_") for part in ("CERT", "KEY")},
    PREFIX + "SECRET_KEY": "",
    PREFIX + "ENCRYPTION_KEY": "",
    PREFIX + "ADMIN_PASSWORD": "",
    PREFIX + "MAX_BODY_SIZE": "33554432",
    PREFIX + "JOURNAL_SYNC_MS": "100",
    PREFIX + "RETENTION_DAYS": "",
    PREFIX + "LOG_FORMAT": "text",
    PREFIX + "LOG_CALLS": "true",
    PREFIX + "API_URL": "",
    PREFIX + "DASHBOARD_URL": "",
    PREFIX + "OIDC_ISSUER": "",
    PREFIX + "OIDC_CLIENT_ID": "",
    PREFIX + "OIDC_CLIENT_SECRET": "",
    PREFIX + "OIDC_ROLES_CLAIM": "groups",
    PREFIX + "OIDC_ROLES": "",
    PREFIX + "OIDC_DEFAULT_ROLE": "member",
    PREFIX + "OIDC_TEAM_CLAIM": "",
    "SMTP_SERVER": "",
    "SMTP_PORT": "587",
    "SMTP_USERNAME": "",
    "SMTP_PASSWORD": "",
    "SMTP_FROM_ADDRESS": "",
    "NOTIFICATION_EMAIL": "",
    PREFIX + "SMTP_SECURITY": "",  # by port
    PREFIX + "WEBHOOK_SECRET": "",
}
PROVIDER_KEYS: Mapping[str, str] = {p.key_variable: p.name for p in PROVIDERS.values() if p.key_variable}
WORKERS_MOST = 64
_STORES = ("redis", "rediss", "unix")
SECRET_KEY_CHARACTERS = 32  # at least: HS256 wants 256 bits
_DATABASES = ("sqlite", "sqlite+pysqlite", "postgres", "postgresql", "postgresql+psycopg2")


def read_variables(environ: Mapping[str, str], cwd: Path, problems: list[str]) -> dict[str, str]:
    """All variables that are set: the environment wins over `.env`, an empty value counts as unset."""
    found = {name: value for name, value in _read_dotenv(cwd / ".env", problems).items() if value}
    found |= {name: value for name, value in environ.items() if value}
    for name in sorted(found):
        if name.startswith(PREFIX) and name not in DEFAULTS:
            problems.append(f"{name} is no setting of Token Tracker.{nearest(name, DEFAULTS)}")
    return found


def _read_dotenv(path: Path, problems: list[str]) -> dict[str, str]:
    """Values are taken as they stand: a `$` in a password is no reference."""
    try:
        with path.open(encoding="utf-8") as file:
            bindings = list(parse_stream(file))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path} cannot be read ({_reason(error)}).")
        return {}
    for binding in bindings:
        if binding.error:
            problems.append(f"{path}, line {binding.original.line}, is not of the form NAME=value.")
    return {binding.key: binding.value for binding in bindings if binding.key and binding.value}


def _reason(error: Exception) -> str:
    return (error.strerror or "unreadable") if isinstance(error, OSError) else "it is not UTF-8"


@dataclass(frozen=True, slots=True)
class _Reader:
    variables: Mapping[str, str]
    cwd: Path
    problems: list[str]

    def text(self, name: str) -> str:
        return self.variables.get(name) or DEFAULTS[name]

    def secret(self, name: str) -> Secret | None:
        value = self.text(name)
        return Secret(value) if value else None

    def encryption_keys(self) -> tuple[Secret, ...]:
        """All that stand in the setting, wrong ones reported by their place, never by their text."""
        name = PREFIX + "ENCRYPTION_KEY"
        keys = [key.strip() for key in self.text(name).split(",")] if self.text(name) else []
        for place, key in enumerate(keys, start=1):
            if not is_key(key):
                self.problems.append(
                    f"{name} holds no key of 32 bytes in URL-safe base64 at place {place}: {HOW_TO_MAKE_ONE}."
                )
        return tuple(Secret(key) for key in keys)

    def url(self, name: str) -> str:
        text = self.text(name).strip().rstrip("/")
        if text and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", text):
            self.problems.append(f"{name} must be an address like https://tokens.example.com.")
            return ""
        return text

    def whole(self, name: str, least: int, most: int) -> int:
        text = self.text(name).strip()
        if text.isascii() and text.isdigit() and least <= int(text) <= most:
            return int(text)
        self.problems.append(f"{name} must be a whole number from {least} to {most}.")
        return int(DEFAULTS[name] or least)

    def one_of(self, name: str, choices: tuple[str, ...]) -> str:
        text = self.text(name).strip()
        if text in choices:
            return text
        self.problems.append(f"{name} must be one of {', '.join(choices)}.")
        return DEFAULTS[name]

    def name(self, name: str) -> str:
        text = self.text(name).strip()
        if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", text):
            return text
        self.problems.append(f"{name} may hold letters, digits, '_', '.' and '-', at most 64.")
        return DEFAULTS[name]

    def address(self, component: str) -> Address:
        name = f"{PREFIX}{component}"
        host, port = self.text(f"{name}_HOST").strip(), self.whole(f"{name}_PORT", 1, 65535)
        return Address(host, port, self.tls(f"{name}_TLS") or self.tls(f"{PREFIX}TLS"))

    def metrics(self) -> Address | None:
        """Beside the gateway, without TLS; None: only the gateway's own port tells the metrics."""
        name = PREFIX + "METRICS_PORT"
        if not self.text(name):
            return None
        return Address(self.text(PREFIX + "PROXY_HOST").strip(), self.whole(name, 1, 65535))

    def tls(self, name: str) -> Tls | None:
        """A certificate that can be served with, or None; its own problems are reported."""
        cert, key = self.variables.get(f"{name}_CERT"), self.variables.get(f"{name}_KEY")
        if not cert and not key:
            return None
        if not cert or not key:
            self.problem(f"{name}_{'KEY' if cert else 'CERT'} is missing: TLS needs the certificate and its key.")
            return None
        found = Tls(*((self.cwd / Path(path).expanduser()).absolute() for path in (cert, key)))
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(found.certificate, found.key, password="")
        except (OSError, ssl.SSLError) as error:
            why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            self.problem(f"{name}_CERT and {name}_KEY cannot be used: {why}.")
        return found

    def problem(self, text: str) -> None:
        if text not in self.problems:  # one certificate serves several components
            self.problems.append(text)


def read_settings(variables: Mapping[str, str], cwd: Path, problems: list[str]) -> Settings:
    """The settings; a wrong value is reported and read as its default. Paths are absolute."""
    read = _Reader(variables, cwd, problems)
    data_dir = (cwd / Path(read.text(PREFIX + "DATA_DIR")).expanduser()).absolute()
    settings = Settings(
        config_path=(cwd / Path(read.text(PREFIX + "CONFIG")).expanduser()).absolute(),
        data_dir=data_dir,
        database_url=Secret(read.text(DATABASE_URL) or f"sqlite:///{data_dir}/token_tracker.db"),
        proxy=read.address("PROXY"),
        api=read.address("API"),
        dashboard=read.address("DASHBOARD"),
        secret_key=read.secret(PREFIX + "SECRET_KEY"),
        admin_password=read.secret(PREFIX + "ADMIN_PASSWORD"),
        max_body_bytes=read.whole(PREFIX + "MAX_BODY_SIZE", 1024, 2**31),
        journal_sync_ms=read.whole(PREFIX + "JOURNAL_SYNC_MS", 1, 60_000),
        retention_days=read.whole(PREFIX + "RETENTION_DAYS", 1, 36_500)
        if read.text(PREFIX + "RETENTION_DAYS")
        else None,
        single_sign_on=_single_sign_on(read),
        api_url=read.url(PREFIX + "API_URL"),
        dashboard_url=read.url(PREFIX + "DASHBOARD_URL"),
        mail=read_mail(read.text, lambda: read.whole("SMTP_PORT", 1, 65535), problems),
        webhook_secret=read.secret(PREFIX + "WEBHOOK_SECRET"),
        metrics=read.metrics(),
        log_format=read.one_of(PREFIX + "LOG_FORMAT", ("text", "json")),
        log_calls=read.one_of(PREFIX + "LOG_CALLS", ("true", "false")) == "true",
        redis_url=read.secret(REDIS_URL),
        redis_namespace=read.name(PREFIX + "REDIS_NAMESPACE"),
        encryption_keys=read.encryption_keys(),
        proxy_workers=read.whole(PREFIX + "PROXY_WORKERS", 1, WORKERS_MOST),
    )
    _check(settings, problems)
    for name in PROVIDER_KEYS:
        if not variables.get(name, "").isprintable():  # it goes into a header
            problems.append(f"{name} holds a line break or another character that no key has.")
    return settings


def _single_sign_on(read: _Reader) -> SingleSignOn | None:
    """None where no issuer is named; the other settings alone would do nothing, so they are then a problem."""
    named = [name for name in DEFAULTS if name.startswith(PREFIX + "OIDC_") and read.variables.get(name)]
    issuer, client_id = read.url(PREFIX + "OIDC_ISSUER"), read.text(PREFIX + "OIDC_CLIENT_ID")
    if not named:
        return None
    for name, value in ((PREFIX + "OIDC_ISSUER", issuer), (PREFIX + "OIDC_CLIENT_ID", client_id)):
        if not value and not read.text(name):
            read.problems.append(f"{name} is not set, but {named[0]} is: single sign-on needs both.")
    default_role = read.text(PREFIX + "OIDC_DEFAULT_ROLE")
    if default_role not in (*Role, "none"):
        read.problems.append(f"{PREFIX}OIDC_DEFAULT_ROLE must be one of {', '.join(Role)}, none.")
    return SingleSignOn(
        issuer=issuer,
        client_id=client_id,
        client_secret=read.secret(PREFIX + "OIDC_CLIENT_SECRET"),
        roles_claim=read.text(PREFIX + "OIDC_ROLES_CLAIM"),
        roles=_roles(read),
        default_role=None if default_role == "none" else default_role,
        team_claim=read.text(PREFIX + "OIDC_TEAM_CLAIM"),
    )


def _roles(read: _Reader) -> dict[str, str]:
    name, roles = PREFIX + "OIDC_ROLES", {}
    for pair in filter(None, (part.strip() for part in read.text(name).split(","))):
        value, separator, role = pair.rpartition("=")
        if not separator or role not in tuple(Role):
            read.problems.append(f"{name} must be like 'platform-admins=admin,leads=manager'; '{pair}' is not.")
        roles[value] = role
    return roles


def _check(settings: Settings, problems: list[str]) -> None:
    if settings.database_url.value.partition("://")[0] not in _DATABASES:
        problems.append(
            f"{DATABASE_URL} names no database that Token Tracker knows: write sqlite:///path/to/file.db or "
            "postgresql://user:password@host:5432/name."
        )
    store = settings.redis_url
    if store is not None and store.value.partition("://")[0] not in _STORES:
        problems.append(f"{REDIS_URL} must begin with redis://, rediss:// or unix://: redis://host:6379/0.")
    if settings.proxy_workers > 1 and store is None:
        problems.append(
            f"{PREFIX}PROXY_WORKERS is {settings.proxy_workers}, but {REDIS_URL} is not set: several gateway workers "
            "need a Redis to count limits and budgets together. Set it, or leave one worker."
        )
    if "?" in str(settings.data_dir):
        problems.append(f"{PREFIX}DATA_DIR contains a '?', which ends a path in the URL of the database.")
    if settings.secret_key and len(settings.secret_key.value) < SECRET_KEY_CHARACTERS:
        problems.append(
            f"{PREFIX}SECRET_KEY is too short: use {SECRET_KEY_CHARACTERS} random characters or more "
            "(openssl rand -hex 32), or leave it unset and one is made."
        )
    components = {"PROXY": settings.proxy, "API": settings.api, "DASHBOARD": settings.dashboard}
    if settings.metrics is not None:
        components["METRICS"] = settings.metrics
    taken: dict[int, str] = {}
    for component, address in components.items():
        if address.port in taken:
            problems.append(
                f"{PREFIX}{component}_PORT and {PREFIX}{taken[address.port]}_PORT are both {address.port}: change one."
            )
        taken.setdefault(address.port, component)
