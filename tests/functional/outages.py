"""Takes a test's own database away for a while, or makes it slow: a lock on SQLite, a relay before PostgreSQL."""

from __future__ import annotations

import contextlib
import select
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

BUSY_S, PAUSE_S = 0.5, 0.1


class Outage(Protocol):
    """`url` is what the installation is given; inside `with away():` nobody can write there, inside `with slow():` only
    now and then. `locked`: as `away`, but that the database still answers."""

    url: str

    def away(self) -> AbstractContextManager[None]: ...

    def locked(self) -> AbstractContextManager[None]: ...

    def slow(self) -> AbstractContextManager[None]: ...

    def close(self) -> None: ...


class LockedFile:
    """Another program holds the write lock of the SQLite file."""

    def __init__(self, url: str) -> None:
        self.url = url

    @contextmanager
    def away(self) -> Iterator[None]:
        with contextlib.closing(sqlite3.connect(make_url(self.url).database or "", timeout=10)) as connection:
            connection.isolation_level = None
            connection.execute("BEGIN EXCLUSIVE")
            try:
                yield
            finally:
                connection.execute("ROLLBACK")

    locked = away

    @contextmanager
    def slow(self) -> Iterator[None]:
        """The lock is held nearly all the time, as by a program that writes and writes."""
        over = threading.Event()

        def hold() -> None:
            while not over.is_set():
                with self.away():
                    over.wait(BUSY_S)
                over.wait(PAUSE_S)

        thread = threading.Thread(target=hold)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def close(self) -> None:
        """There is nothing to end."""


class Relay:
    """A port before a PostgreSQL server; while it is away, connections break and new ones are refused."""

    def __init__(self, url: str) -> None:
        server = make_url(url)
        self._target = (server.host or "127.0.0.1", server.port or 5432)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._port = 0
        self._delay_s = 0.0
        self._direct = server
        self._listener = self._listen()
        self.url = server.set(host="127.0.0.1", port=self._port).render_as_string(hide_password=False)

    @contextmanager
    def away(self) -> Iterator[None]:
        self.close()
        try:
            yield
        finally:
            self._listener = self._listen()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Somebody holds the tables that every booking writes to."""
        engine = create_engine(self._direct.set(drivername="postgresql+psycopg2"), poolclass=NullPool)
        with engine.connect() as connection:
            connection.execute(text("LOCK TABLE token_usage, usage_hourly IN ACCESS EXCLUSIVE MODE"))
            yield

    @contextmanager
    def slow(self) -> Iterator[None]:
        """Each message takes its time."""
        self._delay_s = PAUSE_S
        try:
            yield
        finally:
            self._delay_s = 0.0

    def close(self) -> None:
        with self._lock:
            for each in (self._listener, *self._open):
                with contextlib.suppress(OSError):  # the other end may have left
                    each.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def _listen(self) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen(64)
        self._port = listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            with self._lock:
                self._open |= {client, server}
            other = {client: server, server: client}
            with contextlib.suppress(OSError):
                while True:
                    ready, _, _ = select.select([client, server], [], [])
                    pieces = [(each, each.recv(65536)) for each in ready]
                    if not all(piece for _, piece in pieces):
                        break
                    time.sleep(self._delay_s)
                    for each, piece in pieces:
                        other[each].sendall(piece)
            with self._lock:
                self._open -= {client, server}


def outage_of(url: str) -> Outage:
    """The way to take this database away."""
    return LockedFile(url) if url.startswith("sqlite") else Relay(url)
