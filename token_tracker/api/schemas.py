"""What the API takes and answers about accounts, keys and itself. The same schemas validate and make openapi.json."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from token_tracker.database.models import ApiKey, ServiceToken, Team, User
from token_tracker.domain.access import KEY_PERMISSIONS, Permission, Role
from token_tracker.services import accounts, checks, keys, service_tokens
from token_tracker.services.passwords import MAX_LENGTH, MIN_LENGTH
from token_tracker.services.service_tokens import OF_PEOPLE
from token_tracker.services.usage import MAX_LIMIT, format_time

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Identity = Annotated[str, Meta(min_length=1, max_length=64)]
NewIdentity = Annotated[str, Meta(min_length=1, max_length=64, extra_json_schema={"pattern": checks.IDENTITY})]
# What only a service judges, with a message that says more, is described here and not checked a second time.
Password = Annotated[str, Meta(min_length=1, max_length=MAX_LENGTH, extra_json_schema={"minLength": MIN_LENGTH})]
MAX_WHOLE = 2**52
Whole = Annotated[int, Meta(ge=0, le=MAX_WHOLE)]
MOST_USD = 9_000_000_000
Usd = (
    Annotated[str, Meta(max_length=40, description="USD as decimal text")]
    | Annotated[float, Meta(ge=0, le=MOST_USD)]
    | Annotated[int, Meta(ge=0, le=MOST_USD)]
)
Period = Literal["hourly", "daily", "weekly", "monthly", "total", "rolling_24h", "rolling_30d"]
Time = Annotated[datetime, Meta(tz=True, description="RFC 3339 with its zone: 2026-01-01T00:00:00Z")]
Limit = Annotated[int, Meta(ge=1, le=MAX_LIMIT, description=f"1 to {MAX_LIMIT}, default 100")]
Cursor = Annotated[str, Meta(min_length=1, max_length=1000, description="`next_cursor` of the page before")]
Models = Annotated[list[Annotated[str, Meta(min_length=1, max_length=255)]], Meta(min_length=1, max_length=1000)]
KeyPermissionName = Annotated[str, Meta(max_length=64, extra_json_schema={"enum": sorted(KEY_PERMISSIONS)})]
Permissions = Annotated[list[KeyPermissionName], Meta(max_length=100, extra_json_schema={"uniqueItems": True})]
PermissionName = Annotated[str, Meta(max_length=64, extra_json_schema={"enum": sorted(set(Permission) - OF_PEOPLE)})]


class Input(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body or query string."""


class Index(Struct, frozen=True):
    service: str
    documentation: str
    description: str
    login: str


class Health(Struct, frozen=True):
    status: str
    version: str
    database: str


class ErrorDetail(Struct, frozen=True):
    field: str
    message: str


class ErrorBody(Struct, frozen=True):
    code: str
    message: str
    details: list[ErrorDetail] = []


class Error(Struct, frozen=True):
    error: ErrorBody


class Login(Input, frozen=True):
    username: Annotated[str, Meta(max_length=200)]
    password: Annotated[str, Meta(max_length=1024)]


class Refresh(Input, frozen=True):
    refresh_token: Annotated[str, Meta(min_length=1, max_length=200)]


class PasswordChange(Input, frozen=True):
    current_password: Annotated[str, Meta(max_length=1024)]
    new_password: Password


class Tokens(Struct, frozen=True):
    """`expires_in`: seconds that the access token is good for. The refresh token is good once."""

    access_token: str
    refresh_token: str
    token_type: str
    expires_in: int


class PageQuery(Input, frozen=True):
    limit: Limit = 100
    cursor: Cursor | None = None


class KeyQuery(PageQuery, frozen=True):
    user: Identity | None = None
    team: Identity | None = None


class KeyBudget(Struct, frozen=True, forbid_unknown_fields=True):
    """A budget of the key alone; more of it can be set at `/api/budgets`."""

    period: Period
    limit_usd: Usd | None = None
    limit_tokens: Whole | None = None
    timezone: Annotated[str, Meta(max_length=64)] = "UTC"
    enforcement: Literal["hard", "soft", "alert"] = "hard"


class KeyRateLimit(Struct, frozen=True, forbid_unknown_fields=True):
    """A rate limit of the key alone. `period` is for all units but `concurrent`."""

    limit: Whole
    unit: Literal["requests", "tokens", "concurrent"] = "requests"
    period: Literal["second", "minute", "hour", "day"] | None = None


class KeyCreate(Input, frozen=True):
    """`user` defaults to the caller, `team` to the user's own. `budget` and `rate_limits` are made with the key, or
    none of them is."""

    name: Name
    user: Identity | None = None
    team: Identity | None = None
    agent: Annotated[str, Meta(max_length=200)] | None = None
    models: Models = field(default_factory=lambda: ["*"])
    expires_at: Time | None = None
    permissions: Permissions = field(default_factory=list)
    budget: KeyBudget | None = None
    rate_limits: Annotated[list[KeyRateLimit], Meta(max_length=20)] = field(default_factory=list)


class KeyChange(Input, frozen=True):
    """What is left out stays."""

    name: Name | UnsetType = UNSET
    agent: Annotated[str, Meta(max_length=200)] | UnsetType | None = UNSET
    models: Models | UnsetType = UNSET
    expires_at: Time | UnsetType | None = UNSET
    permissions: Permissions | UnsetType = UNSET


class KeyRotate(Input, frozen=True):
    """For `overlap_s` seconds the old key works beside the new one."""

    overlap_s: Annotated[int, Meta(ge=0, le=keys.MAX_OVERLAP_S)]


class Key(Struct, frozen=True, kw_only=True):
    """A virtual key without its text. `predecessor`: the key that it took over from in a rotation."""

    id: str
    prefix: str
    name: str
    user: str
    team: str | None
    agent: str | None
    models: list[str]
    permissions: list[str]
    predecessor: str | None
    created_at: str
    created_by: str
    expires_at: str | None
    revoked_at: str | None


class NewKey(Key, frozen=True, kw_only=True):
    """`key` is the text to send; it is shown this once and kept nowhere."""

    key: str


class KeyPage(Struct, frozen=True):
    items: list[Key]
    next_cursor: str | None


class UserCreate(Input, frozen=True):
    username: NewIdentity
    password: Password
    role: Role = Role.MEMBER
    team: Identity | None = None


class UserShown(Struct, frozen=True):
    """`id` is the user name; it never changes."""

    id: str
    username: str
    role: str
    team: str | None
    created_at: str
    disabled_at: str | None


class UserChange(Input, frozen=True):
    """What is left out stays. `team` null: of no team. `disabled`: keys and logins stop at once."""

    role: Role | UnsetType = UNSET
    team: Identity | UnsetType | None = UNSET
    disabled: bool | UnsetType = UNSET
    password: Password | UnsetType = UNSET


class UserPage(Struct, frozen=True):
    items: list[UserShown]
    next_cursor: str | None


class TeamCreate(Input, frozen=True):
    """`id`, used in rows and filters, is made of the name if it is left out; it never changes."""

    name: Name
    id: NewIdentity | None = None


class TeamChange(Input, frozen=True):
    name: Name


class TeamShown(Struct, frozen=True):
    id: str
    name: str
    created_at: str


class TeamDetail(Struct, frozen=True):
    """`managers` and `members`: names of active accounts; viewers and admins of the team count as members."""

    id: str
    name: str
    created_at: str
    managers: list[str]
    members: list[str]


class TeamPage(Struct, frozen=True):
    items: list[TeamShown]
    next_cursor: str | None


class ServiceTokenCreate(Input, frozen=True):
    """`permissions`: some of the caller's own, like `usage:read`."""

    name: Name
    permissions: Annotated[list[PermissionName], Meta(min_length=1, max_length=100)]
    expires_at: Time | None = None


class ServiceTokenShown(Struct, frozen=True, kw_only=True):
    """A token without its text. It acts as `user`, as far as `permissions` go."""

    id: str
    prefix: str
    name: str
    user: str
    permissions: list[str]
    created_at: str
    expires_at: str | None
    revoked_at: str | None


class NewServiceToken(ServiceTokenShown, frozen=True, kw_only=True):
    """`token` is the text to send as `Authorization: Bearer`; it is shown this once and kept nowhere."""

    token: str


class ServiceTokenPage(Struct, frozen=True):
    items: list[ServiceTokenShown]
    next_cursor: str | None


def service_token_shown(token: ServiceToken) -> ServiceTokenShown:
    return ServiceTokenShown(**service_tokens.public(token))


def new_service_token_shown(token: ServiceToken, text: str) -> NewServiceToken:
    return NewServiceToken(**service_tokens.public(token), token=text)


def team_detail(team: Team, people: list[User]) -> TeamDetail:
    managers = [user.id for user in people if user.role == Role.MANAGER]
    members = [user.id for user in people if user.role != Role.MANAGER]
    return TeamDetail(team.id, team.name, format_time(team.created_at), managers, members)


def given(body: Input) -> dict[str, Any]:
    """The fields of a change that were sent."""
    return {name: getattr(body, name) for name in body.__struct_fields__ if getattr(body, name) is not UNSET}


def key_shown(key: ApiKey) -> Key:
    return Key(**keys.public(key))


def new_key_shown(key: ApiKey, text: str) -> NewKey:
    return NewKey(**keys.public(key), key=text)


def user_shown(user: User) -> UserShown:
    return UserShown(**accounts.public(user))


def team_shown(team: Team) -> TeamShown:
    return TeamShown(**accounts.public_team(team))
