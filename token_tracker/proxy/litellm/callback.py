"""LiteLLM's success callback: one small line of evidence per finished call, to the worker that owns the call."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from token_tracker.proxy.litellm.payload import read_evidence, read_failure
from token_tracker.proxy.litellm.report import Evidence, socket_path, to_line, worker_of
from token_tracker.proxy.litellm.witness import witness

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 1.0
WORKERS_MAX = 64  # connections kept; incarnations of dead workers leave at their first failed write
BUFFER_MAX_BYTES = 1 << 20  # of lines that a worker does not take; beyond, evidence is dropped


class EvidenceCallback(CustomLogger):  # type: ignore[misc]  # LiteLLM's class is untyped
    """Never raises, never waits for a worker that does not read. A failure event is no end of a call (LiteLLM may
    retry), so only success is reported; the gateway sees the rest itself."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        self._writers: dict[str, asyncio.StreamWriter] = {}
        self._connecting = asyncio.Lock()
        self.dropped = 0

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """LiteLLM calls this by keyword: the four names are part of its interface."""
        try:
            evidence = read_evidence(kwargs)
            if evidence is not None:
                await self._send(evidence)
        except Exception as error:  # LiteLLM would swallow it without a word
            self._drop(f"{type(error).__name__} while reporting a call")

    async def async_post_call_failure_hook(
        self, request_data: Any, original_exception: Any, user_api_key_dict: Any, traceback_str: Any = None
    ) -> None:
        """Once per failed request, on its way out: keeps what the upstream said for the guard's header."""
        seen = witness.get(None)
        failure = read_failure(original_exception)
        if seen is not None and failure is not None:
            seen.failures.append(failure)

    async def close(self) -> None:
        """Hand what is buffered to the workers; they are on this machine, so this is a matter of milliseconds."""
        writers, self._writers = list(self._writers.values()), {}
        for writer in writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)

    async def _send(self, evidence: Evidence) -> None:
        worker = worker_of(evidence.call_id)
        writer = await self._writer(worker) if worker else None
        if writer is None:
            self._drop(f"worker {worker} is gone" if worker else "a call without an id of ours")
        elif writer.transport.get_write_buffer_size() > BUFFER_MAX_BYTES:
            self._drop(f"worker {worker} does not read")
        else:
            writer.write(to_line(evidence))

    async def _writer(self, worker: str) -> asyncio.StreamWriter | None:
        async with self._connecting:
            known = self._writers.get(worker)
            if known is not None and not known.is_closing():
                return known
            self._writers.pop(worker, None)
            path = socket_path(self._directory, worker)
            try:
                _, writer = await asyncio.wait_for(asyncio.open_unix_connection(path), CONNECT_TIMEOUT_S)
            except (OSError, TimeoutError):
                return None
            self._forget_oldest()
            self._writers[worker] = writer
            return writer

    def _forget_oldest(self) -> None:
        while len(self._writers) >= WORKERS_MAX:
            oldest = next(iter(self._writers))
            self._writers.pop(oldest).close()

    def _drop(self, reason: str) -> None:
        self.dropped += 1
        log.warning("evidence dropped: %s (%d so far)", reason, self.dropped)
