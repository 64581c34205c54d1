"""Providers' keys by the name of their credential, and the model table with them filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from token_tracker.config.encryption import CannotDecrypt, Keyring
from token_tracker.config.values import Deployment, ModelTable, Secret


@dataclass(frozen=True, slots=True)
class Credentials:
    """`keys` by name, and `problems`: those that are there and cannot be used, with the reason."""

    keys: Mapping[str, Secret] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)

    def problem(self, name: str) -> str:
        """Why there is no key of this name."""
        if (why := self.problems.get(name)) is not None:
            return f"its credential '{name}' cannot be used: {why}"
        return f"its credential '{name}' does not exist: make it by POST /api/provider-credentials"


def opened(sealed: Mapping[str, str], keyring: Keyring) -> Credentials:
    """What the snapshot brings, decrypted."""
    keys, problems = {}, {}
    for name, text in sealed.items():
        try:
            keys[name] = Secret(keyring.decrypt(text))
        except CannotDecrypt as error:
            problems[name] = str(error)
    return Credentials(keys, problems)


def with_credentials(models: ModelTable, credentials: Credentials) -> tuple[ModelTable, tuple[tuple[str, str], ...]]:
    """The table as it can be used now, and the deployments left out of it, by name, with the reason. A name of which
    nothing is left stays, empty."""
    groups = (*models.exact.values(), *models.wildcards.values())
    if not any(deployment.credential for group in groups for deployment in group):
        return models, ()
    missing: list[tuple[str, str]] = []

    def filled(group: tuple[Deployment, ...]) -> tuple[Deployment, ...]:
        usable = []
        for deployment in group:
            key = credentials.keys.get(deployment.credential)
            if not deployment.credential:
                usable.append(deployment)
            elif key is not None:
                usable.append(replace(deployment, api_key=key))
            else:
                missing.append((deployment.name, credentials.problem(deployment.credential)))
        return tuple(usable)

    exact = {name: filled(group) for name, group in models.exact.items()}
    wildcards = {prefix: filled(group) for prefix, group in models.wildcards.items()}
    return replace(models, exact=exact, wildcards=wildcards), tuple(missing)
