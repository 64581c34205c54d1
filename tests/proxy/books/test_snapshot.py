"""The snapshot: what is in the database reaches gateways, and only what may be used does."""

from __future__ import annotations

import hashlib
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from tests.services.budget_rows import a_budget
from token_tracker.config.encryption import Keyring, make_key
from token_tracker.database.models import (
    ApiKey,
    BudgetTopUp,
    Freeze,
    PriceRow,
    ProviderCredential,
    RateLimit,
    Team,
    User,
)
from token_tracker.database.session import make_engine, transaction
from token_tracker.domain.rules import FreezeRule, RateRule
from token_tracker.proxy.books.publication import KeyRecord, RulesRecord, Section, Snapshot
from token_tracker.proxy.books.publisher import Publisher
from token_tracker.proxy.books.snapshot import SnapshotReader

AT = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def a_key(name: str, **fields: Any) -> ApiKey:
    given: dict[str, Any] = {
        "id": f"key_{name}",
        "name": name,
        "hash": hash_of(name),
        "prefix": "sk-tt-",
        "user_id": "ann",
        "team_id": "red",
        "agent": "",
        "models": ["*"],
        "permissions": [],
        "created_at": AT,
        "created_by": "ann",
        "expires_at": None,
        "revoked_at": None,
        "predecessor_id": None,
    }
    return ApiKey(**(given | fields))


def hash_of(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def a_price(source: str, name: str, rate: str | None, valid_from: datetime = AT - HOUR) -> PriceRow:
    rates = None if rate is None else {"input_cost_per_token": rate}
    return PriceRow(
        source=source, name=name, version=f"{source}:{name}@{rate}", rates=rates, valid_from=valid_from, created_at=AT
    )


def add(engine: Engine, *rows: object) -> None:
    with transaction(engine) as session:
        for row in rows:
            session.add(row)
            session.flush()


@pytest.fixture
def house(engine: Engine) -> Engine:
    """A database with a team, a user and one who may not come in any more."""
    add(
        engine,
        Team(id="red", name="Red", created_at=AT),
        User(id="ann", password_hash="", role="member", team_id="red", created_at=AT, disabled_at=None),
        User(id="eve", password_hash="", role="member", team_id=None, created_at=AT, disabled_at=AT),
    )
    return engine


def published(engine: Engine, path: Path, at: datetime = AT) -> SnapshotReader:
    Publisher(engine, path).publish(at)
    reader = SnapshotReader(path)
    reader.refresh()
    return reader


def test_live_keys_are_published_and_others_are_not(house: Engine, tmp_path: Path) -> None:
    add(
        house,
        a_key("plain"),
        a_key("narrow", agent="bot", models=["gpt-4o", "claude-*"], team_id=None, expires_at=AT + HOUR),
        a_key("ending", expires_at=AT + 2 * HOUR, revoked_at=AT + HOUR),
        a_key("expired", expires_at=AT),
        a_key("revoked", revoked_at=AT),
        a_key("of eve", user_id="eve"),
    )
    reader = published(house, tmp_path / "snapshot")
    in_an_hour_us = int((AT + HOUR).timestamp()) * 1_000_000
    assert reader.keys == {
        hash_of("plain"): KeyRecord("key_plain", "ann", "red", "", ("*",), 0, ()),
        hash_of("narrow"): KeyRecord("key_narrow", "ann", "", "bot", ("gpt-4o", "claude-*"), in_an_hour_us, ()),
        hash_of("ending"): KeyRecord("key_ending", "ann", "red", "", ("*",), in_an_hour_us, ()),
    }
    assert reader.made_at_us == int(AT.timestamp()) * 1_000_000


def test_a_configuration_waits_for_the_counters_that_it_needs(house: Engine, tmp_path: Path) -> None:
    publisher = Publisher(house, tmp_path / "snapshot")
    seen = publisher.current_version()
    add(house, a_budget("day"))
    assert publisher.current_version() > seen
    assert not publisher.publish(AT, seen)
    assert publisher.publish(AT, publisher.current_version())


def test_rules_are_published_with_their_top_ups(house: Engine, tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    publisher, reader = Publisher(house, path), SnapshotReader(path)
    publisher.publish(AT)
    reader.refresh()
    assert reader.rules == RulesRecord()
    made = {"created_at": AT, "created_by": "ann"}
    add(house, a_budget("day", limit_tokens=7, counter_built_at=AT))
    add(
        house,
        BudgetTopUp(id="1", budget_id="budget_day", amount_nano_usd=5, until=AT + HOUR, **made),
        Freeze(id="f", scope_type="team", scope_id="red", model="", reason="leak", **made),
        RateLimit(
            id="l",
            scope_type="global",
            scope_id="",
            model="m",
            unit="tokens",
            limit=9,
            period="minute",
            on_store_error="allow",
            source="api",
            created_at=AT,
        ),
    )
    assert publisher.publish(AT)
    reader.refresh()
    at_us = int(AT.timestamp()) * 1_000_000
    (budget,) = reader.rules.budgets
    assert (budget.id, budget.limit_nano_usd, budget.limit_tokens, budget.is_built) == ("budget_day", 1_000, 7, True)
    assert budget.top_ups == ((5, at_us + 3_600_000_000, at_us),)
    assert reader.rules.rates == (RateRule("l", "global", "", "m", "tokens", 9, "minute", "allow"),)
    assert reader.rules.freezes == (FreezeRule("f", "team", "red", "", "leak"),)


def test_the_newest_price_that_already_holds_is_published(house: Engine, tmp_path: Path) -> None:
    add(
        house,
        a_price("file", "gpt-4o", "0.0000020", AT - 3 * HOUR),
        a_price("file", "gpt-4o", "0.0000025", AT - HOUR),
        a_price("file", "gpt-4o", "0.0000099", AT + HOUR),
        a_price("override", "gpt-4o", "0.000001"),
        a_price("override", "ended", "0.000001", AT - 2 * HOUR),
        a_price("override", "ended", None),
        a_price("entry", "ours", "0.5"),
    )
    reader = published(house, tmp_path / "snapshot")
    price = reader.price("file", "gpt-4o")
    assert price is not None
    assert (price.rates, price.version) == ({"input_cost_per_token": "0.0000025"}, "file:gpt-4o@0.0000025")
    assert reader.price("file", "gpt-4o") is price, "decoded once"
    override = reader.price("override", "gpt-4o")
    assert override is not None and override.rates == {"input_cost_per_token": "0.000001"}
    unknown = [("override", "ended"), ("entry", "ours"), ("file", "gpt-4"), ("nothing", "gpt-4o")]
    assert [reader.price(*asked) for asked in unknown] == [None] * 4


def test_a_price_that_begins_to_hold_is_published_without_any_change(house: Engine, tmp_path: Path) -> None:
    add(house, a_price("file", "m", "1"), a_price("file", "m", "2", AT + HOUR))
    publisher, reader = Publisher(house, tmp_path / "snapshot"), SnapshotReader(tmp_path / "snapshot")
    assert publisher.publish(AT)
    assert not publisher.publish(AT + HOUR - timedelta(seconds=1))
    assert publisher.publish(AT + HOUR)
    assert not publisher.publish(AT + 2 * HOUR)
    reader.refresh()
    price = reader.price("file", "m")
    assert price is not None and price.rates == {"input_cost_per_token": "2"}


def test_a_change_is_published_once_and_seen_by_a_reader_that_looks(house: Engine, tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    publisher, reader = Publisher(house, path), SnapshotReader(path)
    assert (reader.refresh(), reader.keys, reader.version, reader.made_at_us) == (False, {}, 0, 0)
    add(house, a_key("first"), a_price("file", "m", "1"))
    assert publisher.publish(AT)
    assert reader.refresh()
    assert not reader.refresh()
    price, version = reader.price("file", "m"), reader.version
    assert not publisher.publish(AT)
    add(house, a_key("second"))
    assert publisher.publish(AT)
    assert reader.refresh()
    assert set(reader.keys) == {hash_of("first"), hash_of("second")}
    assert reader.version > version
    assert reader.price("file", "m") is price, "an unchanged section is not decoded again"


def test_a_removed_snapshot_is_written_again(house: Engine, tmp_path: Path) -> None:
    publisher = Publisher(house, tmp_path / "snapshot")
    assert publisher.publish(AT)
    (tmp_path / "snapshot").unlink()
    assert publisher.publish(AT)


def test_nobody_else_may_read_the_snapshot(house: Engine, tmp_path: Path) -> None:
    published(house, tmp_path / "snapshot")
    assert stat.S_IMODE((tmp_path / "snapshot").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if "snapshot" in path.name] == ["snapshot"]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_without_a_database_the_old_snapshot_stays(house: Engine, tmp_path: Path) -> None:
    add(house, a_key("first"))
    before = published(house, tmp_path / "snapshot")
    absent = make_engine("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(OperationalError):
        Publisher(absent, tmp_path / "snapshot").publish(AT)
    reader = SnapshotReader(tmp_path / "snapshot")
    assert reader.refresh()
    assert reader.keys == before.keys


def test_a_broken_file_is_said_once_and_the_last_good_one_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "snapshot"
    keys = {b"h": KeyRecord("k", "ann", "", "", ("*",), 0, ())}
    good = Snapshot(3, 1, {"keys": Section("d", msgspec.msgpack.encode(keys))})
    path.write_bytes(msgspec.msgpack.encode(good))
    reader = SnapshotReader(path)
    assert reader.refresh()
    for broken in (b"", b"\xff nonsense", msgspec.msgpack.encode(Snapshot(4, 2, {"keys": Section("e", b"\x01")}))):
        path.write_bytes(broken)
        assert [reader.refresh() for _ in range(3)] == [False] * 3
        assert (reader.keys, reader.version) == (keys, 3)
    assert caplog.text.count("cannot be read") == 3


def test_providers_keys_arrive_encrypted_and_are_read_with_any_key_of_the_ring(house: Engine, tmp_path: Path) -> None:
    old, new, path = make_key(), make_key(), tmp_path / "snapshot"
    keyring = Keyring([old])
    row = ProviderCredential(
        id="c1", name="prod", provider="openai", hint="…", sealed=keyring.encrypt("sk-x"), created_at=AT, created_by="a"
    )
    add(house, row)
    publisher = Publisher(house, path)
    publisher.publish(AT)
    assert b"sk-x" not in path.read_bytes()
    readers = [SnapshotReader(path, ring) for ring in (Keyring([new, old]), Keyring([new]), Keyring())]
    for reader in readers:
        reader.refresh()
    assert readers[0].credentials.keys["prod"].value == "sk-x"
    assert ["prod" in reader.credentials.problems for reader in readers] == [False, True, True]
    before = readers[0].credentials
    add(house, a_key("another"))
    publisher.publish(AT)
    assert readers[0].refresh()
    assert readers[0].credentials is before, "what did not change is not taken over again"
