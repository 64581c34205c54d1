"""What lies between an attempt that failed and the one that may follow it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from token_tracker.domain.usage import EndReason
from token_tracker.proxy.books.records import End
from token_tracker.proxy.call import Attempt, Failed


@dataclass(frozen=True, slots=True)
class Held:
    """A failed attempt that is not booked yet, since another may follow, and what the client gets if none does."""

    failed: Failed
    reason: EndReason
    our_status: int
    say: Callable[[End | None], Awaitable[None]]


class Attempts(Protocol):
    """Which attempts may follow one that failed."""

    def another(self, attempt: Attempt, failed: Failed) -> float | None:
        """Seconds until the next attempt may begin; None if there is none."""

    async def hold_again(self, failed: Failed) -> bool:
        """Whether the gate lets the next attempt begin: it is asked again only where the last one may be billed."""

    def open(self) -> None:
        """Write the open record of that next attempt. Raises `JournalUnavailable`: then there is none."""
