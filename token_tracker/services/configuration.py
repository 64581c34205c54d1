"""What proxy.yaml says, as rows, so that API, dashboard and ledger speak of the same rules and prices."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from token_tracker.config.values import Configuration
from token_tracker.services.configured_alerts import follow_alerts
from token_tracker.services.configured_models import follow_models
from token_tracker.services.configured_prices import follow_prices
from token_tracker.services.configured_reports import follow_reports
from token_tracker.services.configured_rules import follow_budgets, follow_rate_limits


def apply(session: Session, configuration: Configuration, at: datetime) -> list[str]:
    """Make models, rules of source 'config' and the dated prices of the file follow the file. Answers warnings.

    Rows made through the API are never touched. Applying the same file again changes nothing; what does change stands
    in the audit log.
    """
    warnings = [
        *follow_models(session, configuration, at),
        *follow_rate_limits(session, configuration.rate_limits, at),
        *follow_budgets(session, configuration.budgets, at),
        *follow_reports(session, configuration.reports, at),
        *follow_alerts(session, configuration.alerts, configuration.settings.mail, at),
    ]
    follow_prices(session, configuration, at)
    session.flush()
    return warnings
