"""When a deployment is left alone, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from token_tracker.proxy.cooldown import Health


def health(**more: Any) -> Health:
    fields: dict[str, Any] = {"allowed_fails": None, "cooldown_time_s": None, "default_s": 5, "is_alone": False}
    return Health(**(fields | more))


@pytest.mark.parametrize("status", [401, 402, 429])
def test_a_deployment_that_has_had_enough_rests_at_once_where_others_can_serve(status: int) -> None:
    made = health()
    assert made.failed(100, status, None) == 5
    assert made.rests(104.9) and not made.rests(105)
    assert health(is_alone=True).failed(100, status, None) == 0


def test_other_failures_count_by_their_share_once_there_are_five_calls() -> None:
    made = health()
    assert [made.failed(second, 500, None) for second in range(4)] == [0, 0, 0, 0]
    assert made.failed(4, 0, None) == 5
    half = health()
    for second in range(10):
        half.succeeded(second)
        assert half.failed(second, 500, None) == 0


def test_only_the_last_minute_counts() -> None:
    made = health()
    assert [made.failed(second, 500, None) for second in (0, 10, 20, 30, 61)] == [0, 0, 0, 0, 0]


def test_allowed_fails_is_how_many_failures_a_minute_may_have() -> None:
    made = health(allowed_fails=2, is_alone=True)
    assert [made.failed(0, 429, None), made.failed(1, 500, None), made.failed(2, 500, None)] == [0, 0, 5]
    assert health(allowed_fails=0).failed(0, 500, None) == 5


@pytest.mark.parametrize(
    ("own", "asked_s", "rest_s"), [(None, None, 5), (None, 30.0, 30), (None, 1e9, 3600), (2, 30.0, 2), (0, 30.0, 0)]
)
def test_it_rests_as_long_as_its_entry_says_else_as_the_upstream_asks(
    own: float | None, asked_s: float | None, rest_s: float
) -> None:
    assert health(cooldown_time_s=own).failed(0, 429, asked_s) == rest_s
