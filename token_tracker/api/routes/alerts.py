"""What people were told, what became of it, and a message to try a channel."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from token_tracker.api.routing import Call, Route
from token_tracker.api.schemas import Cursor, Input, Limit
from token_tracker.config.recipients import CHANNELS, address_problem
from token_tracker.database.models import AlertDelivery
from token_tracker.database.session import reading, transaction
from token_tracker.domain.access import Permission
from token_tracker.domain.problems import Invalid
from token_tracker.services import outbox
from token_tracker.services.usage import format_time

ANSWER_WITHIN_S = 15.0
_LOOK_S = 0.1
_NOBODY = "The worker did not take it up yet: see that it runs, then look at /api/alerts/deliveries."


class DeliveryQuery(Input, frozen=True):
    state: Literal["pending", "sent", "dead", "covered", "held", "digested"] | None = None
    limit: Limit = 100
    cursor: Cursor | None = None


class TestMessage(Input, frozen=True):
    """`recipient`: an address, or the URL of a webhook or of a service."""

    channel: Literal["email", "slack", "webhook", "apprise"]
    recipient: Annotated[str, Meta(min_length=1, max_length=2000)]


class Delivery(Struct, frozen=True):
    """`recipient`: of a webhook the host only, of a service only which it is, as its address may be a secret.
    `answer`: the other side's own words at the last attempt. `facts`: what the message says."""

    id: str
    event: str
    subject: str
    threshold: str
    channel: str
    recipient: str
    state: str
    attempts: int
    answer: str
    created_at: str
    next_attempt_at: str | None
    sent_at: str | None
    facts: dict[str, Any]


class DeliveryPage(Struct, frozen=True):
    items: list[Delivery]
    next_cursor: str | None


def list_deliveries(call: Call, query: DeliveryQuery) -> DeliveryPage:
    with reading(call.engine) as session:
        page = outbox.list_deliveries(session, state=query.state, limit=query.limit, cursor=query.cursor)
        return DeliveryPage([_shown(row) for row in page.items], page.next_cursor)


def send_again(call: Call, delivery_id: str) -> Delivery:
    with transaction(call.engine) as session:
        return _shown(outbox.send_again(session, delivery_id=delivery_id, at=call.at))


def send_test(call: Call, body: TestMessage) -> Delivery:
    """Through the outbox and the worker, as alerts go; waits for the answer for a while."""
    _check(body)
    with transaction(call.engine) as session:
        delivery_id = outbox.enqueue_test(
            session, channel=body.channel, recipient=body.recipient, by=call.caller.user, at=call.at
        )
    give_up_s = time.monotonic() + ANSWER_WITHIN_S
    while True:
        with reading(call.engine) as session:
            found = _shown(outbox.get(session, delivery_id=delivery_id))
        if found.state != "pending":
            return found
        if time.monotonic() > give_up_s:
            return found if found.answer else Delivery(**{**_fields(found), "answer": _NOBODY})
        time.sleep(_LOOK_S)


def _check(body: TestMessage) -> None:
    (field,) = (field for field, channel in CHANNELS.items() if channel == body.channel)
    if problem := address_problem(field, body.recipient):
        raise Invalid([("recipient", problem)])


def _shown(row: AlertDelivery) -> Delivery:
    return Delivery(
        id=row.id,
        event=row.event,
        subject=row.subject,
        threshold=row.threshold,
        channel=row.channel,
        recipient=row.recipient if row.channel == "email" else row.lane.partition(":")[2],
        state=row.state,
        attempts=row.attempts,
        answer=row.answer,
        created_at=format_time(row.created_at),
        next_attempt_at=format_time(row.due_at) if row.state == "pending" else None,
        sent_at=None if row.sent_at is None else format_time(row.sent_at),
        facts=row.facts,
    )


def _fields(found: Delivery) -> dict[str, Any]:
    return {name: getattr(found, name) for name in found.__struct_fields__}


READ, MANAGE = Permission.ALERTS_READ, Permission.ALERTS_MANAGE
_AGAIN = "/api/alerts/deliveries/{delivery_id}/send-again"
ROUTES = (
    Route(
        "GET",
        "/api/alerts/deliveries",
        list_deliveries,
        READ,
        "What people were told and what became of it, newest first",
        DeliveryPage,
        query=DeliveryQuery,
    ),
    Route("POST", _AGAIN, send_again, MANAGE, "Give a dead message all its attempts anew", Delivery, errors=(409,)),
    Route(
        "POST",
        "/api/alerts/test",
        send_test,
        MANAGE,
        "Send a marked message through a channel and tell the other side's answer",
        Delivery,
        body=TestMessage,
    ),
)
