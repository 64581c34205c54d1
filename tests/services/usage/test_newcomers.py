"""What is booked is shown once, whenever its call began and however late its booking is seen."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from tests.services.usage.conftest import write_rows
from token_tracker.database.session import reading
from token_tracker.services.usage import Filters, Newcomers

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MakeRow = Callable[..., dict[str, Any]]


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_each_row_comes_once_in_the_order_of_booking(engine: Engine, row: MakeRow) -> None:
    def booked(name: str, began_s: float, booked_s: float, **more: Any) -> dict[str, Any]:
        return row(name, timestamp=after(began_s), booked_at=after(booked_s), **more)

    def look(at_s: float) -> list[str]:
        with reading(engine) as session:
            return [found.id for found in newcomers.look(session, after(at_s))]

    write_rows(engine, [booked("before", -60, -5), booked("long-ago", -7000, -3000)])
    with reading(engine) as session:
        newcomers = Newcomers(session, Filters(user="ann"), NOON)
    assert look(1) == []
    write_rows(engine, [booked("second", 1, 3), booked("first", -600, 2), booked("other", 1, 2, user="bob")])
    assert look(4) == ["first", "second"]
    assert look(5) == []
    write_rows(engine, [booked("committed-late", 0, 1), booked("third", 4, 6)])
    assert look(7) == ["committed-late", "third"]
    assert look(1000) == []
    write_rows(engine, [booked("after-a-pause", 900, 1001)])
    assert look(1002) == ["after-a-pause"]
