"""Gateway nodes over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from tests.api.conftest import Api
from token_tracker.database.session import transaction
from token_tracker.services import open_holds
from token_tracker.services.open_holds import Held, NodeHolds


def test_nodes_are_listed_with_what_they_hold_and_a_silent_one_can_be_given_up(api: Api, engine: Engine) -> None:
    now = datetime.now(UTC)
    held = tuple(Held(counter, bucket, 250, 1, "1" * 8, 2**40) for counter, bucket in
                 (("b|usd|ann", 0), ("b|usd|ann", 60), ("c|tokens|", 0)))  # fmt: skip
    with transaction(engine) as session:
        for node, ago_s in (("aaaaaaaa", 0), ("bbbbbbbb", 60)):
            at = now - timedelta(seconds=ago_s)
            open_holds.publish(session, node=node, content=NodeHolds(calls=3, held=held), at=at)
    alive, silent = api.get("/api/nodes", "root").get_json()["items"]
    assert (alive["id"], alive["state"], silent["id"], silent["state"]) == ("aaaaaaaa", "alive", "bbbbbbbb", "silent")
    assert silent["calls"] == 3 and silent["held"] == [
        {"budget": "b", "member": "ann", "amount_usd": "0.000000500", "amount_tokens": None},
        {"budget": "c", "member": "", "amount_usd": None, "amount_tokens": 250},
    ]
    refused = api.post("/api/nodes/aaaaaaaa/release", "root", reason="r")
    assert refused.status_code == 409 and "has spoken" in refused.get_json()["error"]["message"]
    done = api.post("/api/nodes/bbbbbbbb/release", "root", reason="its disk is gone").get_json()
    assert (done["state"], done["calls"], done["held"]) == ("released", 0, [])
    assert api.post("/api/nodes/bbbbbbbb/release", "root").status_code == 422
    assert api.post("/api/nodes/cccccccc/release", "root", reason="r").status_code == 404
