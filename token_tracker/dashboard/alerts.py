"""The panel of alerts: what rules fire for now, and which of them reach nobody."""

from __future__ import annotations

from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from dash import html
from sqlalchemy.orm import Session

from token_tracker.dashboard.data import Viewer
from token_tracker.domain.access import GRANTS, Permission
from token_tracker.domain.alert_kinds import KINDS
from token_tracker.services import alert_reach, alert_rules

SHOWN = 12


@dataclass(frozen=True, slots=True)
class Alerts:
    """`firing`: (rule, what for, since when); `warnings`: (which rules, why they reach nobody and what to do)."""

    firing: list[tuple[str, str, str]] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)
    more: int = 0


def load(session: Session, viewer: Viewer, *, zone: ZoneInfo) -> Alerts:
    """Nothing for those who may not read alerts."""
    if Permission.ALERTS_READ not in GRANTS[viewer.role]:
        return Alerts()
    found_firing = alert_rules.firing(session)
    firing = [
        (
            rule.name,
            f"{alert_rules.subject_name(session, rule, episode.subject)}, "
            f"beyond {episode.threshold} {KINDS[rule.kind].unit}",
            f"since {episode.since.astimezone(zone):%d %b %H:%M}" if episode.since else "",
        )
        for rule, episode in found_firing[:SHOWN]
    ]
    found = alert_reach.unreachable(session).items()
    warnings = [(alert_reach.named(names), problem) for problem, names in found]
    return Alerts(firing, warnings, max(0, len(found_firing) - SHOWN))


def panel(alerts: Alerts) -> list[html.Section]:
    """Nothing at all while all is well."""
    rows = [html.P([html.Strong(name), f" · {about} · {since}"]) for name, about, since in alerts.firing]
    if alerts.more:
        rows.append(html.P(f"and {alerts.more:,} more: GET /api/alerts/firing", className="state"))
    rows += [
        html.P([html.Span("reaches nobody", className="tag warn"), f" {names[0].upper()}{names[1:]}. {problem}"])
        for names, problem in alerts.warnings
    ]
    return [html.Section([html.H2("Alerts"), *rows], className="panel alerts")] if rows else []
