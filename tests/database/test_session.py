"""Engines and transactions behave alike on SQLite and PostgreSQL."""

from __future__ import annotations

import re
import shutil
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, delete, insert, make_url, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError

import token_tracker
from token_tracker.database.models import ConfigVersion, PriceRow, SystemState, Team, User
from token_tracker.database.session import DatabaseUrlError, make_engine, reading, transaction

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
only_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


def version(engine: Engine) -> int:
    with reading(engine) as session:
        return session.execute(select(ConfigVersion.version)).scalar_one()


def team(name: str = "red") -> Team:
    return Team(id=name, name=name.title(), created_at=AT)


def test_what_a_transaction_wrote_is_there_and_what_failed_is_not(engine: Engine) -> None:
    with transaction(engine) as session:
        session.add(team())
    with pytest.raises(RuntimeError, match="stop"), transaction(engine) as session:
        session.add(team("blue"))
        session.flush()
        raise RuntimeError("stop")
    with reading(engine) as session:
        assert session.scalars(select(Team.id)).all() == ["red"]


def test_reading_leaves_nothing_behind(engine: Engine) -> None:
    with reading(engine) as session:
        session.add(team())
    with reading(engine) as session:
        assert session.scalars(select(Team.id)).all() == []


def test_a_reader_sees_one_state_of_the_database_throughout(engine: Engine) -> None:
    with reading(engine) as reader:
        assert reader.scalars(select(Team.id)).all() == []
        with transaction(engine) as writer:
            writer.add(team())
        assert reader.scalars(select(Team.id)).all() == []


def test_foreign_keys_hold(engine: Engine) -> None:
    with pytest.raises(IntegrityError), transaction(engine) as session:
        session.add(User(id="ann", password_hash="x", role="member", team_id="nobody", created_at=AT))


def test_the_version_grows_with_a_change_of_a_published_table_by_any_way(engine: Engine) -> None:
    start = version(engine)
    price = {"source": "file", "name": "m", "version": "v", "rates": None, "valid_from": AT, "created_at": AT}
    for change in (
        lambda session: session.add(team()),
        lambda session: session.execute(insert(PriceRow), [price]),
        lambda session: session.execute(update(Team).values(name="Crimson")),
        lambda session: setattr(session.get(Team, "red"), "name", "Scarlet"),
        lambda session: session.execute(delete(Team)),
    ):
        with transaction(engine) as session:
            change(session)
        start += 1
        assert version(engine) == start


def test_the_version_stays_when_nothing_published_changed(engine: Engine) -> None:
    with transaction(engine) as session:
        session.add(team())
    start = version(engine)
    with transaction(engine) as session:
        session.add(SystemState(name="x", value="y"))
        session.get_one(Team, "red").name = "Red"  # as it was
        session.execute(select(Team)).all()
    assert version(engine) == start


def test_the_version_does_not_grow_when_the_change_was_rolled_back(engine: Engine) -> None:
    start = version(engine)
    with pytest.raises(RuntimeError), transaction(engine) as session:
        session.add(team())
        session.flush()
        raise RuntimeError
    assert version(engine) == start


def test_two_writers_take_turns_and_neither_change_is_lost(engine: Engine) -> None:
    with transaction(engine) as session:
        session.add(SystemState(name="count", value="0"))

    def add() -> None:
        for _ in range(20):
            with transaction(engine) as session:
                row = session.scalars(select(SystemState).with_for_update()).one()
                row.value = str(int(row.value) + 1)

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with reading(engine) as session:
        assert session.get_one(SystemState, "count").value == "60"


def test_a_writer_waits_no_longer_than_it_was_told(laid_url: str, engine: Engine) -> None:
    impatient = make_engine(laid_url, lock_wait_ms=50)
    with transaction(engine) as holder:
        holder.add(SystemState(name="x", value="1"))
        holder.flush()
        with pytest.raises(OperationalError), transaction(impatient) as session:
            session.add(SystemState(name="x", value="2"))
    impatient.dispose()


def test_a_time_comes_back_as_the_same_instant(engine: Engine) -> None:
    at = datetime.fromisoformat("2026-03-01T13:30:00.000001+05:30")
    with transaction(engine) as session:
        session.add(Team(id="red", name="Red", created_at=at))
    with reading(engine) as session:
        read = session.get_one(Team, "red").created_at
    assert (read, read.tzinfo) == (at, UTC)


@only_sqlite
def test_a_sqlite_file_is_private_durable_and_in_wal_mode(database_url: str) -> None:
    engine = make_engine(database_url)
    with transaction(engine) as session:
        session.execute(text("CREATE TABLE t (x)"))
        path = Path(make_url(database_url).database or "")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.glob(f"{path.name}*")}
        pragmas = [session.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")]
    engine.dispose()
    assert set(modes) == {path.name, f"{path.name}-wal", f"{path.name}-shm"}
    assert set(modes.values()) == {0o600}
    assert pragmas == ["wal", 2]


@only_sqlite
def test_many_may_open_a_new_sqlite_file_at_once(database_url: str) -> None:
    failures: list[BaseException] = []

    def open_it() -> None:
        engine = make_engine(database_url)
        try:
            with reading(engine) as session:
                session.execute(text("SELECT 1"))
        except OperationalError as error:
            failures.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_relative_sqlite_path_is_taken_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    engine = make_engine("sqlite:///here.db")
    monkeypatch.chdir("/")
    with reading(engine) as session:
        session.execute(text("SELECT 1"))
    engine.dispose()
    assert (tmp_path / "here.db").exists()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_each_way_to_write_postgresql_means_psycopg2(scheme: str) -> None:
    engine = make_engine(f"{scheme}://ann:secret@db.example:5433/books?sslmode=require")
    assert engine.url.render_as_string(hide_password=False) == (
        "postgresql+psycopg2://ann:secret@db.example:5433/books?sslmode=require"
    )


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://root:secret@localhost/books", "'mysql://'"),
        ("postgresql+asyncpg://root:secret@localhost/books", "'postgresql+asyncpg://'"),
        ("not a url", "not a URL"),
        ("postgresql://ann:secret@host:port/books", "not a URL"),
        ("postgresql://ann:se@secret@host/books", "write %40"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite://relative.db", "lacks a slash"),
        ("sqlite:////", "names the directory"),
        ("sqlite:////nowhere/at/all.db", "does not exist: start in Token Tracker's directory"),
    ],
)
def test_a_wrong_url_is_refused_by_name_and_without_its_password(url: str, says: str) -> None:
    with pytest.raises(DatabaseUrlError, match=r"DATABASE_URL") as refused:
        make_engine(url)
    assert says in str(refused.value)
    assert "secret" not in str(refused.value)


@only_sqlite
def test_a_sqlite_file_that_was_replaced_or_deleted_is_not_written_to_any_more(
    laid_url: str, engine: Engine, tmp_path: Path
) -> None:
    path = Path(make_url(laid_url).database or "")
    restored = make_url(laid_url).set(database=str(tmp_path / "restored.db"))
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(path, tmp_path / "restored.db")
    with transaction(engine) as session:
        session.add(team("lost"))
    for side in path.parent.glob(f"{path.name}-*"):
        side.unlink()
    Path(str(restored.database)).rename(path)
    with transaction(engine) as session:
        session.add(team("kept"))
    with reading(make_engine(laid_url)) as session:
        assert session.scalars(select(Team.id)).all() == ["kept"]
    path.unlink()
    with pytest.raises(OperationalError, match="no such table"), transaction(engine) as session:
        session.add(team("nowhere"))


def test_nothing_but_the_session_module_commits() -> None:
    root = Path(token_tracker.__file__).parent
    committing = {
        str(path.relative_to(root)) for path in root.rglob("*.py") if re.search(r"\.commit\(", path.read_text())
    }
    assert committing == {"database/session.py"}
