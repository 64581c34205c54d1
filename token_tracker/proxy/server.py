"""One gateway worker: builds the application from configuration, journal and snapshot, and serves until it is told to
stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from types import FrameType

import uvicorn

from token_tracker.config import paths
from token_tracker.config.encryption import Keyring
from token_tracker.config.load import ConfigurationError, load, load_again
from token_tracker.config.logs import write_logs
from token_tracker.config.values import Address, Configuration, Settings, Tls
from token_tracker.proxy.admission import Admission
from token_tracker.proxy.app import Gateway
from token_tracker.proxy.books.counters_reader import CountersReader
from token_tracker.proxy.books.journal import Journal
from token_tracker.proxy.books.object_index import ObjectIndex, index_path
from token_tracker.proxy.books.snapshot import SnapshotReader
from token_tracker.proxy.books.status import recorder_problems, status_path
from token_tracker.proxy.call import CallIds
from token_tracker.proxy.gate.gate import Gate
from token_tracker.proxy.gate.memory import MemoryStore
from token_tracker.proxy.gate.redis import RedisStore
from token_tracker.proxy.gate.redis_feed import WrongEvictionPolicy
from token_tracker.proxy.health import Health, LiteLLMChild
from token_tracker.proxy.ingest import Ingest
from token_tracker.proxy.lanes.floor import Floor
from token_tracker.proxy.lanes.sending import Pool
from token_tracker.proxy.lanes.translated import TranslatedLane
from token_tracker.proxy.litellm.evidence import EvidenceServer
from token_tracker.proxy.models import ModelFacts
from token_tracker.proxy.objects.calls import ObjectCalls
from token_tracker.proxy.objects.desk import Desk as ObjectDesk
from token_tracker.proxy.permits.desk import Desk
from token_tracker.proxy.permits.settling import SettlingJournal
from token_tracker.proxy.permits.upkeep import Upkeep
from token_tracker.proxy.prices import PriceBook
from token_tracker.proxy.protocol import GatewayProtocol
from token_tracker.proxy.reloading import Hangups, Reloading
from token_tracker.proxy.upstreams import Upstreams
from token_tracker.proxy.watch.call_log import CallLog
from token_tracker.proxy.watch.metrics_port import metrics_port
from token_tracker.proxy.watch.refusal_counts import RefusalCounts
from token_tracker.proxy.watch.watch import Watch
from token_tracker.proxy.watch.workers import told_together

log = logging.getLogger("token_tracker.gateway")

EXIT_CONFIGURATION = 2
EXIT_PORT_IN_USE = 4
INTERRUPT_GRACE_S = 3.0  # Ctrl-C: somebody waits at a terminal; SIGTERM: gateway.shutdown_s
# Below the shortest keep-alive of common servers (uvicorn, node: 5 s): a request on a connection that the upstream is
# just closing fails after it was sent, and such a call may not be repeated.
KEEPALIVE_S = 4.0


def main(*, is_supervised: bool = False) -> int:
    """Run one worker until SIGTERM or SIGINT; gives the exit code. `is_supervised`: others run with what it is
    configured by, so that a mistake which is made in the file later does not keep it from starting again."""
    hangups = Hangups()
    signal.signal(signal.SIGHUP, hangups.note)
    write_logs()
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # a broken stream is journalled, not a server's error
    try:
        configuration, problems = load_again() if is_supervised else (load(), ())
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIGURATION
    write_logs(configuration.settings.log_format, never_wait=True)
    address = configuration.settings.proxy
    try:
        listener = listen(address, is_shared=configuration.settings.proxy_workers > 1)
    except OSError as error:
        print(
            f"The gateway cannot listen on {address.host}:{address.port}: {error.strerror or error}. "
            "Stop what uses the port, or set TOKEN_TRACKER_PROXY_PORT.",
            file=sys.stderr,
        )
        return EXIT_PORT_IN_USE
    for name in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again when all is done: then they say nothing
        signal.signal(name, _already_handled)
    gc.collect()
    gc.freeze()  # what is there now stays: the collector need not look at it again
    gc.set_threshold(20_000, 20, 50)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        try:
            runner.run(serve(configuration, listener, hangups, problems))
        except (WrongEvictionPolicy, ConfigurationError) as error:
            print(error, file=sys.stderr)
            return EXIT_CONFIGURATION
    return 0


def _already_handled(_signal: int, _frame: FrameType | None) -> None:
    return None


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where it exists (not on Windows)."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def listen(address: Address, *, is_shared: bool = False) -> socket.socket:
    """A listening socket. `is_shared`: other workers listen there as well; only then, as it would hide a second
    installation on the same port. Raises OSError."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((address.host, address.port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


async def serve(
    configuration: Configuration, listener: socket.socket, hangups: Hangups, problems: tuple[str, ...] = ()
) -> None:
    """Serve on `listener` until a signal; every call has its row before this returns. `problems`: why it is not the
    configuration as it now stands."""
    async with gateway(configuration) as app:
        for problem in problems:
            log.error("started with the last configuration that could be used: %s", problem)
        app.health.config_problems = problems
        host, port = listener.getsockname()[:2]
        hangups.hand_to(app.begin_reload)
        log.info("listening on %s:%s", host, port)
        await make_server(app, configuration.settings.proxy.tls).serve(sockets=[listener])
        log.info("stopped")


def make_server(app: Gateway, tls: Tls | None = None) -> Server:
    config = uvicorn.Config(
        app,
        http=GatewayProtocol,
        ws="none",
        lifespan="off",
        access_log=False,
        proxy_headers=False,
        date_header=False,
        server_header=False,
        log_config=None,
        timeout_keep_alive=75,
        ssl_certfile=str(tls.certificate) if tls else None,
        ssl_keyfile=str(tls.key) if tls else None,
    )
    return Server(config, app)


class Server(uvicorn.Server):
    """uvicorn's server with our way to end: accept no more, let calls finish for a while, then cut and book them."""

    def __init__(self, config: uvicorn.Config, app: Gateway) -> None:
        super().__init__(config)
        self._app = app
        self._loop = asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM: calls get `shutdown_s`; SIGINT: 3 s at most; a second signal: cut now."""
        grace_s = self._app.floor.options.shutdown_s
        if self.should_exit:
            grace_s = 0.0
        elif sig == signal.SIGINT:
            grace_s = min(grace_s, INTERRUPT_GRACE_S)
        self.should_exit = True
        self._app.health.stopping = True
        self._loop.call_soon_threadsafe(self._loop.call_later, grace_s, self._app.stop_calls)


@contextlib.asynccontextmanager
async def gateway(configuration: Configuration) -> AsyncIterator[Gateway]:
    """The application with everything it lives from, and its orderly end."""
    settings = configuration.settings
    journal = Journal(paths.journal_dir(settings), paths.node_id(settings), settings.journal_sync_ms)
    snapshot = SnapshotReader(paths.snapshot_path(settings), Keyring(paths.encryption_keys(settings)))
    evidence = EvidenceServer(paths.runtime_dir(settings) / f"{journal.incarnation}.sock")
    await evidence.start()
    pool = Pool(KEEPALIVE_S)
    store = make_store(settings, journal.incarnation)
    gate = Gate(store, journal.incarnation)
    objects = ObjectDesk(journal, ObjectIndex(index_path(settings)))
    app = build(configuration, journal, snapshot, evidence, pool, objects, gate)
    desk = app.admission.desk  # one for the worker's whole life: upkeep tells it the rules

    def furnish(configuration: Configuration) -> Gateway:
        return build(configuration, journal, snapshot, evidence, pool, objects, gate, desk)

    reloading = Reloading(app, configuration, furnish, load)
    app.begin_reload = reloading.begin
    watch = app.watch = Watch(
        in_flight=lambda: app.floor.in_flight,
        snapshot_made_at_us=lambda: snapshot.made_at_us,
        status=status_path(settings),
        reloads=lambda: (reloading.count, not app.health.config_problems),
        refusals=(refusals := RefusalCounts(journal.refused, journal.incarnation)),
        calls=CallLog(settings.log_format) if settings.log_calls else None,
        gate=gate,
    )
    journal.heard, evidence.heard = watch.ended, watch.comparison.reported
    counters = CountersReader(paths.counters_path(settings)) if settings.redis_url is None else None

    def follow_credentials() -> None:
        app.admission.upstreams.take_credentials(snapshot.credentials)

    app.health.unavailable = lambda: app.admission.upstreams.unavailable
    upkeep = Upkeep(desk, snapshot, counters, paths.journal_dir(settings), follow_credentials)
    upkeep.begin()
    if isinstance(store, MemoryStore):
        store.recovered()
    else:
        store.on_lost = gate.place_again
        app.health.store = store
        await store.start()
    refreshing = asyncio.create_task(upkeep.run())
    counting = asyncio.create_task(refusals.run())
    try:
        async with (
            metrics_port(settings.metrics, watch.metrics, settings.proxy_workers),
            told_together(paths.runtime_dir(settings), watch.metrics, settings.proxy_workers) as app.metrics,
        ):
            yield app
    finally:
        refreshing.cancel()
        counting.cancel()
        app.stop_calls()
        await asyncio.gather(*app.floor.background, return_exceptions=True)
        await evidence.close()
        await pool.close()
        refusals.flush()
        objects.close()
        await store.close()
        journal.close()
        if watch.calls is not None:
            watch.calls.close()


def make_store(settings: Settings, incarnation: str) -> MemoryStore | RedisStore:
    """Where this worker counts: with others in Redis, else alone."""
    if settings.redis_url is None:
        return MemoryStore(incarnation)
    return RedisStore(settings.redis_url.value, incarnation, namespace=settings.redis_namespace)


def build(
    configuration: Configuration,
    journal: Journal,
    snapshot: SnapshotReader,
    evidence: EvidenceServer,
    pool: Pool,
    objects: ObjectDesk,
    gate: Gate,
    desk: Desk | None = None,
) -> Gateway:
    """Wire the rooms together. `desk`: the one that there is, where a changed configuration is taken over."""
    options = configuration.gateway
    demo_url = os.environ.get("TT_DEMO_URL", "")
    upstreams = Upstreams(
        configuration.models, options, demo_url, configuration.routing, configuration.off, snapshot.credentials
    )
    settling = SettlingJournal(journal, gate, journal.incarnation)
    child_url, child_key = os.environ.get("TT_LITELLM_URL"), os.environ.get("TT_LITELLM_KEY")
    prices = PriceBook(configuration.pricing, snapshot)
    if desk is None:
        desk = Desk(gate, prices, ModelFacts())
    desk.prices = prices
    admission = Admission(
        keys=snapshot,
        upstreams=upstreams,
        prices=prices,
        journal=settling,
        translation=TranslatedLane(child_url, child_key, demo_url)
        if child_url and child_key and configuration.needs_litellm
        else None,
        max_body_bytes=configuration.settings.max_body_bytes,
        silence_s=options.client_stall_s,
        desk=desk,
    )
    stored = ObjectCalls(admission, objects)
    admission = replace(admission, stored=stored)
    child = LiteLLMChild(pool.session, child_url, configuration.needs_litellm)
    recorder = status_path(configuration.settings)
    health = Health(
        configuration, snapshot, child, lambda: recorder_problems(recorder, time.time_ns() // 1000), journal.problem
    )
    floor = Floor(pool, settling, options, evidence)
    settings = configuration.settings
    ingest = Ingest(
        keys=snapshot,
        prices=prices,
        journal=journal,
        max_body_bytes=settings.max_body_bytes,
        silence_s=options.client_stall_s,
        retention_days=settings.retention_days,
    )
    return Gateway(floor, admission, health, CallIds(journal.incarnation), ingest, stored)
