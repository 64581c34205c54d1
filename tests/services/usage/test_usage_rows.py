"""Rows come newest first, each once, under every filter; cursors are checked and export neutralises formulas."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, delete

from token_tracker.database.models import TokenUsage
from token_tracker.database.session import reading, transaction
from token_tracker.domain.access import Scope
from token_tracker.services import usage
from token_tracker.services.usage import Filters
from token_tracker.services.usage_rows import encode_cursor

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MakeRow = Callable[..., dict[str, Any]]
Write = Callable[[list[dict[str, Any]]], None]


def ids(engine: Engine, filters: Filters, limit: int = 100) -> list[str]:
    """All ids, page by page."""
    found: list[str] = []
    cursor = None
    with reading(engine) as session:
        while True:
            page = usage.page(session, filters, limit=limit, cursor=cursor)
            found += [row.id for row in page.items]
            if page.next_cursor is None:
                return found
            assert len(page.items) == limit
            cursor = page.next_cursor


def test_pages_show_every_row_once_newest_first_even_where_many_have_the_same_time(
    engine: Engine, row: MakeRow, write: Write
) -> None:
    rows = [row(f"{n:04d}", timestamp=NOON + timedelta(microseconds=n // 7)) for n in range(50)]
    write(rows)
    expected = [f"{n:04d}" for n in reversed(range(50))]
    for limit in (1, 7, 49, 50, 51):
        assert ids(engine, Filters(), limit) == expected


def test_rows_that_arrive_or_vanish_between_two_pages_move_no_other_row(
    engine: Engine, row: MakeRow, write: Write
) -> None:
    write([row(f"{n}", timestamp=NOON + timedelta(seconds=n)) for n in range(6)])
    with reading(engine) as session:
        first = usage.page(session, Filters(), limit=2)
    write([row("9", timestamp=NOON + timedelta(hours=2))])
    with transaction(engine) as session:
        session.execute(delete(TokenUsage).where(TokenUsage.id == "4"))
    with reading(engine) as session:
        second = usage.page(session, Filters(), limit=2, cursor=first.next_cursor)
    assert [r.id for r in first.items] == ["5", "4"]
    assert [r.id for r in second.items] == ["3", "2"]


OTHER = {
    "model": "claude",
    "provider": "anthropic",
    "user": "ben",
    "team": "red",
    "key_id": "key2",
    "agent": "coder",
    "session": "s2",
    "end_user": "visitor",
    "status_code": 500,
    "end_reason": "upstream_error",
    "usage_source": "none",
    "cost_source": "unpriced",
    "lane": "litellm",
    "tags": ["blue"],
}
FILTER_OF = {"key_id": "key", "status_code": "status", "tags": "tag"}


@pytest.mark.parametrize("column", list(OTHER))
def test_a_filter_lets_through_exactly_the_rows_that_equal_it(
    engine: Engine, row: MakeRow, write: Write, column: str
) -> None:
    write([row("same"), row("other", **{column: OTHER[column]})])
    value = OTHER[column][0] if column == "tags" else OTHER[column]
    assert ids(engine, Filters(**{FILTER_OF.get(column, column): value})) == ["other"]
    assert ids(engine, Filters(**{FILTER_OF.get(column, column): 404 if column == "status_code" else "x"})) == []


@pytest.mark.parametrize("name", ["team", "agent", "session", "end_user", "tag"])
def test_an_empty_filter_finds_the_rows_that_have_none(engine: Engine, row: MakeRow, write: Write, name: str) -> None:
    named = {"tags": ["blue"]} if name == "tag" else {name: "x"}
    write([row("with", **named), row("without")])
    assert ids(engine, Filters(**{name: ""})) == ["without"]


def test_times_are_half_open(engine: Engine, row: MakeRow, write: Write) -> None:
    second = timedelta(seconds=1)
    write([row("a", timestamp=NOON - second / 1000), row("b", timestamp=NOON), row("c", timestamp=NOON + second)])
    assert ids(engine, Filters(start=NOON, end=NOON + second)) == ["b"]


def test_a_scope_narrows_every_question_whatever_it_asks_for(engine: Engine, row: MakeRow, write: Write) -> None:
    write([row("ann", user="ann", team="red"), row("ben", user="ben", team="red"), row("eve", user="eve")])
    assert ids(engine, Filters(scope=Scope(user="ann"))) == ["ann"]
    assert ids(engine, Filters(scope=Scope(team="red"))) == ["ben", "ann"]
    assert ids(engine, Filters(user="ben", scope=Scope(user="ann"))) == []
    assert ids(engine, Filters(team="", scope=Scope(team="red"))) == []


def test_attempts_counts_the_rows_of_the_call_also_when_only_one_is_asked_for(
    engine: Engine, row: MakeRow, write: Write
) -> None:
    failed = {"call_id": "call", "status_code": 429, "end_reason": "upstream_error"}
    write([row("a1", attempt=1, **failed), row("a2", attempt=2, **failed), row("call", attempt=3), row("single")])
    with reading(engine) as session:
        attempts = {r.id: r.attempts for r in usage.page(session, Filters()).items}
        assert attempts == {"a1": 3, "a2": 3, "call": 3, "single": 1}
        assert [r.attempts for r in usage.page(session, Filters(status=200), limit=1).items] == [1]
        assert usage.page(session, Filters(status=429)).items[0].attempts == 3


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "!!!",
        "AAAA",
        "é",
        "MTIz",
        encode_cursor(NOON, "a") + "=",
        encode_cursor(NOON, "a")[:-1] + "~",
        "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk6YQ",
    ],
)
def test_a_cursor_that_we_did_not_make_is_refused(engine: Engine, cursor: str) -> None:
    with reading(engine) as session, pytest.raises(usage.InvalidCursor):
        usage.page(session, Filters(), cursor=cursor)


def test_a_row_is_shown_as_the_contract_says(engine: Engine, row: MakeRow, write: Write) -> None:
    write(
        [
            row(
                "id1",
                input_tokens=5,
                cache_read_tokens=7,
                cache_write_5m_tokens=11,
                cache_write_1h_tokens=13,
                output_tokens=17,
                reasoning_tokens=19,
                cost_nano_usd=1_234_567_890_123,
                tags=["a", "b"],
                request_metadata='{"ticket": "4711"}',
                timestamp=NOON + timedelta(microseconds=1500),
            )
        ]
    )
    with reading(engine) as session:
        shown = usage.document(usage.page(session, Filters()).items[0])
    assert (shown.prompt_tokens, shown.completion_tokens, shown.total_tokens) == (36, 36, 72)
    assert shown.cost_usd == shown.booked_cost_usd == "1234.567890123"
    assert shown.timestamp == "2026-03-01T12:00:00.001500Z"
    assert shown.tags == ["a", "b"]
    assert shown.request_metadata == {"ticket": "4711"}
    assert shown.ttft_ms == shown.latency_ms == 100.0


def test_only_the_costs_of_an_unpriced_row_are_null(engine: Engine, row: MakeRow, write: Write) -> None:
    write([row("u", cost_nano_usd=None, cost_source="unpriced")])
    with reading(engine) as session:
        shown = usage.document(usage.page(session, Filters()).items[0])
    assert {name for name in usage.COLUMNS if getattr(shown, name) is None} == {"cost_usd", "booked_cost_usd"}


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_the_csv_is_a_formula(engine: Engine, row: MakeRow, write: Write, start: str) -> None:
    evil = start + 'HYPERLINK("http://x";"y")'
    write([row("a", model=evil, agent=evil, end_user=evil, session=evil, tags=[evil], request_metadata='{"a":"b"}')])
    text = b"".join(usage.csv_lines(usage.every_row(partial(reading, engine), Filters()))).decode()
    header, cells = csv.reader(io.StringIO(text, newline=""))
    shown = dict(zip(header, cells, strict=True))
    for name in ("model", "agent", "end_user", "session"):
        assert shown[name] == "'" + evil
    assert json.loads(shown["tags"]) == [evil]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)


def test_both_exports_hold_every_row_beyond_one_page(engine: Engine, row: MakeRow, write: Write) -> None:
    write([row(f"{n:05d}", timestamp=NOON + timedelta(seconds=n)) for n in range(2003)])
    read = partial(reading, engine)
    expected = [f"{n:05d}" for n in reversed(range(2003))]
    lines = b"".join(usage.json_lines(usage.every_row(read, Filters()))).splitlines()
    assert [json.loads(line)["id"] for line in lines] == expected
    table = b"".join(usage.csv_lines(usage.every_row(read, Filters()))).decode()
    assert [line["id"] for line in csv.DictReader(io.StringIO(table, newline=""))] == expected
