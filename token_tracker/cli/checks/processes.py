"""Whether the processes answer, as a load balancer would ask them, and what the gateway says of those behind it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from typing import Any

import httpx
from sqlalchemy import select

from token_tracker.cli.checks.findings import Finding, Ground, ok, problem, skipped, warning
from token_tracker.config.values import Address
from token_tracker.database.models import Lease
from token_tracker.database.session import reading

TIMEOUT_S = 3.0
WORKER = "worker"  # its lease
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
# Said by checks of their own.
_ELSEWHERE = frozenset({"switched_off", "litellm"})


def processes(ground: Ground) -> Iterator[Finding]:
    settings = ground.settings
    ready = _asked(settings.proxy, "/health/ready")
    yield from _gateway(settings.proxy, ready)
    yield from _litellm(ground, ready)
    for name, address, path in (("api", settings.api, "/api/health"), ("dashboard", settings.dashboard, "/login")):
        yield _answering(name, address, _asked(address, path))
    yield from _worker(ground)


def _asked(address: Address, path: str) -> httpx.Response | None:
    """None: nobody listens. Who answers need not be proven: it is our own address."""
    host = _EVERYWHERE.get(address.host, address.host)
    url = Address(host, address.port, address.tls).url + path
    try:
        with httpx.Client(timeout=TIMEOUT_S, trust_env=False, verify=False) as client:  # noqa: S501
            return client.get(url)
    except httpx.HTTPError:
        return None


def _gateway(address: Address, ready: httpx.Response | None) -> Iterator[Finding]:
    name, reasons = "gateway", _reasons(ready)
    if ready is None:
        yield warning(name, f"nothing answers at {address.url}", "token-tracker all, or token-tracker proxy")
    elif reasons is None:
        yield problem(name, f"another program answers at {address.url}", "stop it, or set TOKEN_TRACKER_PROXY_PORT")
    else:
        told = [reason for reason in reasons if reason["code"] not in _ELSEWHERE]
        for reason in told:
            yield problem(name, reason["message"], _REMEDIES.get(reason["code"], "see the log of the gateway"))
        if not told:
            yield ok(name, f"ready at {address.url}")


_REMEDIES = {
    "restart": "restart it: Ctrl-C, then token-tracker all",
    "recorder": "see the recorder's log, and the findings on database and disk",
    "no_snapshot": "see the recorder's log: it publishes the keys from the database",
    "journal_unavailable": "make room in the data directory",
    "store": "see the findings on redis",
    "configuration": "correct the file; it is read again by itself",
}


def _reasons(ready: httpx.Response | None) -> list[dict[str, str]] | None:
    """What /health/ready says; None for an answer that is not a gateway's."""
    try:
        answer: Any = ready.json() if ready is not None else None
    except ValueError:
        return None
    return answer.get("reasons") if isinstance(answer, dict) else None


def _litellm(ground: Ground, ready: httpx.Response | None) -> Iterator[Finding]:
    name = "litellm"
    if ground.configuration is None or not ground.configuration.needs_litellm:
        yield skipped(name, "no configured model needs it")
        return
    try:
        version = metadata.version("litellm")
    except metadata.PackageNotFoundError:
        yield problem(name, "the package is not installed", "make install")
        return
    said = next((reason["message"] for reason in _reasons(ready) or () if reason["code"] == "litellm"), None)
    if said is not None:
        is_starting = "starting" in said
        remedy = "wait for it" if is_starting else "see its lines in the log; it is started again by itself"
        yield (warning if is_starting else problem)(name, said, remedy)
    else:
        yield ok(name, f"version {version}" + ("" if ready is None else ", answers"))


def _answering(name: str, address: Address, answer: httpx.Response | None) -> Finding:
    if answer is None:
        return warning(name, f"nothing answers at {address.url}", f"token-tracker all, or token-tracker {name}")
    if answer.status_code != 200:
        return problem(name, f"{address.url} answers with {answer.status_code}", f"see the log of the {name}")
    return ok(name, f"answers at {address.url}")


def _worker(ground: Ground) -> Iterator[Finding]:
    if ground.engine is None:
        yield skipped(WORKER, "the database cannot be used")
        return
    with reading(ground.engine) as session:
        lease = session.scalar(select(Lease).where(Lease.name == WORKER))
    if lease is None or lease.expires_at <= ground.at:
        yield warning(WORKER, "none is at work: no alerts are sent", "token-tracker all, or token-tracker worker")
    else:
        yield ok(WORKER, f"at work ({lease.holder})")
