"""One module a way out; each sends one message and says what the other side answered."""

from __future__ import annotations

from typing import Protocol

from token_tracker.notifications.letter import Letter
from token_tracker.services.outbox import Outcome


class Channel(Protocol):
    def send(self, letter: Letter) -> Outcome:
        """Within `outbox.CLAIM_LASTS`; raises nothing that the network or the other side may cause."""
        ...
