"""Drains the outbox: a thread for each lane that has something to send, so that a slow one delays no other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import datetime

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from token_tracker.database.models import AlertDelivery
from token_tracker.database.session import reading, transaction
from token_tracker.notifications.channels import Channel
from token_tracker.notifications.letter import Letter
from token_tracker.services import outbox
from token_tracker.services.outbox import Outcome

log = logging.getLogger("token_tracker.notifications")

MOST_LANES = 32  # at work at once; others wait their turn


class Drain:
    """`channels` by name: 'email', 'slack', 'webhook', 'apprise'. `clock` gives the time of an attempt."""

    def __init__(self, engine: Engine, channels: Mapping[str, Channel], clock: Callable[[], datetime]) -> None:
        self._engine, self._channels, self._clock = engine, channels, clock
        self._running: dict[str, threading.Thread] = {}
        self._stopping = threading.Event()

    def start_due(self) -> None:
        """Set lanes to work that have something to send and are not at it."""
        self._running = {lane: thread for lane, thread in self._running.items() if thread.is_alive()}
        with reading(self._engine) as session:
            lanes = outbox.due_lanes(session, at=self._clock())
        for lane in lanes:
            if lane not in self._running and len(self._running) < MOST_LANES:
                thread = threading.Thread(target=self._drain, args=[lane], name=f"lane {lane}", daemon=True)
                self._running[lane] = thread
                thread.start()

    def stop(self, within_s: float) -> None:
        """No further message is begun; those on their way have `within_s` seconds together."""
        self._stopping.set()
        for thread in self._running.values():
            thread.join(within_s / max(1, len(self._running)))

    def deliver_next(self, lane: str) -> bool:
        """Send the next message of a lane; False when none is due."""
        with transaction(self._engine) as session:
            delivery = outbox.claim_next(session, lane=lane, at=self._clock())
        if delivery is None:
            return False
        outcome = self._send(delivery)
        with transaction(self._engine) as session:
            state = outbox.finish(session, delivery=delivery, outcome=outcome, at=self._clock())
        if state == "dead":
            log.warning("alert %s by %s was given up: %s", delivery.id, delivery.channel, outcome.answer)
        return True

    def _drain(self, lane: str) -> None:
        try:
            while not self._stopping.is_set() and self.deliver_next(lane):
                pass
        except SQLAlchemyError as error:  # the claim ends by itself, and the message is tried again
            log.warning("lane %s stops until the database answers: %s", lane, type(error).__name__)

    def _send(self, delivery: AlertDelivery) -> Outcome:
        letter = Letter(
            id=delivery.id,
            event=delivery.event,
            threshold=delivery.threshold,
            recipient=delivery.recipient,
            created_at=delivery.created_at,
            facts=delivery.facts,
        )
        try:
            return self._channels[delivery.channel].send(letter)
        except Exception as error:  # a defect of ours must not stop the lane for all others
            log.exception("alert %s could not be sent", delivery.id)
            return Outcome("retry", f"could not be composed or sent: {type(error).__name__}")
