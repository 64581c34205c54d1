"""A gateway worker for tests: the real server on a real port, with a scripted upstream and a journal to read back."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from tests import leaks
from tests.proxy.upstream import Upstream
from token_tracker.config import paths
from token_tracker.config.values import (
    Address,
    Configuration,
    Deployment,
    GatewayOptions,
    ModelTable,
    Secret,
    Settings,
)
from token_tracker.proxy import server
from token_tracker.proxy.app import Gateway
from token_tracker.proxy.books import framing
from token_tracker.proxy.books.counters_shape import HEAD_LENGTH, MAGIC, CountersHead
from token_tracker.proxy.books.object_index import SYNCED_TO, ObjectIndex
from token_tracker.proxy.books.publication import KeyRecord, PriceRecord, RulesRecord, Section, Snapshot
from token_tracker.proxy.books.records import End, Open, Record
from token_tracker.proxy.gate.store import Books

KEY = leaks.secret("virtual key", "sk-tt-a-key-of-this-test")
UPSTREAM_KEY = leaks.secret("upstream key", "sk-upstream-secret")
RATES = {"input_cost_per_token": Decimal("0.000001"), "output_cost_per_token": Decimal("0.000002")}


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = 10) -> Any:
    """The first true value of `condition`; an AssertionError naming `what` after `timeout_s`."""
    until = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < until, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.01)
    return value


def settings(data_dir: Path, **more: Any) -> Settings:
    anywhere = Address("127.0.0.1", 0)
    made = Settings(
        config_path=data_dir / "proxy.yaml",
        data_dir=data_dir,
        database_url=Secret(""),
        proxy=anywhere,
        api=anywhere,
        dashboard=anywhere,
        secret_key=None,
        admin_password=None,
        max_body_bytes=1 << 20,
        journal_sync_ms=100,
        retention_days=None,
        log_calls=False,
    )
    return replace(made, **more)


def key_record(**more: Any) -> KeyRecord:
    fields: dict[str, Any] = {
        "id": "key-1", "user": "ada", "team": "core", "agent": "", "models": ("*",), "expires_at_us": 0,
        "permissions": (),
    }  # fmt: skip
    return KeyRecord(**(fields | more))


def publish(
    path: Path,
    keys: Mapping[str, KeyRecord],
    prices: Mapping[str, Mapping[str, PriceRecord]] | None = None,
    version: int = 1,
    rules: RulesRecord | None = None,
) -> None:
    """A snapshot as the recorder writes it."""
    encode = msgspec.msgpack.encode
    hashed = {hashlib.sha256(text.encode()).digest(): record for text, record in keys.items()}
    bodies = {"keys": encode(hashed), "prices": encode(prices or {}), "rules": encode(rules or RulesRecord())}
    sections = {name: Section(hashlib.sha256(body).hexdigest(), body) for name, body in bodies.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_bytes(encode(Snapshot(version, time.time_ns() // 1000, sections)))
    beside.replace(path)


def publish_counters(path: Path, rules: RulesRecord, books: Books | None = None) -> None:
    """The counters' file as the recorder writes it: every budget is built; `books` besides."""
    books = books or Books()
    ready = tuple(sorted({rule.id for rule in rules.budgets} | books.ready))
    body = msgspec.msgpack.encode([(*place, *base) for place, base in books.bases.items()])
    shards = ((1, len(body)),)
    head = CountersHead(secrets.token_hex(4), time.time_ns() // 1000, ready, dict(books.positions), shards)
    encoded = msgspec.msgpack.encode(head)
    beside = path.with_suffix(".new")
    beside.write_bytes(MAGIC + HEAD_LENGTH.pack(len(encoded)) + encoded + body)
    beside.replace(path)


def synced(house: House) -> House:
    """Its index of stored objects is filled, as by a recorder that has none to tell of."""
    index = ObjectIndex(house.settings.data_dir / "objects.db")
    index.note(SYNCED_TO, 1)
    index.close()
    return house


class Reply:
    """A whole answer, or as much of it as came before the connection broke."""

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes, is_whole: bool) -> None:
        self.status, self.raw_headers, self.body, self.is_whole = status, headers, body, is_whole
        self.headers = {name.lower(): value for name, value in headers}

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers["x-tt-request-id"]


class House:
    """`deployments` by name, all at the scripted upstream unless they say otherwise."""

    def __init__(self, directory: Path, upstream: Upstream, **more: Any) -> None:
        self.upstream = upstream
        self.directory = directory
        self.options: GatewayOptions = more.pop("options", GatewayOptions())
        self.keys: dict[str, KeyRecord] = more.pop("keys", {KEY: key_record()})
        self.prices: Any = more.pop("prices", None)
        self.rules: RulesRecord = more.pop("rules", RulesRecord())
        self.books: Books | None = more.pop("books", None)
        self.settings = settings(directory / "data", **more.pop("settings", {}))
        exact: dict[str, tuple[Deployment, ...]] = more.pop("exact", None) or {"gpt": (self.deployment("gpt"),)}
        table = ModelTable(exact, more.pop("aliases", {}), more.pop("wildcards", {}), more.pop("env_offers", {}))
        self.configuration = Configuration(self.settings, table, self.options, **more)
        self.port = 0
        self.app: Gateway | None = None
        self._server: server.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def deployment(self, name: str, **more: Any) -> Deployment:
        fields: dict[str, Any] = {
            "name": name, "provider": "openai", "model": "upstream-name", "api_base": self.upstream.url,
            "api_key": Secret(UPSTREAM_KEY), "rates": RATES,
        }  # fmt: skip
        return Deployment(**(fields | more))

    def publish(self, version: int = 1) -> None:
        publish(paths.snapshot_path(self.settings), self.keys, self.prices, version, self.rules)
        publish_counters(paths.counters_path(self.settings), self.rules, self.books)

    def start(self, publish_first: bool = True) -> House:
        if publish_first:
            self.publish()
        self._thread.start()
        assert self._up.wait(10), "the gateway did not start"
        return self

    def stop(self, timeout_s: float = 10) -> None:
        if self._thread.is_alive():
            assert self._loop is not None and self._server is not None
            self._loop.call_soon_threadsafe(self._server.handle_exit, 2, None)
            self._thread.join(timeout_s)
            assert not self._thread.is_alive(), "the gateway did not end"
            leaks.kept(self.directory)

    def call(
        self,
        body: Any = None,
        path: str = "/v1/chat/completions",
        method: str = "POST",
        key: str | None = KEY,
        **headers: str,
    ) -> Reply:
        """One request; header names may be written with underscores."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent.setdefault("authorization", f"Bearer {key}")
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            try:
                return Reply(answer.status, answer.getheaders(), answer.read(), True)
            except http.client.IncompleteRead as cut:
                return Reply(answer.status, answer.getheaders(), cut.partial, False)
        finally:
            connection.close()

    def chat(self, model: str = "gpt", **fields: Any) -> Reply:
        headers = fields.pop("headers", {})
        messages = [{"role": "user", "content": "Say hello to the test"}]
        return self.call({"model": model, "messages": messages, **fields}, **headers)

    def records(self) -> list[Record]:
        found: list[Record] = []
        for segment in sorted(paths.journal_dir(self.settings).rglob("*")):
            data = segment.read_bytes() if segment.is_file() else b""
            if data.startswith(framing.MAGIC):
                payloads, _ = framing.split(data[len(framing.MAGIC) :])
                found += [framing.decode(payload) for _, payload in payloads]
        return found

    def rows(self) -> list[End]:
        return [record for record in self.records() if isinstance(record, End)]

    def row(self) -> End:
        """The one row, once it is there; fails if there are more."""
        rows: list[End] = wait_until(self.rows, "a row in the journal")
        assert len(rows) == 1, rows
        assert len([record for record in self.records() if isinstance(record, Open)]) == 1
        return rows[0]

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=server.loop_factory()) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        listener = server.listen(Address("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        async with server.gateway(self.configuration) as self.app:
            self._server = server.make_server(self.app)
            self._up.set()
            await self._server.serve(sockets=[listener])
