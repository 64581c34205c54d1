"""Month ends and days of 23 and 25 hours, on both stores: a window lasts as its zone's calendar says."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from tests.proxy.gate.stand import Stand, budget, run

BERLIN, NEW_YORK, KATHMANDU = "Europe/Berlin", "America/New_York", "Asia/Kathmandu"


def us(text: str, zone: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("period", "zone", "begins", "next_begins", "hours"),
    [
        ("monthly", NEW_YORK, "2026-01-01T00:00", "2026-02-01T00:00", 31 * 24),
        ("monthly", "UTC", "2028-02-01T00:00", "2028-03-01T00:00", 29 * 24),
        ("monthly", BERLIN, "2026-10-01T00:00", "2026-11-01T00:00", 31 * 24 + 1),
        ("monthly", BERLIN, "2026-12-01T00:00", "2027-01-01T00:00", 31 * 24),
        ("daily", BERLIN, "2026-03-29T00:00", "2026-03-30T00:00", 23),
        ("daily", BERLIN, "2026-10-25T00:00", "2026-10-26T00:00", 25),
        ("weekly", KATHMANDU, "2026-11-16T00:00", "2026-11-23T00:00", 7 * 24),
    ],
)
def test_a_budget_is_full_until_its_window_ends_to_the_microsecond(
    kind: str, period: str, zone: str, begins: str, next_begins: str, hours: int
) -> None:
    start_us, next_us = us(begins, zone), us(next_begins, zone)
    start_s, next_s = start_us // 1_000_000, next_us // 1_000_000
    assert next_s - start_s == hours * 3600

    async def scenario() -> None:
        async with Stand(kind) as stand:
            await stand.rules(budget(1000, period=period, timezone=zone))
            assert (await stand.ask(1000, now_us=next_us - 1)).is_admitted
            for now_us in (start_us, next_us - 1):
                refused = (await stand.ask(1, now_us=now_us)).refused[0]
                assert (refused.held, refused.resets_at_s) == (1000, next_s)
            assert (await stand.ask(1000, now_us=next_us)).is_admitted
            assert (await stand.ask(1000, now_us=start_us - 1)).is_admitted, "the window before is another"
            await stand.end("c1", 900, now_us=next_us - 1)
            ended = await stand.store.counter("b|usd|", start_s, start_s)
            following = await stand.store.counter("b|usd|", next_s, next_s)
            assert (ended.spent, ended.held, following.spent, following.held) == (900, 0, 0, 1000)

    run(scenario())
