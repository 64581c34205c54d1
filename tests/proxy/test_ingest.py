"""The ingest route: what is taken, what is refused, and what row becomes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.proxy.conftest import MakeHouse
from tests.proxy.house import KEY, House, key_record
from token_tracker.config.values import PricingEntry
from token_tracker.domain.usage import TOKEN_CLASSES
from token_tracker.proxy import ingest
from token_tracker.proxy.books.publication import PriceRecord
from token_tracker.proxy.books.records import End

PATH = "/v1/usage/events"
OTHER = "sk-tt-a-key-of-another-team"
MATE = "sk-tt-a-key-of-the-same-team"
PLAIN = "sk-tt-a-key-without-the-permission"
GPT = PriceRecord("file:gpt-4o@1", {"input_cost_per_token": "0.0000025", "output_cost_per_token": "0.00001",
                                    "cache_read_input_token_cost": "0.00000125"})  # fmt: skip
KEYS = {
    KEY: key_record(permissions=("ingest",)),
    OTHER: key_record(id="key-2", user="eve", team="other", permissions=("ingest",)),
    MATE: key_record(id="key-3", user="bob", permissions=("ingest",)),
    PLAIN: key_record(id="key-4"),
}


@pytest.fixture
def house(make_house: MakeHouse) -> House:
    return make_house(keys=KEYS, prices={"file": {"gpt-4o": GPT}})


def event(name: str = "call-1", **more: Any) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return {"id": name, "timestamp": now, "model": "gpt-4o", "provider": "openai", **more}


def send(house: House, events: Any, key: str = KEY) -> list[dict[str, Any]]:
    reply = house.call(events, PATH, key=key)
    assert reply.status == 200, reply.body
    results: list[dict[str, Any]] = reply.json["results"]
    return results


def reason(house: House, sent: Mapping[str, Any]) -> str:
    [result] = send(house, sent)
    assert result["status"] == "rejected"
    assert house.rows() == []
    return str(result["reason"])


def counts(row: End) -> dict[str, int]:
    return {name: count for name, count in zip(TOKEN_CLASSES, row.tokens, strict=True) if count}


def test_an_event_is_a_row_in_the_journal_before_it_is_accepted(house: House) -> None:
    sent = event(input_tokens=100, cache_read_tokens=40, output_tokens=7, latency_ms=12.5, upstream_id="chatcmpl-1")
    assert send(house, sent) == [{"id": "call-1", "status": "accepted"}]
    [row] = house.rows()
    assert counts(row) == {"input_tokens": 100, "cache_read_tokens": 40, "output_tokens": 7}
    assert (row.cost_nano_usd, row.cost_source, row.price_version) == (370_000, "priced", "file:gpt-4o@1")
    assert (row.usage_source, row.end_reason, row.status_code, row.latency_ms) == ("provider", "complete", 200, 12.5)
    opened = row.opened
    assert (opened.lane, opened.endpoint, opened.model, opened.provider) == ("ingest", PATH, "gpt-4o", "openai")
    assert (row.upstream_id, row.upstream_request_id) == ("chatcmpl-1", "call-1")
    assert opened.timestamp_us == round(datetime.fromisoformat(sent["timestamp"]).timestamp() * 1e6)
    assert opened.id == opened.call_id and len(opened.id) <= 40


def test_inclusive_counts_are_taken_apart_once(house: House) -> None:
    sent = event(
        prompt_tokens=1000,
        completion_tokens=10,
        total_tokens=1010,
        prompt_tokens_details={"cached_tokens": 800},
        completion_tokens_details={"reasoning_tokens": 4},
    )
    send(house, sent)
    [row] = house.rows()
    assert counts(row) == {"input_tokens": 200, "cache_read_tokens": 800, "output_tokens": 6, "reasoning_tokens": 4}
    assert row.cost_nano_usd == 1_600_000


def test_a_repeated_event_is_a_duplicate_and_no_second_row(house: House) -> None:
    twice = [event(output_tokens=1), event(output_tokens=999), event("call-2", output_tokens=1)]
    reply = house.call(twice, PATH)
    assert [each["status"] for each in reply.json["results"]] == ["accepted", "duplicate", "accepted"]
    assert (reply.json["accepted"], reply.json["duplicate"], reply.json["rejected"]) == (2, 1, 0)
    assert len(house.rows()) == 2
    assert send(house, event(output_tokens=1), MATE)[0]["status"] == "duplicate"  # whichever key of the team


def test_another_team_neither_collides_with_an_id_nor_learns_of_it(house: House) -> None:
    send(house, event(output_tokens=1))
    assert send(house, event(output_tokens=2), OTHER)[0]["status"] == "accepted"
    first, second = house.rows()
    assert first.opened.id != second.opened.id
    assert {first.opened.subject.team, second.opened.subject.team} == {"core", "other"}


def test_only_so_many_ids_are_remembered(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "REMEMBERED_IDS", 2)
    send(house, [event(name, output_tokens=1) for name in ("a", "b", "c")])
    states = [each["status"] for each in send(house, [event(name, output_tokens=1) for name in ("b", "c", "a")])]
    assert states == ["duplicate", "duplicate", "accepted"]  # the ledger drops the third


def test_the_row_has_the_id_that_the_ledger_knows_it_by_after_a_restart(house: House, make_house: MakeHouse) -> None:
    send(house, event(output_tokens=1))
    house.stop()
    again = make_house(keys=KEYS)
    send(again, event(output_tokens=1))
    assert len({row.opened.id for row in again.rows()}) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "nothing to book"),
        ({"output_tokens": -1}, ">= 0"),
        ({"output_tokens": 10**9 + 1}, "<= 1000000000"),
        ({"output_tokens": True}, "Expected `int`"),
        ({"output_tokens": 1.5}, "Expected `int`"),
        ({"output_tokens": "7"}, "Expected `int`"),
        ({"output_tokens": 1, "prompt_tokens": 1}, "not both"),
        ({"prompt_tokens_details": {"cached_tokens": 1}}, "without prompt_tokens"),
        ({"output_tokens": 1, "messages": []}, "'messages' is content"),
        ({"output_tokens": 1, "prompt": "secret"}, "'prompt' is content"),
        ({"output_tokens": 1, "colour": "red"}, "unknown field `colour`"),
        ({"output_tokens": 1, "usage_source": "none"}, "with token counts"),
        ({"output_tokens": 1, "id": ""}, "$.id"),
        ({"output_tokens": 1, "id": "x" * 256}, "$.id"),
        ({"output_tokens": 1, "id": 7}, "$.id"),
        ({"output_tokens": 1, "model": ""}, "$.model"),
        ({"output_tokens": 1, "provider": "p" * 65}, "$.provider"),
        ({"output_tokens": 1, "timestamp": "2026-01-01T00:00:00"}, "timestamp"),
        ({"output_tokens": 1, "timestamp": "2001-01-01T00:00:00Z"}, "90 days in the past"),
        ({"output_tokens": 1, "timestamp": "0001-01-01T00:00:00+14:00"}, "90 days in the past"),
        ({"output_tokens": 1, "timestamp": "9999-12-31T23:59:59-14:00"}, "in the future"),
        ({"output_tokens": 1, "tags": [str(n) for n in range(33)]}, "$.tags"),
        ({"output_tokens": 1, "metadata": {"x": "y" * 5000}}, "4096"),
        ({"output_tokens": 1, "metadata": {"x": {"deep": []}}}, "$.metadata"),
        ({"output_tokens": 1, "metadata": {"x": "\0"}}, "NUL"),
        ({"output_tokens": 1, "latency_ms": -1}, "$.latency_ms"),
        ({"output_tokens": 1, "latency_ms": 1e300}, "$.latency_ms"),
        ({"output_tokens": 1, "status_code": 7}, "$.status_code"),
        ({"output_tokens": 1, "end_reason": "crash"}, "end_reason"),
        ({"cost_usd": -1}, "cost_usd"),
        ({"cost_usd": "1e999999"}, "cost_usd"),
        ({"cost_usd": "NaN"}, "cost_usd"),
        ({"cost_usd": 1e7}, "cost_usd"),
        ({"cost_usd": {"amount": 1}}, "cost_usd"),
    ],
)
def test_what_is_wrong_with_an_event_is_said_and_nothing_is_booked(
    house: House, changes: dict[str, Any], said: str
) -> None:
    assert said in reason(house, event() | changes)


def test_one_bad_event_does_not_keep_the_others_out(house: House) -> None:
    results = send(house, [event("a", output_tokens=1), event("b"), 7, event("c", output_tokens=1)])
    assert [(each["id"], each["status"]) for each in results] == [
        ("a", "accepted"),
        ("b", "rejected"),
        (None, "rejected"),
        ("c", "accepted"),
    ]
    assert len(house.rows()) == 2


@pytest.mark.parametrize("cost", ['"0.123456789"', "0.123456789", "1.23456789e-1", "0.12345678949999999999"])
def test_money_is_read_by_its_text(house: House, cost: str) -> None:
    text = json.dumps(event(model="nobody-prices-this", output_tokens=5, cost_usd=0)).replace(
        '"cost_usd": 0', f'"cost_usd": {cost}'
    )
    assert send(house, text.encode())[0]["status"] == "accepted"
    [row] = house.rows()
    assert (row.cost_nano_usd, row.cost_source, row.price_version) == (123_456_789, "provider", "")


def test_our_price_goes_before_the_senders_cost(house: House) -> None:
    send(house, event(output_tokens=1, cost_usd="99", cost_source="litellm"))
    assert (house.rows()[0].cost_nano_usd, house.rows()[0].cost_source) == (10_000, "priced")


def test_the_senders_cost_stands_where_our_price_does_not_know_the_unit(house: House) -> None:
    """A speech: no tokens were counted, so a price by the token proves nothing."""
    send(house, event(cost_usd="0.015", cost_source="litellm"))
    [row] = house.rows()
    assert (row.cost_nano_usd, row.cost_source, row.usage_source) == (15_000_000, "litellm", "none")


def test_an_unknown_price_without_a_cost_is_unpriced_never_free(house: House) -> None:
    send(house, event(model="nobody-prices-this", output_tokens=5))
    assert (house.rows()[0].cost_nano_usd, house.rows()[0].cost_source) == (None, "unpriced")


def test_the_users_own_pricing_counts_for_events_and_a_self_hosted_provider_is_free(make_house: MakeHouse) -> None:
    line = PricingEntry("acme", "*", {"output_cost_per_token": Decimal("0.5")})
    house = make_house(keys=KEYS, prices={"file": {"gpt-4o": GPT}}, pricing=(line,))
    send(house, [event("a", provider="acme", output_tokens=1), event("b", provider="ollama", output_tokens=1)])
    assert [(row.cost_nano_usd, row.cost_source) for row in house.rows()] == [(500_000_000, "priced"), (0, "local")]


def test_a_failed_call_is_a_row_that_costs_nothing(house: House) -> None:
    send(house, event(status_code=503))
    [row] = house.rows()
    assert (row.end_reason, row.status_code, row.usage_source, row.cost_nano_usd) == ("upstream_error", 503, "none", 0)


@pytest.mark.parametrize("reason", ["timeout", "upstream_disconnect", "client_disconnect"])
def test_a_call_that_broke_uncounted_is_unpriced_for_it_may_have_been_billed(house: House, reason: str) -> None:
    send(house, event(status_code=502, end_reason=reason))
    [row] = house.rows()
    assert (row.end_reason, row.usage_source, row.cost_nano_usd, row.cost_source) == (reason, "none", None, "unpriced")


def test_a_sender_may_say_that_nobody_counted(house: House) -> None:
    send(house, event(usage_source="none"))
    [row] = house.rows()
    assert (row.usage_source, row.cost_nano_usd, row.cost_source) == ("none", None, "unpriced")


def test_an_event_is_booked_on_the_key_and_on_mates_that_it_names(house: House) -> None:
    given = {"agent": "bot", "session": "s1", "tags": ["a", "b", "a"], "metadata": {"ticket": "7"}, "output_tokens": 1}
    stranger = event("b", user="eve", output_tokens=1)
    send(house, [event("a", user="bob", **given), stranger, event("c", user="x", end_user="y", output_tokens=1)])
    mate, other, both = (row.opened.subject for row in house.rows())
    assert (mate.user, mate.team, mate.key_id, mate.end_user) == ("bob", "core", "key-1", "")
    assert (mate.agent, mate.session, mate.tags, json.loads(mate.metadata)) == (
        "bot",
        "s1",
        ("a", "b"),
        {"ticket": "7"},
    )
    assert (other.user, other.team, other.end_user) == ("ada", "core", "eve")
    assert (both.user, both.end_user) == ("ada", "y")


def test_a_pinned_agent_cannot_be_changed_by_an_event(make_house: MakeHouse) -> None:
    house = make_house(keys={KEY: key_record(permissions=("ingest",), agent="pinned")})
    send(house, event(output_tokens=1, agent="other"))
    assert house.rows()[0].opened.subject.agent == "pinned"


def test_a_key_needs_the_permission(house: House) -> None:
    refused = house.call(event(output_tokens=1), PATH, key=PLAIN)
    assert (refused.status, refused.json["error"]["code"]) == (403, "permission_required")
    assert house.call(event(output_tokens=1), PATH, key="sk-tt-nobody").status == 401
    assert house.rows() == []


def test_requests_have_bounds(house: House) -> None:
    too_many = house.call([event(str(n), output_tokens=1) for n in range(1001)], PATH)
    assert (too_many.status, too_many.json["error"]["code"]) == (400, "invalid_request_error")
    assert house.call(b"no json", PATH).status == 400
    assert house.call(b"[" * 100_000, PATH).status == 400
    assert house.call(b" " * (2 << 20), PATH).status == 413
    assert house.call(None, PATH, "GET").status == 405
    assert house.call(b"[]", PATH).json["results"] == []
    assert house.rows() == []


def test_an_event_that_the_journal_cannot_keep_is_not_accepted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    assert house.app is not None
    kept = house.app.ingest.journal.book
    house.app.ingest.journal = Full(kept, 1)
    refused = house.call([event("a", output_tokens=1), event("b", output_tokens=1)], PATH)
    assert (refused.status, refused.json["error"]["code"]) == (503, "journal_unavailable")
    assert "retry-after" in refused.headers
    house.app.ingest.journal = Full(kept, 9)
    states = [each["status"] for each in send(house, [event("a", output_tokens=1), event("b", output_tokens=1)])]
    assert states == ["duplicate", "accepted"]


class Full:
    """A disk with room for so many records."""

    def __init__(self, keep: Any, room: int) -> None:
        self._keep, self._room = keep, room

    def book(self, record: End) -> None:
        if not self._room:
            raise ingest.JournalUnavailable("no room")
        self._room -= 1
        self._keep(record)


def test_an_event_older_than_the_kept_rows_is_rejected(make_house: MakeHouse) -> None:
    """Its row would be gone at once, and a repetition could not be told any more."""
    house = make_house(keys=KEYS, settings={"retention_days": 10})
    old = (datetime.now(UTC) - timedelta(days=11)).isoformat()
    assert "10 days in the past" in reason(house, event(timestamp=old, output_tokens=1))
