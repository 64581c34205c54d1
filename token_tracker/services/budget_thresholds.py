"""A threshold of a budget: percent of the limit, or an amount of money."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from token_tracker.database.models import BudgetAlert
from token_tracker.domain.alert_fields import number_text
from token_tracker.domain.money import NANO_PER_USD
from token_tracker.services.budget_standings import Standings, fullest

_USD = " USD"
_BEYOND_ALL = Decimal(10**12)


@dataclass(frozen=True, slots=True)
class Threshold:
    """One of the two is set."""

    percent: Decimal | None = None
    nano_usd: int | None = None

    @property
    def text(self) -> str:
        """'80' (percent), '7.5 USD'."""
        if self.percent is not None:
            return number_text(self.percent)
        return f"{number_text(Decimal(self.nano_usd or 0) / NANO_PER_USD)}{_USD}"

    def is_passed(self, found: Standings, share: Decimal = Decimal(1)) -> bool:
        """Whether this share of it is."""
        if self.percent is not None:
            return fullest(found).percent >= self.percent * share
        return "usd" in found and self.nano_usd is not None and found["usd"].spent >= self.nano_usd * share

    def rank(self, found: Standings) -> Decimal:
        """The percent of the limit that it stands for now."""
        if self.percent is not None:
            return self.percent
        limit = found["usd"].limit if "usd" in found else 0
        return Decimal(self.nano_usd or 0) * 100 / limit if limit > 0 else _BEYOND_ALL


def threshold_of(alert: BudgetAlert) -> Threshold:
    percent = alert.threshold_percent
    return Threshold(None if percent is None else percent.normalize(), alert.threshold_nano_usd)


def parse(text: str) -> Threshold:
    """What `text` gave."""
    if text.endswith(_USD):
        return Threshold(nano_usd=int(Decimal(text.removesuffix(_USD)) * NANO_PER_USD))
    return Threshold(Decimal(text).normalize())
