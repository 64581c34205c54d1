"""Migrations lay exactly the tables of the models, wholly or not at all, on both databases."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, select, text

from token_tracker.database import migrations
from token_tracker.database.models import Base, ConfigVersion
from token_tracker.database.session import make_engine, reading, transaction


def prepare(engine: Engine) -> bool:
    with transaction(engine) as session:
        migrations.take_turn(session.connection())
        return migrations.upgrade(session.connection())


def test_migrations_equal_the_models(engine: Engine) -> None:
    options = {"compare_type": True, "compare_server_default": True}
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []


def test_primary_keys_and_foreign_keys_equal_the_models_too(engine: Engine) -> None:
    inspector = inspect(engine)
    for table in Base.metadata.tables.values():
        keys = inspector.get_pk_constraint(table.name)["constrained_columns"]
        assert keys == [column.name for column in table.primary_key.columns]
        laid = {
            (tuple(key["constrained_columns"]), key["referred_table"], key["options"].get("ondelete"))
            for key in inspector.get_foreign_keys(table.name)
        }
        modelled = {
            (tuple(key.column_keys), key.referred_table.name, key.ondelete) for key in table.foreign_key_constraints
        }
        assert laid == modelled


def test_the_known_head_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_heads() == [migrations.HEAD]


def test_a_second_upgrade_changes_nothing(empty_engine: Engine) -> None:
    assert prepare(empty_engine) is True
    assert prepare(empty_engine) is False
    with reading(empty_engine) as session:
        assert migrations.current_revision(session.connection()) == migrations.HEAD
        assert session.scalars(select(ConfigVersion.version)).all() == [1]


def test_an_upgrade_that_fails_leaves_nothing(empty_engine: Engine) -> None:
    with pytest.raises(RuntimeError, match="stop"), transaction(empty_engine) as session:
        migrations.upgrade(session.connection())
        raise RuntimeError("stop")
    assert inspect(empty_engine).get_table_names() == []


def test_of_many_at_once_one_lays_the_tables_and_the_others_find_them(database_url: str) -> None:
    results: list[bool | BaseException] = []
    barrier = threading.Barrier(3)

    def run() -> None:
        engine = make_engine(database_url, lock_wait_ms=30_000)
        barrier.wait()
        try:
            results.append(prepare(engine))
        except Exception as error:  # judged below
            results.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, results)) == ["False", "False", "True"]


def test_a_database_of_a_newer_version_is_refused_and_left_alone(engine: Engine) -> None:
    with transaction(engine) as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(migrations.DatabaseTooNewError, match=r"revision 9999.*newer version.*Upgrade Token Tracker"):
        prepare(engine)
    with reading(engine) as session:
        assert migrations.current_revision(session.connection()) == "9999"
