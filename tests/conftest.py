"""Databases for tests: fresh ones on SQLite and PostgreSQL, copied from a template that is laid once per run."""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from tests import leaks
from token_tracker.database import migrations
from token_tracker.database.models import Base
from token_tracker.database.session import make_engine, transaction

# Started in the background by a script, this process ignores Ctrl-C; so would all that its tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

BACKENDS = ("sqlite", "postgresql")
SEARCHED = pytest.StashKey[leaks.Searched]()
SERVER = os.environ.get("TEST_DATABASE_URL") or "postgresql://postgres@127.0.0.1:5432/postgres"


# What these assert must hold each time: a lost call that is not there when one looks again is lost all the same.
LAWS = ("chaos", "books", "storm", "simulation", "law", "nodes", "gone_node", "kills", "once", "backup", "leaks")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In CI a test that fails is tried once more and told as `rerun`: real processes on a busy machine may be late. Not
    those of the laws."""
    if os.environ.get("CI") == "true":
        for item in items:
            place = item.path.relative_to(Path(__file__).parent).with_suffix("").as_posix()
            if not any(law in place for law in LAWS):
                item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests.scheduling import FilesTogether

    return FilesTogether(config, log)


def pytest_sessionstart() -> None:
    leaks.begin()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A secret that was written or answered anywhere fails the run."""
    searched = _add(session.config, leaks.end())
    if hasattr(session.config, "workeroutput"):  # one of pytest-xdist's processes
        session.config.workeroutput["searched"] = tuple(searched)
    if searched.found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A process of pytest-xdist's has ended."""
    if "searched" in getattr(node, "workeroutput", {}):
        _add(node.config, leaks.Searched(*node.workeroutput["searched"]))


def _add(config: pytest.Config, searched: leaks.Searched) -> leaks.Searched:
    config.stash[SEARCHED] = config.stash.get(SEARCHED, leaks.Searched(0, 0, 0, [])).with_(searched)
    return config.stash[SEARCHED]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    searched = config.stash[SEARCHED]
    terminalreporter.write_line(str(searched), red=bool(searched.found))
    for each in searched.found:
        terminalreporter.write_line(f"LEAKED {each}", red=True)


@contextmanager
def using(url: str) -> Iterator[Engine]:
    """An engine that leaves no connection behind."""
    engine = make_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


def lay_tables(url: str) -> None:
    with using(url) as engine, transaction(engine) as session:
        migrations.upgrade(session.connection())


class SqliteDatabases:
    """Files in one temporary directory; a copy of the template is a copy of a file."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count()

    def empty(self) -> str:
        return f"sqlite:///{self._directory / f'{next(self._numbers)}.db'}"

    def laid(self) -> str:
        template = self._directory / "template.db"
        if not template.exists():
            lay_tables(f"sqlite:///{template}")
        url = self.empty()
        shutil.copy(template, make_url(url).database or "")
        return url

    def give_back(self, url: str) -> None:
        """A file is cheap: the next test gets another copy."""

    def drop(self) -> None:
        """The temporary directory is pytest's to remove."""


class PostgresqlDatabases:
    """Databases with names of this run on the server of TEST_DATABASE_URL, dropped at its end.

    Making and dropping one costs 0.2 s, so those with tables are emptied and used again.
    """

    def __init__(self, server: str) -> None:
        self._server = make_url(server).set(drivername="postgresql+psycopg2")
        self._prefix = f"tt_test_{os.getpid()}_{secrets.token_hex(4)}"
        self._made: list[str] = []
        self._template = ""
        self._free: list[str] = []

    @contextmanager
    def _administer(self) -> Iterator[Connection]:
        engine = create_engine(
            self._server, isolation_level="AUTOCOMMIT", poolclass=NullPool, connect_args={"connect_timeout": 3}
        )
        with engine.connect() as connection:
            yield connection

    def check(self) -> None:
        """Raises OperationalError if the server is not there."""
        with self._administer() as connection:
            connection.execute(text("SELECT 1"))

    def _make(self, template: str, more: str = "") -> str:
        name = f"{self._prefix}_{len(self._made)}"
        with self._administer() as connection:
            connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{template}" {more}'))
        self._made.append(name)
        return self._server.set(database=name).render_as_string(hide_password=False)

    def empty(self) -> str:
        return self._make("template0")

    def of_words(self) -> str:
        """One that orders as dictionaries do, as many servers are set up: a, B, c."""
        return self._make("template0", "LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")

    def laid(self) -> str:
        if self._free:
            return self._free.pop()
        if not self._template:
            url = self.empty()
            lay_tables(url)
            self._template = str(make_url(url).database)
        return self._make(self._template)

    def give_back(self, url: str) -> None:
        with using(url) as engine, engine.begin() as connection:
            for table in reversed(Base.metadata.sorted_tables):
                connection.execute(table.delete())
            connection.execute(text("INSERT INTO config_version (id, version) VALUES (1, 1)"))
            connection.execute(text("UPDATE alembic_version SET version_num = :head"), {"head": migrations.HEAD})
        self._free.append(url)

    def drop(self) -> None:
        if self._made:
            with self._administer() as connection:
                for name in self._made:
                    connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))


Databases = SqliteDatabases | PostgresqlDatabases


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Databases]]:
    """`databases(backend).empty()` and `.laid()` are URLs of fresh databases, without and with tables."""
    made: dict[str, Databases] = {}

    def get(backend: str) -> Databases:
        if backend not in made:
            made[backend] = (
                SqliteDatabases(tmp_path_factory.mktemp("sqlite")) if backend == "sqlite" else _postgresql_or_skip()
            )
        return made[backend]

    yield get
    for each in made.values():
        each.drop()


def _postgresql_or_skip() -> PostgresqlDatabases:
    databases = PostgresqlDatabases(SERVER)
    try:
        databases.check()
    except OperationalError:
        reason = "PostgreSQL is not reachable; TEST_DATABASE_URL names another server"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return databases


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """'sqlite', then 'postgresql'; a test for one of them: `parametrize("backend", ["sqlite"], indirect=True)`."""
    return str(request.param)


@pytest.fixture
def database_url(databases: Callable[[str], Databases], backend: str) -> str:
    """The DATABASE_URL of a database without tables, as a newcomer has it."""
    return databases(backend).empty()


@pytest.fixture
def laid_url(databases: Callable[[str], Databases], backend: str) -> Iterator[str]:
    """The DATABASE_URL of a database with all tables and no account, key or price."""
    url = databases(backend).laid()
    yield url
    databases(backend).give_back(url)


@pytest.fixture
def engine(laid_url: str) -> Iterator[Engine]:
    """A database with all tables and no account, key or price, on each backend in turn."""
    with using(laid_url) as engine:
        yield engine


@pytest.fixture
def empty_engine(database_url: str) -> Iterator[Engine]:
    """A database without tables, on each backend in turn."""
    with using(database_url) as engine:
        yield engine
