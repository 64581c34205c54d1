"""/health, /health/live and /health/ready: whether this worker can serve, and if not fully, why."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp

from token_tracker import __version__
from token_tracker.config.values import Configuration
from token_tracker.proxy.auth import Keys

CHILD_CHECK_S = 1.0  # the LiteLLM child's answer is remembered so long
CHILD_TIMEOUT_S = 2.0
START_S = 60.0  # LiteLLM loads thousands of modules; a machine that is busy takes its time
PROBLEM_CHARACTERS = 500


@dataclass(slots=True)
class LiteLLMChild:
    """Whether the translating process answers. `needed`: some configured deployment can be served only by it."""

    session: aiohttp.ClientSession
    url: str | None
    needed: bool
    since_s: float = field(default_factory=time.monotonic)  # from when on it may be starting
    was_seen: bool = False  # it answered once
    _checked_at_s: float = float("-inf")
    _answers: bool = False

    def after(self, before: LiteLLMChild) -> LiteLLMChild:
        """The same process, as a changed configuration needs it: what is known of it stays."""
        if before.needed:
            self.since_s, self.was_seen = before.since_s, before.was_seen
        return self

    async def problem(self) -> str | None:
        if not self.needed:
            return None
        if self.url is None:
            return "models that need LiteLLM are configured, but its process was not started"
        if time.monotonic() - self._checked_at_s > CHILD_CHECK_S:
            self._answers = await self._ask()
            self._checked_at_s = time.monotonic()
        if self._answers:
            self.was_seen = True
            return None
        waited_s = time.monotonic() - self.since_s
        if self.was_seen:
            return "the LiteLLM process does not answer; translated calls are refused until it is back"
        if waited_s < START_S:
            return f"the LiteLLM process is still starting ({waited_s:.0f} s so far, it takes some 10 to 30)"
        return f"the LiteLLM process does not answer; it has not since the start {waited_s:.0f} s ago"

    async def _ask(self) -> bool:
        timeout = aiohttp.ClientTimeout(total=CHILD_TIMEOUT_S)
        try:
            async with self.session.get(f"{self.url}/health/liveliness", timeout=timeout) as response:
                return response.status == 200
        except (aiohttp.ClientError, OSError):
            return False


class SharedStore(Protocol):
    @property
    def problem(self) -> str:
        """Why it is away, '' while it is not."""


@dataclass(slots=True)
class Health:
    """Answers of the health routes. `recorder_problems` gives what the recorder says of itself, in words,
    `journal_problem` what keeps calls from being written."""

    configuration: Configuration
    keys: Keys
    child: LiteLLMChild
    recorder_problems: Callable[[], list[str]]
    journal_problem: Callable[[], str]
    store: SharedStore | None = None  # that gateways count in together
    stopping: bool = False
    config_problems: tuple[str, ...] = ()  # of a changed configuration that cannot be used
    needs_restart: tuple[str, ...] = ()  # settings that changed
    unavailable: Callable[[], Iterable[tuple[str, str]]] = tuple  # deployments without their key, and why
    started_at_s: float = field(default_factory=time.monotonic)

    async def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        """Status and JSON of one of the three routes."""
        if path == "/health/live":
            return 200, {"status": "alive"}
        blocking, notes = await self._findings()
        status = "ready" if not blocking else "not ready"
        answer: dict[str, Any] = {"status": status, "reasons": blocking + notes}
        if path == "/health":
            answer |= {"version": __version__, "uptime_s": round(time.monotonic() - self.started_at_s)}
            return 200, answer
        return (503 if blocking else 200), answer

    async def _findings(self) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
        """What keeps calls from being served, and what does not but should be known."""
        blocking: list[dict[str, str]] = []
        if self.stopping:
            blocking.append(_reason("stopping", "the gateway is shutting down"))
        if not self.keys.made_at_us:
            blocking.append(_reason("no_snapshot", "the recorder has published no virtual keys yet"))
        if self.journal_problem():  # its words name a path
            blocking.append(_reason("journal_unavailable", "the journal cannot be written (is the disk full?)"))
        notes = [_reason("recorder", problem) for problem in self.recorder_problems()]
        if self.store is not None and self.store.problem:
            notes.append(_reason("store", f"REDIS_URL: {self.store.problem}; rules decide by their on_store_error"))
        if (problem := await self.child.problem()) is not None:
            notes.append(_reason("litellm", problem))
        notes += [_reason("configuration", f"not in use: {each}"[:PROBLEM_CHARACTERS]) for each in self.config_problems]
        if self.needs_restart:
            names = ", ".join(self.needs_restart)
            notes.append(_reason("restart", f"these settings changed and act only after a restart: {names}"))
        notes += [_reason("switched_off", f"{name}: {why}") for name, why in self.configuration.off]
        notes += [_reason("credential", f"{name}: {why}") for name, why in self.unavailable()]
        return blocking, notes


def _reason(code: str, message: str) -> dict[str, str]:
    return {"code": code, "message": message}
