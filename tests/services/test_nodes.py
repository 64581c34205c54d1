"""Giving up a node that never comes back: nothing of it counts any more, on an admin's word, and never by mistake."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine, select

from tests.services.budget_rows import NOON, a_budget, add
from token_tracker.database.models import AuditEntry, OpenHolds
from token_tracker.database.session import reading, transaction
from token_tracker.domain.problems import Conflict, Invalid, NotFound
from token_tracker.domain.windows import NEVER_S
from token_tracker.proxy.books.holds import HoldsReader
from token_tracker.proxy.gate.store import Left
from token_tracker.services import nodes, open_holds
from token_tracker.services.audit import Actor
from token_tracker.services.budget_status import status
from token_tracker.services.open_holds import Held, NodeHolds
from token_tracker.services.outage import Outage

LATER = NOON + timedelta(minutes=1)
START_S = int(NOON.replace(year=2020).timestamp())
HELD = NodeHolds(calls=2, held=(Held("budget_all|usd|", START_S, 700, 2, "11111111", NEVER_S),))
ROOT = Actor("root")


def tell(engine: Engine, content: NodeHolds = HELD) -> None:
    with transaction(engine) as session:
        open_holds.publish(session, node="0badcafe", content=content, at=NOON)


def unproven(engine: Engine) -> int:
    with reading(engine) as session:
        measure = status(session, budget_id="budget_all", at=LATER).usd
        assert measure is not None
        return measure.unproven


def release(engine: Engine, node: str = "0badcafe", reason: str = "burnt", seconds: int = 60) -> nodes.Node:
    with transaction(engine) as session:
        at = NOON + timedelta(seconds=seconds)
        return nodes.release(session, node_id=node, reason=reason, actor=ROOT, at=at)


def test_of_a_budget_without_an_end_only_this_gives_back_what_a_lost_node_held(engine: Engine) -> None:
    add(engine, a_budget("all", period="total"))
    tell(engine)
    assert unproven(engine) == 700
    with transaction(engine) as session:
        open_holds.forget_silent(session, at=NOON + timedelta(days=400))
    assert unproven(engine) == 700, "time never gives money back"
    reader = HoldsReader(engine, Outage("told"), clock=lambda: LATER)
    assert reader(False) == {"11111111": [Left("budget_all|usd|", START_S, NEVER_S, 700)]}
    for _ in range(2):
        done = release(engine)
        assert done.is_released and done.content.held == ()
    assert unproven(engine) == 0
    with transaction(engine) as session:
        open_holds.forget_silent(session, at=NOON + timedelta(days=400))
    assert reader(False) == reader(True) == {"11111111": None}, "the gateways' store is told, however late it can be"
    with reading(engine) as session:
        [entry] = session.scalars(select(AuditEntry))
        assert (entry.action, entry.object_id, entry.actor) == ("node.release", "0badcafe", "root")
        assert entry.before == {"calls": [], "count": 2, "held": {f"budget_all|usd|@{START_S}": 700}}
        assert entry.after == {"reason": "burnt"}


def test_a_node_that_comes_back_counts_as_ever(engine: Engine) -> None:
    add(engine, a_budget("all", period="total"))
    tell(engine)
    release(engine)
    tell(engine)
    assert unproven(engine) == 700
    with reading(engine) as session:
        [node] = nodes.every_node(session, at=NOON)
        assert (node.id, node.is_silent, node.is_released) == ("0badcafe", False, False)


def test_a_node_that_spoke_just_now_is_not_given_up_and_a_reason_is_needed(engine: Engine) -> None:
    tell(engine)
    with pytest.raises(Conflict, match="has spoken"):
        release(engine, seconds=14)
    with pytest.raises(Invalid):
        release(engine, reason="")
    for stranger in ("another", "\0"):
        with pytest.raises(NotFound):
            release(engine, stranger)
    with reading(engine) as session:
        assert session.scalars(select(OpenHolds.content)).all() == [open_holds.encode(HELD)]
        assert not session.scalars(select(AuditEntry)).all()
