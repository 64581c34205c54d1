"""Something of each kind that a route's address can name, made for whoever it is to belong to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from tests.api.conftest import NOON, PEOPLE
from token_tracker.config.encryption import Keyring, make_key
from token_tracker.database.models import AlertDelivery, User
from token_tracker.services import (
    alert_mutes,
    alert_rules,
    budgets,
    freezes,
    keys,
    open_holds,
    outbox,
    price_list,
    provider_credentials,
    rate_limits,
    reports,
    service_tokens,
)
from token_tracker.services.audit import Actor
from token_tracker.services.open_holds import NodeHolds

KEYRING = Keyring((make_key(),))
_ROOT = Actor("root")


def key(session: Session, owner: str) -> str:
    return keys.create(session, user=owner, created_by="root", at=NOON, name="k")[0].id


def budget(session: Session, owner: str) -> str:
    fields: Any = {"name": "b", "limit_usd": "5", "scope_type": "user", "scope_id": owner, "period": "daily"}
    return budgets.save(session, actor=_ROOT, at=NOON, **fields)[0].id


def rate_limit(session: Session, owner: str) -> str:
    fields: Any = {"scope_type": "user", "scope_id": owner, "period": "hour", "limit": 9}
    return rate_limits.save(session, actor=_ROOT, at=NOON, **fields)[0].id


def freeze(session: Session, owner: str) -> str:
    return freezes.freeze(session, scope_type="user", scope_id=owner, reason="r", actor=_ROOT, at=NOON)[0].id


def token(session: Session, owner: str) -> str:
    return service_token(session, owner, ["usage:read"])[0]


def service_token(session: Session, owner: str, permissions: list[str]) -> tuple[str, str]:
    """Its id, and the text to send."""
    user = session.get_one(User, owner)
    at = datetime.now(UTC)
    made, text = service_tokens.create(session, user=user, name="t", permissions=permissions, at=at)
    return made.id, text


def credential(session: Session, owner: str) -> str:
    name = f"prod-{datetime.now(UTC).timestamp()}"
    fields: Any = {"name": name, "provider": "openai", "api_key": "sk-upstream", "created_by": owner}
    return provider_credentials.create(session, keyring=KEYRING, at=NOON, **fields).id


def price(session: Session, owner: str) -> str:
    rates = {"input_cost_per_token": "0.1"}
    at = datetime.now(UTC)
    return str(price_list.override(session, name=f"m-{at.timestamp()}", rates=rates, valid_from=None, at=at).id)


def delivery(session: Session, owner: str) -> str:
    identity = outbox.enqueue_test(session, channel="email", recipient="a@example.com", by=owner, at=NOON)
    session.get_one(AlertDelivery, identity).state = "dead"
    return identity


def report(session: Session, owner: str) -> str:
    name = f"r-{datetime.now(UTC).timestamp()}"
    fields = {"name": name, "period": "daily", "recipients": ["a@example.com"]}
    return reports.create(session, fields=fields, actor=Actor(owner), at=NOON).id


def alert_rule(session: Session, owner: str) -> str:
    fields = {"name": f"a-{datetime.now(UTC).timestamp()}", "kind": "budget.exceeded"}
    return alert_rules.create(session, fields=fields, actor=Actor(owner), at=NOON).id


def mute(session: Session, owner: str) -> str:
    until = datetime.now(UTC) + timedelta(hours=1)
    return alert_mutes.mute(session, until=until, reason="r", actor=Actor(owner), at=datetime.now(UTC)).id


def node(session: Session, owner: str) -> str:
    name = f"{int(datetime.now(UTC).timestamp() * 1000) & 0xFFFFFFFF:08x}"
    open_holds.publish(session, node=name, content=NodeHolds(), at=NOON)
    return name


def team(_: Session, owner: str) -> str:
    return PEOPLE[owner][1] or ""


def user(_: Session, owner: str) -> str:
    return owner


# By the field of the address. Those of `OWNED` belong to somebody; the others are the installation's.
OWNED: dict[str, Callable[[Session, str], str]] = {
    "key_id": key,
    "user_id": user,
    "team_id": team,
    "budget_id": budget,
    "limit_id": rate_limit,
    "freeze_id": freeze,
    "token_id": token,
}
SHARED: dict[str, Callable[[Session, str], str]] = {
    "credential_id": credential,
    "price_id": price,
    "delivery_id": delivery,
    "report_id": report,
    "rule_id": alert_rule,
    "mute_id": mute,
    "node_id": node,
}
