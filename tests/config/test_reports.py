"""`reports:`."""

from __future__ import annotations

import pytest

from tests.config.files import DEMO, Files
from token_tracker.config.values import ReportEntry


def test_a_report_is_called_after_its_period_unless_it_has_a_name(files: Files) -> None:
    text = """
reports:
  - {period: daily, recipients: [a@example.com, b@example.com, a@example.com]}
  - {period: monthly, recipients: ["${WHO}"], name: For the board, timezone: Europe/Berlin, hour: 0, team: red}
"""
    assert files.load(DEMO + text, WHO="c@example.com").reports == (
        ReportEntry("Daily report", "daily", "UTC", 7, "", ("a@example.com", "b@example.com")),
        ReportEntry("For the board", "monthly", "Europe/Berlin", 0, "red", ("c@example.com",)),
    )


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ("{recipients: [a@example.com]}", "reports[0].period is missing"),
        ("{period: day, recipients: [a@example.com]}", "reports[0].period must be one of daily, weekly, monthly"),
        ("{period: daily}", "reports[0].recipients is missing"),
        ("{period: daily, recipients: a@example.com}", "reports[0].recipients is missing: a list"),
        ('{period: daily, recipients: ["a@b, c@d"]}', "reports[0].recipients must be addresses"),
        ("{period: daily, recipients: [a@example.com], hour: 24}", "reports[0].hour must be from 0 to 23"),
        ("{period: daily, recipients: [a@example.com], timezone: Mars}", "reports[0].timezone is no time zone"),
        ("{period: daily, recipients: [a@example.com], recipient: x}", "Did you mean 'recipients'?"),
    ],
)
def test_a_wrong_report_is_named(files: Files, entry: str, complaint: str) -> None:
    assert complaint in "\n".join(files.problems(DEMO + f"reports: [{entry}]\n"))


def test_two_reports_of_one_name_contradict_each_other(files: Files) -> None:
    daily = "{period: daily, recipients: [a@example.com]}"
    (problem,) = files.problems(DEMO + f"reports: [{daily}, {daily}]\n")
    assert "reports[1].name is that of a report before it" in problem
