"""Holds of calls with several attempts, of calls that are passed on unread, and of calls that a dead worker left."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.proxy.conftest import MakeHouse
from tests.proxy.house import KEY, House, key_record, wait_until
from tests.proxy.permits.rules import budget, counted, rate, sent, under
from tests.proxy.test_attempts import TWO, by_model, fails, install
from tests.proxy.upstream import Out, Seen, Upstream, complete
from token_tracker.config import paths
from token_tracker.config.values import GatewayOptions
from token_tracker.domain.usage import TOKEN_CLASSES
from token_tracker.proxy.books.journal import Journal
from token_tracker.proxy.books.publication import RulesRecord
from token_tracker.proxy.books.records import End, Open, Subject
from token_tracker.proxy.gate.store import END, Books

PATIENT = GatewayOptions(retry_ambiguous=True)


async def breaks(seen: Seen, out: Out) -> None:
    out.reset()


def test_an_attempt_that_nobody_billed_gives_its_hold_to_the_next(make_house: MakeHouse, upstream: Upstream) -> None:
    house = install(make_house, TWO, rules=RulesRecord((budget(1.0),)))
    by_model(upstream, a=fails("503 Busy"), b=complete)
    assert house.chat(max_tokens=100).status == 200
    rows = wait_until(lambda: len(house.rows()) == 2 and house.rows(), "two rows")
    assert [row.unproven_nano_usd for row in rows] == [0, 0]
    assert rows[0].opened.held_nano_usd == rows[1].opened.held_nano_usd > 0
    assert counted(house) == (24_000, 0, 0)


def test_an_attempt_that_may_have_been_billed_is_held_beside_the_next(
    make_house: MakeHouse, upstream: Upstream
) -> None:
    house = install(make_house, TWO, rules=RulesRecord((budget(1.0),)), options=PATIENT)
    by_model(upstream, a=breaks, b=complete)
    assert house.chat(max_tokens=100).status == 200
    rows = wait_until(lambda: len(house.rows()) == 2 and house.rows(), "two rows")
    first, last = rows
    assert first.cost_nano_usd is not None and first.unproven_nano_usd > 0
    assert first.cost_nano_usd + first.unproven_nano_usd == first.opened.held_nano_usd
    assert last.unproven_nano_usd == 0
    assert counted(house) == (first.cost_nano_usd + 24_000, 0, first.unproven_nano_usd)


def test_without_room_for_a_second_hold_there_is_no_second_attempt(make_house: MakeHouse, upstream: Upstream) -> None:
    house = install(make_house, TWO, rules=RulesRecord((budget(0.0005),)), options=PATIENT)
    by_model(upstream, a=breaks, b=complete)
    assert house.chat(max_tokens=100).status == 502
    row = house.row()
    assert len(upstream.seen) == 1
    assert row.opened.id == row.opened.call_id
    assert counted(house) == (row.cost_nano_usd, 0, row.unproven_nano_usd)


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/pass/gpt/custom/path", "POST", 402),
        ("/pass/gpt/chat/completions", "POST", 402),
        ("/pass/gpt/custom/path", "GET", 200),
    ],
)
def test_what_is_passed_on_unread_has_no_bound_unless_nobody_bills_it(
    make_house: MakeHouse, upstream: Upstream, path: str, method: str, status: int
) -> None:
    house = under(make_house, budget(1.0), keys={KEY: key_record(permissions=("passthrough",))})
    body = {"model": "upstream-name", "messages": []} if method == "POST" else None
    reply = house.call(body, path, method)
    assert reply.status == status, reply.body
    if status == 402:
        assert reply.headers["x-tt-code"] == "cost_unbounded" and upstream.seen == []
    else:
        assert counted(house) == (0, 0, 0)


def test_limits_of_requests_count_what_is_passed_on(make_house: MakeHouse) -> None:
    house = under(make_house, rates=[rate(1)], keys={KEY: key_record(permissions=("passthrough",))})
    assert house.call(None, "/pass/gpt/custom/path", "GET").status == 200
    assert house.call(None, "/pass/gpt/custom/path", "GET").headers["x-tt-code"] == "rate_limit_exceeded"


def left_by(directory: Path, node: str, ended: bool, held: int = 400_000_000) -> str:
    """A worker that died: one call each, in flight or ended. Its incarnation."""
    journal = Journal(directory, node, 100)
    subject = Subject("key-1", "ada", "core", "", "", "", (), "")
    now_us = time.time_ns() // 1000
    opened = Open(
        id="a" * 32, call_id="a" * 32, attempt=1, timestamp_us=now_us, endpoint="/v1/chat/completions", lane="direct",
        stream=False, requested_model="gpt", model="upstream-name", provider="openai", subject=subject,
        model_group="gpt", held_nano_usd=held, held_tokens=0,
    )  # fmt: skip
    journal.open(opened)
    if ended:
        journal.end(
            End(
                opened=opened, end_reason="complete", status_code=200, tokens=(0,) * len(TOKEN_CLASSES),
                usage_source="provider", cost_nano_usd=held // 2, cost_source="priced", price_version="", latency_ms=1,
                ttft_ms=None, upstream_id="", upstream_request_id="",
            )
        )  # fmt: skip
    journal.close()
    return journal.incarnation


@pytest.mark.parametrize(("ended", "state"), [(False, (0, 400_000_000, 0)), (True, (200_000_000, 0, 0))])
def test_a_restart_gives_nothing_back_that_the_books_do_not_hold_yet(
    tmp_path: Path, upstream: Upstream, ended: bool, state: tuple[int, int, int]
) -> None:
    house = House(tmp_path, upstream, rules=RulesRecord((budget(1.0),)))
    house.settings.data_dir.mkdir()
    left_by(paths.journal_dir(house.settings), paths.node_id(house.settings), ended)
    try:
        house.start()
        assert counted(house) == state
        assert house.chat(max_tokens=400_000).headers["x-tt-code"] == ("budget_exceeded" if ended else "budget_held")
    finally:
        house.stop()


def test_what_the_books_hold_of_a_dead_worker_is_not_counted_twice(tmp_path: Path, upstream: Upstream) -> None:
    house = House(tmp_path, upstream, rules=RulesRecord((budget(1.0),)))
    house.settings.data_dir.mkdir()
    incarnation = left_by(paths.journal_dir(house.settings), paths.node_id(house.settings), True)
    house.books = Books(positions={incarnation: END})
    try:
        house.start()
        assert counted(house) == (0, 0, 0)
    finally:
        house.stop()


def test_another_rule_of_the_same_kind_stays_its_own(make_house: MakeHouse, upstream: Upstream) -> None:
    other = replace(budget(0.0001), id="budget_2", scope_type="user", scope_id="bob")
    house = under(make_house, budget(1.0), other)
    assert house.chat(max_tokens=100).status == 200
    assert sent(upstream)["max_tokens"] == 100
