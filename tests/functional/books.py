"""Compares a ledger with the fake provider's own books, read straight from the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from tests.functional.installation import Installation, wait_until
from tests.functional.provider_books import Entry, FakeProvider
from tests.functional.traffic import Moment, Traffic

Row = dict[str, Any]
COUNTS = (
    "input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "input_audio_tokens",
    "input_image_tokens", "output_tokens", "reasoning_tokens", "output_audio_tokens", "output_image_tokens",
)  # fmt: skip
# What `house.RATES` says, in nano-dollars per token.
NANO_USD = {
    "input_tokens": 3000,
    "cache_read_tokens": 300,
    "cache_write_5m_tokens": 3750,
    "cache_write_1h_tokens": 6000,
    "output_tokens": 15000,
    "reasoning_tokens": 20000,
}


class Ledger:
    """The tables of one database, through a connection of the test's own each time."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        driver = "postgresql+psycopg2" if parsed.get_backend_name() == "postgresql" else "sqlite"
        self._engine: Engine = create_engine(parsed.set(drivername=driver), poolclass=NullPool)

    def rows(self, name: str = "") -> list[Row]:
        """The rows whose end user begins with `name`."""
        return [row for row in self._read("SELECT * FROM token_usage") if row["end_user"].startswith(name)]

    def table(self, name: str) -> list[Row]:
        return self._read(f"SELECT * FROM {name}")

    def check_rollups(self) -> None:
        """The hourly sums are the sums of the rows, whoever was killed in between."""
        rows, hours = self.table("token_usage"), self.table("usage_hourly")
        assert sum(hour["attempts"] for hour in hours) == sum(hour["calls"] for hour in hours) == len(rows)
        for column in (*COUNTS, "cost_nano_usd"):
            assert sum(hour[column] for hour in hours) == sum(row[column] or 0 for row in rows), column
        errors = ("upstream_error", "upstream_disconnect", "timeout", "crash")
        assert sum(hour["errors"] for hour in hours) == sum(row["end_reason"] in errors for row in rows)

    def _read(self, statement: str) -> list[Row]:
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(statement)).mappings()]


def incarnations(installation: Installation) -> set[str]:
    """Gateway workers, living and dead, whose journal is not yet booked to its end."""
    return {path.name.rpartition("-")[0] for path in (installation.data_dir / "journal").glob("*/*-*")}


def wait_until_booked(installation: Installation, ledger: Ledger, provider: FakeProvider, traffic: Traffic) -> None:
    """Until nothing that is known is missing, and no dead worker has left anything to book."""
    name = traffic.name + "-"
    wait_until(lambda: all(not entry["is_open"] for entry in entries_of(provider, name)), 20, "the provider's end")
    served = {entry["marker"] for entry in entries_of(provider, name)}

    def is_booked() -> bool:
        booked = {row["end_user"] for row in ledger.rows(name)}
        return served <= booked and len(incarnations(installation)) <= 1

    try:
        wait_until(is_booked, 20, "every served call in the ledger")
    except AssertionError as late:
        missing = sorted(served - {row["end_user"] for row in ledger.rows(name)})
        raise AssertionError(f"{late}; missing: {missing}; {incarnations(installation)}") from None


def entries_of(provider: FakeProvider, name: str) -> list[Entry]:
    return [entry for entry in provider.books(slim=True) if entry["marker"].startswith(name)]


def check_books(
    ledger: Ledger, provider: FakeProvider, traffic: Traffic, *, kills: Iterable[Moment] = ()
) -> Counter[str]:
    """Law 1 and law 3 for all calls of `traffic`; `kills` are the moments at which a gateway was killed.

    Every call that the provider served is booked, exactly once. What a client saw complete is booked as complete, with
    the provider's own counts and the cost worked out from them. What else is there are `crash` rows of calls that were
    in flight at a kill. Gives the rows by end reason.
    """
    rows, served = ledger.rows(traffic.name + "-"), entries_of(provider, traffic.name + "-")
    by_call, entries = Counter(row["end_user"] for row in rows), {entry["marker"]: entry for entry in served}
    assert len(entries) == len(served), "no client sent a call twice"
    assert [call for call, count in by_call.items() if count > 1] == [], "booked twice"
    assert sorted(entries.keys() - by_call.keys()) == [], "served and not booked"
    booked = {row["end_user"]: row for row in rows}
    in_flight = set[str]().union(*(traffic.in_flight(moment) for moment in kills))
    crashed = {call for call, row in booked.items() if row["end_reason"] == "crash"}
    assert sorted(booked.keys() - entries.keys() - crashed) == [], "booked and neither served nor crashed"
    assert sorted(crashed - in_flight) == [], "crash rows of calls that no kill can have met"
    for call in traffic.complete():
        check_complete(booked[call.marker], entries[call.marker])
    for call, row in booked.items():
        if row["end_reason"] == "complete":
            check_complete(row, entries[call])
    return Counter(row["end_reason"] for row in rows)


def check_complete(row: Row, entry: Entry) -> None:
    """The row says what the provider's books say, and its cost follows from that."""
    assert (row["end_reason"], row["usage_source"], row["status_code"]) == ("complete", "provider", 200), row
    counts = {name: row[name] for name in COUNTS if row[name]}
    assert counts == entry["billed"], (row, entry)
    assert row["cost_nano_usd"] == sum(count * NANO_USD[name] for name, count in counts.items())
    assert (row["upstream_id"], row["upstream_request_id"]) == (entry["id"], entry["request_id"])
