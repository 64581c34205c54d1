"""Reports: the numbers are those of the books, and each period is told once to each recipient."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select

from tests.services.ledger_rows import a_row
from tests.services.test_budget_alerts import a_budget, spend
from token_tracker.config.values import ReportEntry
from token_tracker.database.models import AlertDelivery, Report, Team
from token_tracker.database.session import reading, transaction
from token_tracker.notifications.reporter import Reporter
from token_tracker.services import reports
from token_tracker.services.audit import Actor
from token_tracker.services.booking import book
from token_tracker.services.configured_reports import follow_reports
from token_tracker.services.usage import Filters, summarize

TUESDAY = datetime(2026, 3, 10, 8, tzinfo=UTC)
DAY = timedelta(days=1)
USD = 1_000_000_000


def a_report(engine: Engine, **fields: Any) -> str:
    given = {"name": "Yesterday", "period": "daily", "recipients": ["ops@example.com"], **fields}
    with transaction(engine) as session:
        return reports.create(session, fields=given, actor=Actor("root"), at=TUESDAY).id


def booked(engine: Engine, *calls: tuple[datetime, float | None, dict[str, Any]]) -> None:
    rows = [
        a_row(
            number,
            at,
            cost_nano_usd=None if usd is None else round(usd * USD),
            cost_source="unpriced" if usd is None else "priced",
            **fields,
        )
        for number, (at, usd, fields) in enumerate(calls)
    ]
    with transaction(engine) as session:
        book(session, rows, at=TUESDAY)


def told(engine: Engine) -> list[AlertDelivery]:
    with reading(engine) as session:
        return list(session.scalars(select(AlertDelivery).order_by(AlertDelivery.created_at, AlertDelivery.id)))


def test_the_figures_are_those_of_the_books(engine: Engine) -> None:
    monday, sunday = TUESDAY - DAY, TUESDAY - 2 * DAY
    booked(
        engine,
        (monday, 3, {"team_id": "red", "model": "gpt-4o", "agent": "triage"}),
        (monday, 1.5, {"team_id": "blue", "model": "claude", "usage_source": "estimated"}),
        (monday, None, {"team_id": "red", "model": "llama"}),
        (monday, 0.5, {"team_id": "red", "model": "gpt-4o", "end_reason": "upstream_error", "usage_source": "none"}),
        (sunday, 2, {"team_id": "red", "model": "gpt-4o"}),
        (sunday, 4, {"team_id": "red", "model": "gone"}),
        (TUESDAY, 100, {"team_id": "red"}),
        (sunday - DAY, 100, {"team_id": "red"}),
    )
    with transaction(engine) as session:
        a_budget(session, ())
        spend(session, "8.4", at=TUESDAY)
    a_report(engine)
    assert Reporter(engine).look(TUESDAY) == 1
    ((facts),) = [row.facts for row in told(engine)]
    assert (facts["start"], facts["end"]) == ("2026-03-09T00:00:00Z", "2026-03-10T00:00:00Z")
    assert (facts["totals"]["cost_usd"], facts["before"]["cost_usd"]) == ("5.000000000", "6.000000000")
    assert (facts["totals"]["calls"], facts["totals"]["errors"], facts["totals"]["unpriced_calls"]) == (4, 1, 1)
    assert facts["spend"]["team"] == [
        ["red", "3.500000000", "6.000000000"],
        ["blue", "1.500000000", "0.000000000"],
    ]
    assert facts["spend"]["model"][:2] == [
        ["gpt-4o", "3.500000000", "2.000000000"],
        ["claude", "1.500000000", "0.000000000"],
    ]
    assert facts["movers"][0] == ["model", "gone", "0.000000000", "4.000000000"]
    assert facts["unpriced_models"] == [["llama", 1]]
    uncertain = {"estimated_calls": 1, "estimated_usd": "1.500000000", "calls_without_usage": 1}
    assert facts["uncertain"] == uncertain
    assert [(each["budget"], each["percent"]) for each in facts["budgets"]] == [("Daily cap", "84.0")]
    assert [place for place in facts["chart"] if place[1:] != ["0.000000000"] * 2] == [
        ["08", "5.000000000", "6.000000000"]
    ]
    with reading(engine) as session:
        summary = summarize(session, Filters(start=monday - timedelta(hours=8), end=TUESDAY - timedelta(hours=8)))
    assert facts["totals"]["cost_usd"] == f"{summary.totals.cost_nano_usd / USD:.9f}"


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kolkata", "America/New_York"])
@pytest.mark.parametrize(("period", "places"), [("daily", 24), ("weekly", 7), ("monthly", 31)])
def test_the_chart_adds_up_to_the_total_in_any_zone(engine: Engine, zone: str, period: str, places: int) -> None:
    booked(engine, *((TUESDAY - timedelta(hours=7 * number), 0.25, {}) for number in range(240)))
    a_report(engine, period=period, timezone=zone)
    Reporter(engine).look(TUESDAY + timedelta(hours=6))
    (row,) = told(engine)
    assert len(row.facts["chart"]) == places
    for column, total in ((1, "totals"), (2, "before")):
        assert sum(float(place[column]) for place in row.facts["chart"]) == float(row.facts[total]["cost_usd"]) > 0


def test_each_period_is_told_once_to_each_recipient_and_after_downtime_the_latest_only(engine: Engine) -> None:
    booked(engine, (TUESDAY - 9 * DAY, 1, {}))
    report_id = a_report(engine, recipients=["a@example.com", "b@example.com"])
    workers = [Reporter(engine) for _ in range(2)]
    assert [worker.look(TUESDAY) for worker in workers] == [2, 0]
    assert workers[0].look(TUESDAY + timedelta(hours=22)) == 0
    assert workers[0].look(TUESDAY + DAY) == 2
    assert workers[1].look(TUESDAY + 5 * DAY) == 2  # nobody was at work for three days
    assert [row.window for row in told(engine)] == [
        f"daily 2026-03-{day}" for day in ("09", "09", "10", "10", "14", "14")
    ]
    with transaction(engine) as session:
        reports.update(
            session,
            report_id=report_id,
            changes={"recipients": ["b@example.com", "c@example.com"], "timezone": "Europe/Berlin"},
            actor=Actor("root"),
            at=TUESDAY,
        )
    assert Reporter(engine).look(TUESDAY + 5 * DAY) == 1
    assert [row.window for row in told(engine) if row.recipient == "c@example.com"] == ["daily 2026-03-14"]


def test_nothing_is_told_of_the_time_before_the_first_call(engine: Engine) -> None:
    a_report(engine)
    assert Reporter(engine).look(TUESDAY) == 0
    booked(engine, (TUESDAY, 1, {}))
    assert Reporter(engine).look(TUESDAY) == 0
    assert Reporter(engine).look(TUESDAY + DAY) == 1


def test_a_team_is_told_its_own_spend_only(engine: Engine) -> None:
    with transaction(engine) as session:
        session.add(Team(id="red", name="Red", created_at=TUESDAY))
    booked(engine, (TUESDAY - DAY, 1, {"team_id": "red"}), (TUESDAY - DAY, 50, {"team_id": "blue", "model": "secret"}))
    with transaction(engine) as session:
        a_budget(session, (), scope_type="team", scope_id="*")
        for team in ("red", "blue"):
            spend(session, "5", at=TUESDAY, member=team)
    a_report(engine, team="red")
    Reporter(engine).look(TUESDAY)
    ((facts),) = [row.facts for row in told(engine)]
    assert facts["totals"]["cost_usd"] == "1.000000000"
    assert [budget["member"] for budget in facts["budgets"]] == ["red"]
    assert "blue" not in str(facts)
    assert "secret" not in str(facts)


def test_reports_of_the_file_follow_it_and_keep_what_they_told(engine: Engine) -> None:
    booked(engine, (TUESDAY - 9 * DAY, 1, {}))
    entry = ReportEntry("Daily report", "daily", "UTC", 7, "", ("a@example.com",))
    own = a_report(engine, name="Mine")
    for entries in ((entry,), (entry,), (ReportEntry("Mine", "weekly", "UTC", 7, "none", ("x@example.com",)), entry)):
        with transaction(engine) as session:
            warnings = follow_reports(session, entries, TUESDAY)
        Reporter(engine).look(TUESDAY)
    assert len(warnings) == 2
    assert "team 'none'" in warnings[0]
    assert own in warnings[1]
    assert len(told(engine)) == 2
    with transaction(engine) as session:
        follow_reports(session, (), TUESDAY)
    with reading(engine) as session:
        assert [report.id for report in session.scalars(select(Report))] == [own]


def test_a_short_month_beside_a_long_one_keeps_every_day_in_its_place(engine: Engine) -> None:
    days = [datetime(2026, 1, 1, 12, tzinfo=UTC) + number * DAY for number in range(31 + 28)]
    booked(engine, *((day, day.day, {}) for day in days))
    a_report(engine, period="monthly")
    Reporter(engine).look(TUESDAY)
    (row,) = told(engine)
    assert [float(place[2]) for place in row.facts["chart"]] == [float(day) for day in range(1, 32)]
    assert [place[0][-2:] for place in row.facts["chart"][26:]] == ["27", "28", "", "", ""]
