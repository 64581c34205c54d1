"""Who may do what, as data: a role grants a permission as far as it reaches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Role(StrEnum):
    ADMIN = "admin"
    MANAGER = "manager"
    MEMBER = "member"
    VIEWER = "viewer"


class Permission(StrEnum):
    USAGE_READ = "usage:read"
    KEYS_READ = "keys:read"
    KEYS_MANAGE = "keys:manage"
    USERS_READ = "users:read"
    USERS_MANAGE = "users:manage"
    TEAMS_READ = "teams:read"
    TEAMS_MANAGE = "teams:manage"
    PRICES_READ = "prices:read"
    PRICES_MANAGE = "prices:manage"
    RULES_READ = "rules:read"
    RULES_MANAGE = "rules:manage"
    AUDIT_READ = "audit:read"
    TOKENS_READ = "tokens:read"
    TOKENS_MANAGE = "tokens:manage"
    CREDENTIALS_READ = "credentials:read"
    CREDENTIALS_MANAGE = "credentials:manage"
    MODELS_READ = "models:read"
    ALERTS_READ = "alerts:read"
    ALERTS_MANAGE = "alerts:manage"
    PASSWORD_CHANGE = "password:change"  # noqa: S105 (a name)


class KeyPermission(StrEnum):
    """What a virtual key may do beyond calling models; a key has none unless it was given."""

    INGEST = "ingest"  # POST /v1/usage/events
    PASSTHROUGH = "passthrough"  # paths of an upstream that the gateway does not know
    METRICS = "metrics"  # GET /metrics


KEY_PERMISSIONS = frozenset(KeyPermission)


class Reach(StrEnum):
    """How far a grant goes: what belongs to the account itself, to its team, or to anybody."""

    OWN = "own"
    TEAM = "team"
    ALL = "all"


# An account's own tokens and password are its own, whatever else it may do.
_OF_EVERYBODY = (Permission.TOKENS_READ, Permission.TOKENS_MANAGE, Permission.PASSWORD_CHANGE)
GRANTS: Mapping[Role, Mapping[Permission, Reach]] = MappingProxyType(
    {
        Role.ADMIN: MappingProxyType(dict.fromkeys(Permission, Reach.ALL)),
        Role.MANAGER: MappingProxyType(
            {
                Permission.USAGE_READ: Reach.TEAM,
                Permission.KEYS_READ: Reach.TEAM,
                Permission.KEYS_MANAGE: Reach.TEAM,
                Permission.USERS_READ: Reach.TEAM,
                Permission.TEAMS_READ: Reach.TEAM,
                Permission.PRICES_READ: Reach.ALL,
                Permission.MODELS_READ: Reach.ALL,
                Permission.RULES_READ: Reach.TEAM,
                **dict.fromkeys(_OF_EVERYBODY, Reach.OWN),
            }
        ),
        Role.MEMBER: MappingProxyType(
            {
                Permission.USAGE_READ: Reach.OWN,
                Permission.KEYS_READ: Reach.OWN,
                Permission.KEYS_MANAGE: Reach.OWN,
                Permission.USERS_READ: Reach.OWN,
                Permission.PRICES_READ: Reach.ALL,
                Permission.MODELS_READ: Reach.ALL,
                Permission.RULES_READ: Reach.OWN,
                **dict.fromkeys(_OF_EVERYBODY, Reach.OWN),
            }
        ),
        Role.VIEWER: MappingProxyType(
            dict.fromkeys(
                (
                    Permission.ALERTS_READ,
                    Permission.USAGE_READ,
                    Permission.KEYS_READ,
                    Permission.USERS_READ,
                    Permission.TEAMS_READ,
                    Permission.PRICES_READ,
                    Permission.MODELS_READ,
                    Permission.CREDENTIALS_READ,
                    Permission.RULES_READ,
                    Permission.AUDIT_READ,
                ),
                Reach.ALL,
            )
            | dict.fromkeys(_OF_EVERYBODY, Reach.OWN)
        ),
    }
)


# Who may put a permission on a key: usage that a key reports is booked on its word, also on others of its team; what
# is passed on may reach anything at the upstream.
KEY_GRANTS: Mapping[KeyPermission, frozenset[Role]] = MappingProxyType(
    {
        KeyPermission.INGEST: frozenset({Role.ADMIN, Role.MANAGER}),
        KeyPermission.PASSTHROUGH: frozenset({Role.ADMIN}),
        KeyPermission.METRICS: frozenset({Role.ADMIN}),
    }
)


def may_put_on_key(role: Role, permissions: Iterable[str]) -> bool:
    """Whether an account of `role` may give a key all of `permissions`; unknown names are judged elsewhere."""
    return all(role in KEY_GRANTS[KeyPermission(name)] for name in permissions if name in KEY_PERMISSIONS)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a query must be narrowed to: one user, one team, or (both None) nothing."""

    user: str | None = None
    team: str | None = None

    def covers(self, *, user: str | None, team: str | None) -> bool:
        """Whether something that belongs to `user` and `team` lies within."""
        return (self.user is None or self.user == user) and (self.team is None or self.team == team)


EVERYTHING = Scope()


def scope_of(role: Role, permission: Permission, *, user: str, team: str | None) -> Scope | None:
    """How far the account `user` of `team` may use `permission`; None: not at all.

    A manager without a team reaches what is their own, never what belongs to nobody's team.
    """
    reach = GRANTS[role].get(permission)
    if reach is None:
        return None
    if reach is Reach.ALL:
        return EVERYTHING
    if reach is Reach.TEAM and team:
        return Scope(team=team)
    return Scope(user=user)
