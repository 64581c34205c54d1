"""Summaries are right to the nano-dollar, the same from roll-ups and from rows, in every time zone and on DST days."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, delete

from token_tracker.database.models import SystemState, TokenUsage
from token_tracker.database.session import reading, transaction
from token_tracker.domain.access import Scope
from token_tracker.services import closed_sums, usage, usage_summary
from token_tracker.services.booking import book
from token_tracker.services.usage import Filters
from token_tracker.services.usage_horizon import HORIZON
from token_tracker.services.usage_levels import levels_of
from token_tracker.services.usage_parts import Part, parts_of
from token_tracker.services.usage_sums import SUMMED
from token_tracker.services.usage_times import UTC_SPANS, spans_of

Row = dict[str, Any]
MakeRow = Callable[..., Row]
Write = Callable[[list[Row]], None]
Contribution = Callable[[Row], dict[str, int]]
BERLIN = ZoneInfo("Europe/Berlin")
# In here Berlin changes to summer time (29 March 01:00Z), Lord Howe back by half an hour (4 April 15:00Z).
START = datetime(2026, 3, 27, tzinfo=UTC)
DAYS = 12
COLUMN_OF = {"key": "key_id"}
EVERY_ROLLUP_GROUP = ("hour", "day", "month", "model", "provider", "user", "team", "key", "agent")


def random_rows(row: MakeRow, count: int) -> list[Row]:
    """Rows that agree in some names and differ in others; a sixth belongs to a call with more attempts."""
    chance = random.Random(20260327)
    rows = []
    for number in range(count):
        unpriced = chance.random() < 0.1
        earlier = chance.random() < 0.15
        at = START + timedelta(seconds=chance.randrange(DAYS * 86400), microseconds=chance.choice([0, 1, 999_999]))
        rows.append(
            row(
                f"{number:06d}",
                call_id=f"{number + 1:06d}" if earlier else f"{number:06d}",
                timestamp=at,
                model=chance.choice(["gpt-4o", "gpt-4o-mini", "claude"]),
                provider=chance.choice(["openai", "anthropic"]),
                user=chance.choice(["ann", "ben", ""]),
                team=chance.choice(["red", ""]),
                key_id=chance.choice(["k1", "k2"]),
                agent=chance.choice(["", "coder"]),
                session=chance.choice(["", "s1", "s2"]),
                end_user=chance.choice(["", "v1"]),
                tags=chance.choice([[], ["a"], ["a", "b"]]),
                status_code=chance.choice([200, 500]),
                end_reason=chance.choice(["complete", "crash", "timeout", "client_disconnect"]),
                input_tokens=chance.randrange(10_000),
                cache_write_1h_tokens=chance.randrange(100),
                output_audio_tokens=chance.randrange(5),
                reasoning_tokens=chance.randrange(5),
                cost_nano_usd=None if unpriced else chance.randrange(10**12),
                cost_source="unpriced" if unpriced else "priced",
                latency_ms=chance.choice([2.0, 2.0000001, 3.5, 10.71875, 1e7, chance.random() * 10**4]),
            )
        )
    return rows


def label(row: Row, group: str, zone: Any) -> list[str]:
    """What `row` counts for under `group`, by Python's calendar."""
    if group == "hour":
        return [row["timestamp"].strftime("%Y-%m-%dT%H:00:00Z")]
    if group in ("day", "month"):
        return [row["timestamp"].astimezone(zone).strftime("%Y-%m-%d" if group == "day" else "%Y-%m")]
    if group == "tag":
        return row["tags"] or [""]
    return [row[COLUMN_OF.get(group, group)]]


def expected_sums(rows: list[Row], groups: tuple[str, ...], zone: Any, contribution: Contribution) -> dict[Any, Any]:
    """(sums, latency counts) by group labels, added up row by row."""
    found: dict[Any, Any] = {}
    for row in rows:
        keys: list[tuple[str, ...]] = [()]
        for group in groups:
            keys = [(*key, each) for key in keys for each in label(row, group, zone)]
        for key in keys:
            sums, latencies = found.setdefault(key, ([0] * len(SUMMED), [0] * 24))
            for name, value in contribution(row).items():
                if name in SUMMED:
                    sums[SUMMED.index(name)] += value
                else:
                    latencies[int(name[-2:])] += value
    return found


def close_hours(engine: Engine, at: datetime) -> None:
    has_more = True
    while has_more:
        with transaction(engine) as session:
            has_more = closed_sums.close_next(session, at=at)


def as_found(summary: usage.Summary) -> dict[Any, Any]:
    return {item.groups: (item.sums.values, item.sums.latency_counts) for item in summary.items}


@pytest.fixture
def rows(row: MakeRow, write: Write) -> list[Row]:
    made = random_rows(row, 600)
    write(made)
    return made


@pytest.mark.parametrize("closed_days", [0, 7], ids=["nothing closed", "some hours and days closed"])
def test_roll_ups_and_rows_give_the_same_sums_as_adding_by_hand_for_any_groups_zone_and_hours(
    engine: Engine, rows: list[Row], contribution: Contribution, monkeypatch: pytest.MonkeyPatch, closed_days: int
) -> None:
    close_hours(engine, START + timedelta(days=closed_days, hours=9))
    chance = random.Random(1)
    choices = [groups for n in (1, 1, 1, 2, 2, 3) for groups in combinations(EVERY_ROLLUP_GROUP, n)]
    zones = [UTC, BERLIN, ZoneInfo("America/New_York"), ZoneInfo("Pacific/Kiritimati")]
    for groups in chance.sample(choices, 25):
        zone = chance.choice(zones)
        start = START + timedelta(hours=chance.randrange(24))
        end = start + timedelta(hours=chance.randrange(1, DAYS * 24))
        filters = Filters(
            start=start, end=end, model=chance.choice([None, "claude"]), end_reason=chance.choice([None, "crash"])
        )
        chosen = [
            row
            for row in rows
            if start <= row["timestamp"] < end
            and filters.model in (None, row["model"])
            and filters.end_reason in (None, row["end_reason"])
        ]
        assert [p.from_rollups for p in parts_of(filters, groups, hours_split_days=False, kept_from=None)] == [True]
        with reading(engine) as session:
            from_rollups = usage.summarize(session, filters, groups=groups, zone=zone)
            with monkeypatch.context() as patched:
                patched.setattr(usage_summary, "parts_of", lambda f, *_, **__: [Part(False, f.start, f.end)])
                from_rows = usage.summarize(session, filters, groups=groups, zone=zone)
        assert as_found(from_rollups) == as_found(from_rows) == expected_sums(chosen, groups, zone, contribution)
        assert from_rollups.totals == from_rows.totals


LEDGER_GROUPS = (
    ("session",),
    ("tag",),
    ("tag", "day"),
    ("end_user", "session", "month"),
    ("tag", "model", "hour"),
    ("day",),
    ("day", "user"),
)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns"])
def test_what_only_rows_know_is_summed_from_rows(
    engine: Engine, rows: list[Row], contribution: Contribution, zone: str
) -> None:
    start, end = START + timedelta(hours=5, seconds=17), START + timedelta(days=10, minutes=3)
    chosen = [row for row in rows if start <= row["timestamp"] < end]
    total = expected_sums(chosen, (), UTC, contribution)[()]
    for groups in LEDGER_GROUPS:
        with reading(engine) as session:
            summary = usage.summarize(session, Filters(start=start, end=end), groups=groups, zone=ZoneInfo(zone))
        assert as_found(summary) == expected_sums(chosen, groups, ZoneInfo(zone), contribution)
        assert (summary.totals.values, summary.totals.latency_counts) == total


def test_what_the_recorder_books_sums_alike_from_its_roll_ups_and_from_its_rows(
    engine: Engine, row: MakeRow, contribution: Contribution
) -> None:
    rows = random_rows(row, 300)
    stored_as = {"user": "user_id", "team": "team_id", "session": "session_id"}
    with transaction(engine) as session:
        book(
            session,
            [{stored_as.get(name, name): value for name, value in row.items() if name != "booked_at"} for row in rows],
            at=START,
        )
    with reading(engine) as session:
        from_rollups = usage.summarize(session, Filters(), groups=("model", "key", "day"), zone=BERLIN)
        from_rows = usage.summarize(session, Filters(), groups=("session",))
    assert as_found(from_rollups) == expected_sums(rows, ("model", "key", "day"), BERLIN, contribution)
    assert from_rows.totals == from_rollups.totals


def test_part_hours_come_from_rows_and_whole_hours_from_roll_ups() -> None:
    filters = Filters(start=START + timedelta(minutes=17), end=START + timedelta(hours=3, minutes=1))
    hour = timedelta(hours=1)
    assert parts_of(filters, ("day",), hours_split_days=False, kept_from=None) == [
        Part(True, START + hour, START + 3 * hour),
        Part(False, filters.start, START + hour),
        Part(False, START + 3 * hour, filters.end),
    ]
    within = Filters(start=START + timedelta(minutes=17), end=START + timedelta(minutes=18))
    assert parts_of(within, (), hours_split_days=False, kept_from=None) == [Part(False, within.start, within.end)]


def test_a_month_by_one_dimension_reads_days_and_the_hours_at_its_ends() -> None:
    noon = START.replace(hour=12)
    month = Filters(start=noon, end=noon + timedelta(days=30), scope=Scope(user="ann"))
    closed, midnight = noon + timedelta(days=29, hours=22), START + timedelta(days=1)

    def read(groups: tuple[str, ...], spans: Any = UTC_SPANS) -> list[tuple[str, str, Any, Any]]:
        pieces = levels_of(month, groups, spans, closed)
        return [
            (level.table.name, ",".join(each.right.value for each in level.only), start, end)
            for level, start, end in pieces
        ]

    days = midnight + timedelta(days=29)
    assert read(("user", "month")) == [
        ("usage_sums", "user_id,hour", noon, midnight),
        ("usage_sums", "user_id,day", midnight, days),
        ("usage_sums", "user_id,hour", days, closed),
        ("usage_hourly", "", closed, month.end),
    ]
    assert [each[1] for each in read(("hour",))] == ["user_id,hour", ""]
    assert [each[1] for each in read(("day",), spans_of(BERLIN, START, closed))] == ["user_id,hour", ""]
    assert read(("model",)) == [("usage_hourly", "", noon, month.end)], "two dimensions"


@pytest.mark.parametrize(("start_minutes", "end_minutes"), [(0, 61), (1, 120), (59, 60), (10, 20), (30, 30), (0, 0)])
def test_the_border_of_a_part_hour_counts_no_row_twice(
    engine: Engine, row: MakeRow, write: Write, start_minutes: int, end_minutes: int
) -> None:
    write([row(f"{n:03d}", timestamp=START + timedelta(minutes=n)) for n in range(121)])
    filters = Filters(start=START + timedelta(minutes=start_minutes), end=START + timedelta(minutes=end_minutes))
    with reading(engine) as session:
        assert usage.summarize(session, filters).totals.attempts == end_minutes - start_minutes


def test_the_short_and_the_long_day_of_berlin_have_23_and_25_hours(engine: Engine, row: MakeRow, write: Write) -> None:
    for month, day in ((3, 28), (10, 24)):
        start = datetime(2026, month, day, 12, tzinfo=UTC)
        write([row(f"{month}-{n:03d}", timestamp=start + timedelta(hours=n)) for n in range(48)])
    with reading(engine) as session:
        days = usage.summarize(session, Filters(), groups=("day",), zone=BERLIN)
    calls = {item.groups[0]: item.sums.calls for item in days.items}
    assert calls["2026-03-29"] == 23
    assert calls["2026-10-25"] == 25


def test_the_last_microsecond_of_a_day_belongs_to_that_day(engine: Engine, row: MakeRow, write: Write) -> None:
    write([row("a", session="s", timestamp=datetime(2026, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC))])
    with reading(engine) as session:
        item = usage.summarize(session, Filters(), groups=("session", "day", "month")).items[0]
    assert item.groups == ("s", "2026-01-31", "2026-01")


def test_roll_ups_still_answer_where_rows_are_no_longer_kept_and_the_rest_is_said_to_be_missing(
    engine: Engine, rows: list[Row], contribution: Contribution
) -> None:
    horizon = START + timedelta(days=5)
    with transaction(engine) as session:
        session.execute(delete(TokenUsage).where(TokenUsage.timestamp < horizon))
        session.add(SystemState(name=HORIZON, value=horizon.isoformat()))
    with reading(engine) as session:
        by_model = usage.summarize(session, Filters(), groups=("model",))
        by_session = usage.summarize(session, Filters(), groups=("session",))
        indian_days = usage.summarize(session, Filters(), groups=("day",), zone=ZoneInfo("Asia/Kolkata"))
        late = usage.summarize(session, Filters(start=horizon), groups=("session",))
    everything = expected_sums(rows, (), UTC, contribution)[()]
    assert as_found(by_model) == expected_sums(rows, ("model",), UTC, contribution)
    assert by_model.missing_before is None
    assert by_session.missing_before == horizon
    assert by_session.totals.attempts == sum(row["timestamp"] >= horizon for row in rows)
    assert (indian_days.totals.values, indian_days.totals.latency_counts) == everything
    assert indian_days.missing_before is None
    assert late.missing_before is None


def test_a_scope_holds_for_roll_ups_and_rows(engine: Engine, rows: list[Row]) -> None:
    with reading(engine) as session:
        for groups in (("model",), ("session",)):
            own = usage.summarize(session, Filters(scope=Scope(user="ann")), groups=groups)
            team = usage.summarize(session, Filters(user="ben", scope=Scope(team="red")), groups=groups)
            assert own.totals.attempts == sum(row["user"] == "ann" for row in rows)
            assert team.totals.attempts == sum(row["user"] == "ben" and row["team"] == "red" for row in rows)


def test_an_empty_ledger_sums_to_nothing(engine: Engine) -> None:
    with reading(engine) as session:
        for groups in ((), ("day",), ("tag",)):
            summary = usage.summarize(session, Filters(), groups=groups, zone=BERLIN)
            assert summary.items == []
            assert summary.totals == usage.Sums()
            assert summary.totals.latency_ms(0.99) == 0.0


def test_a_range_of_nine_thousand_years_is_answered_like_any_other(engine: Engine, rows: list[Row]) -> None:
    filters = Filters(start=datetime(1, 1, 2, tzinfo=UTC), end=datetime(9999, 12, 30, tzinfo=UTC))
    with reading(engine) as session:
        summary = usage.summarize(session, filters, groups=("month",), zone=BERLIN)
    assert summary.totals.attempts == len(rows)


def test_too_many_items_are_refused_instead_of_held_in_memory(
    engine: Engine, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_summary, "MAX_ITEMS", 20)
    with reading(engine) as session, pytest.raises(usage.TooManyItems, match="more than 20 items"):
        usage.summarize(session, Filters(), groups=("hour",))


@pytest.mark.parametrize("groups", [("cost",), ("day", "day"), ("hour", "day", "month", "model")])
def test_groups_that_do_not_exist_repeat_or_are_too_many_are_refused(engine: Engine, groups: tuple[str, ...]) -> None:
    with reading(engine) as session, pytest.raises(ValueError, match="cannot group by"):
        usage.summarize(session, Filters(), groups=groups)
