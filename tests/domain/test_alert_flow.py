"""A rule speaks once for each threshold, is held by cooldown and quiet hours, and says when it is over."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

from token_tracker.domain.alert_flow import FORGOTTEN, Episode, Observation, Policy, Quiet, step

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
POLICY = Policy((Decimal(20), Decimal(50)), HOUR, "warning")


def told(
    values: list[float | None],
    policy: Policy = POLICY,
    *,
    every: timedelta = timedelta(minutes=10),
    at: datetime = NOON,
    window: str = "",
    silent: tuple[int, ...] = (),
) -> list[tuple[int, str, int, bool]]:
    """(look, what, threshold, is_held) of each message, of looks in a row."""
    episode, messages = Episode(), []
    for look, value in enumerate(values):
        seen = None if value is None else Observation("x", Decimal(str(value)), window=window)
        episode, message = step(episode, seen, policy, at + look * every, is_silent=look in silent)
        if message is not None:
            messages.append((look, message.what, int(message.threshold), message.is_held))
    return messages


def test_each_threshold_is_told_once_and_the_end_too() -> None:
    assert told([10, 20, 25, 50, 60, 30, 19.5, 18, 10]) == [
        (1, "alert", 20, False),
        (3, "alert", 50, False),
        (7, "resolved", 50, False),  # 19.5 is no more than a wobble
    ]


def test_several_thresholds_between_two_looks_are_one_message_of_the_highest() -> None:
    assert told([10, 80, 30, 80]) == [(1, "alert", 50, False)]


def test_a_cooldown_is_of_one_threshold_and_holds_the_end_of_what_it_held() -> None:
    assert told([30, 0, 30, 0, 60]) == [
        (0, "alert", 20, False),
        (1, "resolved", 20, False),
        (2, "alert", 20, True),
        (3, "resolved", 20, True),
        (4, "alert", 50, False),
    ]
    assert told([30, 0, 30], every=HOUR)[2] == (2, "alert", 20, False)


def test_a_threshold_told_by_a_higher_one_is_in_its_cooldown() -> None:
    assert told([60, 0, 30])[2] == (2, "alert", 20, True)


def test_what_is_silenced_and_still_holds_is_told_afterwards_and_what_ended_is_not() -> None:
    assert told([30, 60, 60, 60], silent=(0, 1)) == [(2, "alert", 50, False)]
    assert told([30, 0, 0], silent=(0,)) == []
    assert told([30, 60, 30, 0], silent=(1,)) == [(0, "alert", 20, False), (3, "resolved", 20, False)]


def test_quiet_hours_follow_the_clocks_of_their_zone_over_midnight_and_spare_what_is_critical() -> None:
    quiet = Quiet(time(22), time(7), "Europe/Berlin")
    night = datetime(2026, 3, 10, 5, 59, tzinfo=UTC)  # 06:59 in Berlin
    held = Policy(POLICY.thresholds, HOUR, "warning", quiet)
    assert told([30], held, at=night) == [(0, "alert", 20, True)]
    assert told([30], held, at=night + timedelta(minutes=1)) == [(0, "alert", 20, False)]
    summer = datetime(2026, 7, 10, 5, 59, tzinfo=UTC)  # 07:59
    assert told([30], held, at=summer) == [(0, "alert", 20, False)]
    assert told([30], Policy(POLICY.thresholds, HOUR, "critical", quiet), at=night) == [(0, "alert", 20, False)]


def test_thresholds_that_are_passed_by_falling() -> None:
    policy = Policy((Decimal(24), Decimal(168)), timedelta(0), "warning", resolves=False, is_below=True)
    assert told([200, 160, 100, 23, 5], policy) == [(1, "alert", 168, False), (3, "alert", 24, False)]


def test_an_episode_ends_with_its_window_and_the_next_one_has_a_key_of_its_own() -> None:
    first, message = step(Episode(), Observation("x", Decimal(30), window="mon"), POLICY, NOON)
    same, _ = step(first, Observation("x", Decimal(0), window="mon"), POLICY, NOON)
    again, second = step(same, Observation("x", Decimal(60), window="mon"), POLICY, NOON)
    over, third = step(again, Observation("x", Decimal(0), window="tue"), POLICY, NOON)
    assert [each.key for each in (message, second, third) if each] == ["mon#1", "mon#2", "mon#2"]
    assert (over.threshold, third.what if third else "") == (None, "resolved")
    _, straight = step(again, Observation("x", Decimal(30), window="tue"), POLICY, NOON + HOUR)
    assert straight is not None
    assert (straight.what, straight.key, straight.is_held) == ("alert", "tue#1", False)


def test_what_is_not_seen_any_more_is_forgotten_without_a_word() -> None:
    looks = int(FORGOTTEN / timedelta(minutes=10))
    assert told([30, *[None] * (looks - 1), 30]) == [(0, "alert", 20, False)]
    assert told([30, *[None] * looks, 30], Policy(POLICY.thresholds, timedelta(0), "info")) == [
        (0, "alert", 20, False),
        (looks + 1, "alert", 20, False),
    ]
