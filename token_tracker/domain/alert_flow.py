"""When a rule speaks: once as a threshold is passed, once more for each higher one, once when it is over.

Pure: what is observed and the time go in; the next state and at most one message come out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

FORGOTTEN = timedelta(hours=2)  # an episode of which nothing was seen so long is over
ALERT, RESOLVED = "alert", "resolved"


@dataclass(frozen=True, slots=True)
class Observation:
    """How it stands with one subject. `window`: the one that `value` belongs to, '' where there is none; an episode
    ends with its window. `back`: the share of the lowest threshold that it must fall under to be over."""

    subject: str
    value: Decimal
    facts: Mapping[str, Any] = field(default_factory=dict)
    window: str = ""
    back: Decimal = Decimal("0.95")


@dataclass(frozen=True, slots=True)
class Quiet:
    """From `start` to `end` by the zone's clocks, over midnight where `end` is the earlier one."""

    start: time
    end: time
    zone: str

    def holds(self, at: datetime) -> bool:
        now = at.astimezone(ZoneInfo(self.zone)).time()
        if self.start <= self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end


@dataclass(frozen=True, slots=True)
class Policy:
    """How a rule speaks. What is critical is not held by quiet hours."""

    thresholds: tuple[Decimal, ...]
    cooldown: timedelta
    severity: str
    quiet: Quiet | None = None
    resolves: bool = True
    is_below: bool = False

    def passed(self, value: Decimal) -> Decimal | None:
        """The farthest threshold that `value` has passed."""
        found = [each for each in self.thresholds if (value <= each if self.is_below else value >= each)]
        return (min if self.is_below else max)(found, default=None)

    def is_farther(self, one: Decimal, other: Decimal) -> bool:
        return one < other if self.is_below else one > other

    def is_back(self, seen: Observation) -> bool:
        if self.is_below:
            return seen.value * seen.back > max(self.thresholds)
        return seen.value < min(self.thresholds) * seen.back

    def is_quiet(self, at: datetime) -> bool:
        return self.severity != "critical" and self.quiet is not None and self.quiet.holds(at)


@dataclass(frozen=True, slots=True)
class Episode:
    """`threshold`: the farthest that was passed, None: it is over; `told`: the farthest that people were told of, None:
    of none yet. `number` counts those of one window; `sent`: when each threshold was last told; `is_held`: the last
    message went to the digest."""

    threshold: Decimal | None = None
    told: Decimal | None = None
    window: str = ""
    number: int = 0
    since: datetime | None = None
    seen_at: datetime | None = None
    is_held: bool = False
    sent: Mapping[Decimal, datetime] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The same for all messages of the episode, and for no other of its rule and subject."""
        window = self.window or (f"{self.since:%Y-%m-%dT%H:%M:%SZ}" if self.since else "")
        return f"{window}#{self.number}"


@dataclass(frozen=True, slots=True)
class Message:
    """`is_held`: it waits for the daily digest. `key`: the episode's."""

    what: str
    threshold: Decimal
    key: str
    is_held: bool


def step(
    episode: Episode, seen: Observation | None, policy: Policy, at: datetime, *, is_silent: bool = False
) -> tuple[Episode, Message | None]:
    """The episode after a look. While it is silent nothing is told; what still holds afterwards is told then."""
    if seen is None:
        is_forgotten = episode.seen_at is not None and at - episode.seen_at >= FORGOTTEN
        return (replace(episode, threshold=None) if is_forgotten else episode), None
    passed = policy.passed(seen.value)
    is_open = episode.threshold is not None
    if is_open and seen.window == episode.window:
        episode = replace(episode, seen_at=at)
        if passed is not None:
            return _tell(episode, passed, policy, at, is_silent)
        return _end(episode, policy, at, is_silent) if policy.is_back(seen) else (episode, None)
    if passed is None:
        return _end(episode, policy, at, is_silent) if is_open else (episode, None)
    number = episode.number + 1 if episode.window == seen.window else 1
    begun = replace(episode, told=None, window=seen.window, number=number, since=at, seen_at=at)
    return _tell(replace(begun, threshold=passed), passed, policy, at, is_silent)


def _tell(
    episode: Episode, passed: Decimal, policy: Policy, at: datetime, is_silent: bool
) -> tuple[Episode, Message | None]:
    if episode.threshold is None or policy.is_farther(passed, episode.threshold):
        episode = replace(episode, threshold=passed)
    if is_silent or (episode.told is not None and not policy.is_farther(passed, episode.told)):
        return episode, None
    last = episode.sent.get(passed)
    is_held = policy.is_quiet(at) or (last is not None and at - last < policy.cooldown)
    covered = {} if is_held else {each: at for each in policy.thresholds if not policy.is_farther(each, passed)}
    after = replace(episode, told=passed, is_held=is_held, sent={**episode.sent, **covered})
    return after, Message(ALERT, passed, episode.key, is_held)


def _end(episode: Episode, policy: Policy, at: datetime, is_silent: bool) -> tuple[Episode, Message | None]:
    over = replace(episode, threshold=None, seen_at=at)
    if is_silent or episode.told is None or not policy.resolves:
        return over, None
    return over, Message(RESOLVED, episode.told, episode.key, episode.is_held or policy.is_quiet(at))
