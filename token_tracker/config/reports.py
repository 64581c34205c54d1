"""`reports:` of proxy.yaml: what is told by mail every day, week or month, and to whom."""

from __future__ import annotations

from token_tracker.config.mail import is_address
from token_tracker.config.rules import read_timezone
from token_tracker.config.section import Section
from token_tracker.config.values import ReportEntry
from token_tracker.domain.report_times import DEFAULT_HOUR, PERIODS


def read_reports(entries: list[Section]) -> tuple[ReportEntry, ...]:
    """Each with a name of its own; without one it is called after its period."""
    reports: dict[str, ReportEntry] = {}
    for entry in entries:
        report = _report(entry)
        entry.finish()
        if report is None:
            continue
        if report.name in reports:
            entry.complain("name", "is that of a report before it: give each a name of its own.")
        reports[report.name] = report
    return tuple(reports.values())


def _report(entry: Section) -> ReportEntry | None:
    period = entry.choice("period", PERIODS)
    name, team = entry.text("name"), entry.text("team") or ""
    timezone, hour = read_timezone(entry), entry.whole("hour", least=0)
    recipients = _recipients(entry)
    if "period" not in entry.content:
        entry.complain("period", f"is missing: one of {', '.join(PERIODS)}.")
    if hour is not None and hour > 23:
        entry.complain("hour", "must be from 0 to 23.")
    if period is None or not recipients:
        return None
    return ReportEntry(
        name=name or f"{period.capitalize()} report",
        period=period,
        timezone=timezone,
        hour=DEFAULT_HOUR if hour is None else hour,
        team=team,
        recipients=recipients,
    )


def _recipients(entry: Section) -> tuple[str, ...]:
    given = entry.get("recipients")
    found = given if isinstance(given, list) else []
    if not found:
        entry.complain("recipients", "is missing: a list of e-mail addresses.")
    addresses = [address.strip() for address in found if isinstance(address, str) and is_address(address.strip())]
    if len(addresses) < len(found):
        entry.complain("recipients", "must be addresses like someone@example.com.")
    return tuple(dict.fromkeys(addresses))
