"""The models that proxy.yaml and providers' keys in the environment offer, as rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, fields
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from token_tracker.config.values import Configuration, Deployment, Hidden, Secret
from token_tracker.database.models import OfferedModel
from token_tracker.services import audit
from token_tracker.services.fingerprints import Fingerprints
from token_tracker.services.provider_credentials import unknown_names

CONFIG = "config"
_DEFAULTS = {field.name: field.default for field in fields(Deployment)} | {"api_base": None, "api_key": None}
_NOT_SAID = ("name", "source")
Document = dict[str, Any]


def follow_models(session: Session, configuration: Configuration, at: datetime) -> list[str]:
    """Make the rows follow the configuration; warns of credentials that do not exist. In the audit log: what stands in
    the file, and which providers the environment offers, not each of their models."""
    wanted = _offered(configuration, Fingerprints(session))
    rows = {row.name: row for row in session.scalars(select(OfferedModel))}
    for name, row in rows.items():
        if name not in wanted:
            _record(session, row.source, name, at, row.document, None)
            session.delete(row)
    for name, (source, document) in wanted.items():
        row = rows.get(name) or OfferedModel(name=name)
        before = row.document if name in rows else None
        if before == document and row.source == source:
            continue
        _record(session, source, name, at, before, document)
        row.source, row.document, row.updated_at = source, document, at
        session.add(row)
    session.flush()
    return list(_missing_credentials(session, wanted))


def _offered(configuration: Configuration, fingerprints: Fingerprints) -> dict[str, tuple[str, Document]]:
    models = configuration.models
    groups: list[tuple[str, Iterable[Deployment]]] = list(models.exact.items())
    groups += [(f"{prefix}*", group) for prefix, group in models.wildcards.items()]
    groups += [(name, (offer,)) for name, offer in models.env_offers.items() if name not in models.exact]
    found: dict[str, tuple[str, Document]] = {}
    for name, group in groups:
        deployments = [public(deployment, fingerprints) for deployment in group]
        found[name] = next(each.source for each in group), {"alias_of": None, "deployments": deployments, "off": []}
    for alias, name in models.aliases.items():
        found[alias] = CONFIG, {"alias_of": name, "deployments": [], "off": []}
    for name, reason in configuration.off:
        _, document = found.setdefault(name, (CONFIG, {"alias_of": None, "deployments": [], "off": []}))
        document["off"].append(reason)
    return found


def public(deployment: Deployment, fingerprints: Fingerprints) -> Document:
    """What may be told of a deployment, as JSON has it: what differs from the defaults; of secrets, that there are,
    with a mark that tells one from another."""
    values = ((field.name, getattr(deployment, field.name)) for field in fields(Deployment))
    return {
        name: _plain(value, fingerprints)
        for name, value in values
        if name not in _NOT_SAID and (_DEFAULTS[name] is MISSING or value != _DEFAULTS[name]) and value != {}
    }


def _plain(value: object, fingerprints: Fingerprints) -> object:
    if isinstance(value, Secret):
        return f"set {fingerprints.of(value.value)}"
    if isinstance(value, Hidden):
        return {name: f"set {fingerprints.of(repr(item))}" for name, item in sorted(value.items())}
    if isinstance(value, Mapping):
        return {str(key): _plain(item, fingerprints) for key, item in sorted(value.items())}
    return format(value, "f") if isinstance(value, Decimal) else value


def _record(
    session: Session, source: str, name: str, at: datetime, before: Document | None, after: Document | None
) -> None:
    if source == CONFIG or name.endswith("*"):
        verb = "create" if before is None else "delete" if after is None else "update"
        audit.record(session, audit.CONFIGURATION, f"model.{verb}", name[:255], at=at, before=before, after=after)


def _missing_credentials(session: Session, offered: Mapping[str, tuple[str, Document]]) -> Iterator[str]:
    users: dict[str, set[str]] = {}
    for name, (_, document) in offered.items():
        for deployment in document["deployments"]:
            if credential := deployment.get("credential"):
                users.setdefault(credential, set()).add(name)
    for credential in sorted(unknown_names(session, users)):
        yield (
            f"the provider credential '{credential}' of {', '.join(sorted(users[credential]))} does not exist; until "
            "it is made by POST /api/provider-credentials, these deployments are not used."
        )
