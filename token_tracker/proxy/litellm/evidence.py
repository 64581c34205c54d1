"""The worker's end of the evidence socket: LiteLLM's callback reports here, and the call that waits takes it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import stat
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import msgspec

from token_tracker.proxy.litellm.report import WORKER_DIGITS, Evidence, from_line

__all__ = ["Evidence", "EvidenceServer"]

log = logging.getLogger(__name__)

LINE_MAX_BYTES = 1 << 16
EARLY_MAX = 4096  # evidence may arrive before the call asks; so much is remembered, the oldest goes first
SETTLING_S = 5.0  # a worker that just starts has bound its socket and does not listen yet: no younger one is removed
_OUR_NAME = re.compile(rf"[0-9a-f]{{{WORKER_DIGITS}}}\.sock")


class EvidenceServer:
    """Listens on the Unix socket `path`; one per gateway worker, any number of connections.

    `unclaimed` counts evidence that nobody waited for: most calls know their usage from the answer itself, so this is
    no error. `malformed` counts lines that were no evidence.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._server: asyncio.Server | None = None
        self._waiting: dict[str, asyncio.Future[Evidence]] = {}
        self._early: OrderedDict[str, Evidence] = OrderedDict()
        self._connections: set[asyncio.StreamWriter] = set()
        self.heard: Callable[[Evidence], None] | None = None  # told of each, whoever waits for it; must not raise
        self.received = self.unclaimed = self.malformed = 0

    async def start(self) -> None:
        """Raises OSError if the socket cannot be made. Sockets left by killed workers are removed."""
        self._path.unlink(missing_ok=True)
        remove_dead_sockets(self._path.parent)
        self._server = await asyncio.start_unix_server(self._serve, self._path, limit=LINE_MAX_BYTES)
        self._path.chmod(0o600)

    async def wait(self, call_id: str, timeout_s: float) -> Evidence | None:
        """The evidence of a call, whether it came already or comes within `timeout_s`; None if it does not. Given
        once."""
        early = self._early.pop(call_id, None)
        if early is not None:
            return early
        future: asyncio.Future[Evidence] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = future
        try:
            return await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            return None
        finally:
            if self._waiting.get(call_id) is future:
                del self._waiting[call_id]

    async def close(self) -> None:
        """Stop listening and remove the socket; those who still wait get None at their time-out."""
        if self._server is not None:
            self._server.close()
            for connection in list(self._connections):
                connection.close()
            await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while line := await reader.readline():
                self._take(line)
        except (OSError, ValueError):  # the child died, or sent a line beyond the limit
            log.warning("an evidence connection broke")
        finally:
            self._connections.discard(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _take(self, line: bytes) -> None:
        try:
            evidence = from_line(line)
        except (msgspec.DecodeError, ValueError):
            self.malformed += 1
            return
        self.received += 1
        if self.heard is not None:
            self.heard(evidence)
        future = self._waiting.get(evidence.call_id)
        if future is not None and not future.done():
            future.set_result(evidence)
            return
        self._early[evidence.call_id] = evidence
        if len(self._early) > EARLY_MAX:
            self._early.popitem(last=False)
            self.unclaimed += 1


def remove_dead_sockets(directory: Path) -> None:
    """Remove the evidence sockets of `directory` that nobody listens on: a killed worker cannot remove its own."""
    for path in directory.iterdir():
        with contextlib.suppress(OSError):  # somebody else may be removing it
            if _OUR_NAME.fullmatch(path.name) and _is_dead(path):
                path.unlink()


def _is_dead(path: Path) -> bool:
    status = path.lstat()
    if not stat.S_ISSOCK(status.st_mode) or abs(time.time() - status.st_mtime) < SETTLING_S:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False
