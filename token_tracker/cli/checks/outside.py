"""What lies beyond this installation: the mail server and the upstreams. No mail is sent and no model is called."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import httpx
from sqlalchemy import select

from token_tracker.cli.checks.findings import Finding, Ground, ok, problem, skipped, warning
from token_tracker.cli.context import keyring
from token_tracker.cli.shown import counted
from token_tracker.config.environment import PROVIDER_KEYS
from token_tracker.config.values import Configuration, Deployment, Mail, Secret
from token_tracker.database.models import BudgetAlert
from token_tracker.database.session import reading
from token_tracker.domain.providers import PROVIDERS
from token_tracker.services import provider_credentials

TIMEOUT_S = 5.0
AT_ONCE = 16
ANTHROPIC_VERSION = "2023-06-01"


def mail(ground: Ground) -> Iterator[Finding]:
    name, settings = "smtp", ground.settings.mail
    if not settings.server:
        if _wants_mail(ground):
            yield problem(
                name,
                "people are to be told by mail, but SMTP_SERVER is not set",
                "set SMTP_SERVER and SMTP_FROM_ADDRESS",
            )
        else:
            yield skipped(name, "SMTP_SERVER is not set, and nobody is to be told by mail")
        return
    where = f"{settings.server}:{settings.port} ({settings.security})"
    try:
        _enter(settings)
    except smtplib.SMTPAuthenticationError as error:
        yield problem(name, f"{where} refuses the login: {error.smtp_code}", "correct SMTP_USERNAME and SMTP_PASSWORD")
    except (smtplib.SMTPException, OSError) as error:
        remedy = "correct SMTP_SERVER, SMTP_PORT and TOKEN_TRACKER_SMTP_SECURITY"
        yield problem(name, f"{where}: {str(error) or type(error).__name__}", remedy)
    else:
        yield ok(name, where if settings.recipient else f"{where}; NOTIFICATION_EMAIL is not set")


def _wants_mail(ground: Ground) -> bool:
    if ground.settings.mail.recipient:
        return True
    entries = ground.configuration.budgets if ground.configuration else ()
    if any(alert.email for entry in entries for alert in entry.alerts):
        return True
    if ground.engine is None:
        return False
    with reading(ground.engine) as session:
        return session.scalar(select(BudgetAlert.id).where(BudgetAlert.email.is_not(None)).limit(1)) is not None


def _enter(settings: Mail) -> None:
    """Greeting, TLS and login, as `notifications` does it; then good bye."""
    trusted = ssl.create_default_context()
    if settings.security == "tls":
        client: smtplib.SMTP = smtplib.SMTP_SSL(settings.server, settings.port, timeout=TIMEOUT_S, context=trusted)
    else:
        client = smtplib.SMTP(settings.server, settings.port, timeout=TIMEOUT_S)
    with client:
        if settings.security == "starttls":
            client.starttls(context=trusted)
        if settings.password is not None:
            client.login(settings.username, settings.password.value)
        client.noop()


class Upstream(NamedTuple):
    """One address with one key, whatever models it serves. `name`: the first of them."""

    url: str
    provider: str
    key: Secret | None
    name: str


def upstreams(ground: Ground) -> Iterator[Finding]:
    """Each is asked for its list of models, which costs nothing, with the key that calls are sent with."""
    name = "upstreams"
    if ground.configuration is None:
        yield skipped(name, "the configuration cannot be used")
        return
    found = distinct(ground.configuration, provider_keys(ground))
    if not found:
        yield skipped(name, "none has an address of its own")
        return
    trusted = ssl.create_default_context()  # as the gateway has it
    with (
        httpx.Client(timeout=TIMEOUT_S, trust_env=False, verify=trusted) as client,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        yield from pool.map(lambda upstream: _asked(client, upstream), found)


def distinct(configuration: Configuration, keys: Mapping[str, str | None]) -> list[Upstream]:
    """`keys`: of the credentials; a deployment whose own is not at hand is the matter of another check."""
    found: dict[tuple[str, Secret | None], Upstream] = {}
    for deployment in configuration.deployments:
        key = deployment.api_key
        if deployment.credential:
            text = keys.get(deployment.credential)
            key = None if text is None else Secret(text)
        if (url := _models_url(deployment)) and (key is not None or not deployment.credential):
            found.setdefault((url, key), Upstream(url, deployment.provider, key, deployment.name))
    return list(found.values())


def provider_keys(ground: Ground) -> dict[str, str | None]:
    """Of the credentials in the database; None for one that cannot be decrypted. Raises ConfigurationError."""
    if ground.engine is None:
        return {}
    with reading(ground.engine) as session:
        return provider_credentials.opened(session, keyring(ground.settings))


def credentials(ground: Ground) -> Iterator[Finding]:
    name, keys = "credentials", provider_keys(ground)
    if ground.engine is None:
        yield skipped(name, "the database cannot be used")
        return
    deployments = ground.configuration.deployments if ground.configuration else ()
    unknown = {each.credential for each in deployments if each.credential} - keys.keys()
    for each in sorted(unknown):
        message = f"the model_list names '{each}', which does not exist: its deployments are unavailable"
        yield problem(name, message, "POST /api/provider-credentials, or correct litellm_credential_name")
    unreadable = sorted(each for each, text in keys.items() if text is None)
    for each in unreadable:
        remedy = "set TOKEN_TRACKER_ENCRYPTION_KEY to what it was encrypted under, or give it its provider's key again"
        yield problem(name, f"nothing at hand decrypts '{each}': its deployments are unavailable", remedy)
    if not keys and not unknown:
        yield skipped(name, "no provider's key is kept in the database")
    elif not unknown and not unreadable:
        yield ok(name, f"{counted(len(keys), 'key')}: all can be decrypted")


def _models_url(deployment: Deployment) -> str:
    """'' for the demo provider, which is a process of ours, and for what only LiteLLM knows how to reach."""
    provider = PROVIDERS.get(deployment.provider)
    base = (deployment.api_base or (provider.api_base if provider else None) or "").rstrip("/")
    if not base or deployment.provider == "demo":
        return ""
    if deployment.provider in ("anthropic", "ollama") and not base.endswith("/v1"):
        base = base.removesuffix("/v1/messages") + "/v1"
    return base.removesuffix("/chat/completions") + "/models"


def _asked(client: httpx.Client, upstream: Upstream) -> Finding:
    name, where = "upstreams", f"{upstream.provider} at {httpx.URL(upstream.url).netloc.decode()} (for {upstream.name})"
    try:
        status = client.get(upstream.url, headers=_credentials(upstream)).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        words = str(error) or type(error).__name__
        return problem(name, f"{where} is not reached: {words}", "check network and firewall, or correct its api_base")
    if status in (401, 403):
        variable = next(
            (key for key, provider in PROVIDER_KEYS.items() if provider == upstream.provider), "its api_key"
        )
        return problem(name, f"{where} refuses the key with {status}", f"correct {variable}, or the entry's api_key")
    if status >= 500:
        return warning(name, f"{where} answers with {status}", "it has a trouble of its own: try again later")
    return ok(name, f"{where} answers")


def _credentials(upstream: Upstream) -> dict[str, str]:
    if upstream.key is None:
        return {}
    if upstream.provider == "anthropic":
        return {"x-api-key": upstream.key.value, "anthropic-version": ANTHROPIC_VERSION}
    return {"authorization": f"Bearer {upstream.key.value}"}
