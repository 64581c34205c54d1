"""/health, /health/live and /health/ready: whether this worker can serve, and if not fully, why."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp

from token_tracker import __version__
from token_tracker.config.values import Configuration
from token_tracker.proxy.auth import Keys

CHILD_CHECK_S = 1.0  # the LiteLLM child's answer is remembered so long
CHILD_TIMEOUT_S = 2.0


@dataclass(slots=True)
class LiteLLMChild:
    """Whether the translating process answers. `needed`: some configured deployment can be served only by it."""

    session: aiohttp.ClientSession
    url: str | None
    needed: bool
    _checked_at_s: float = float("-inf")
    _answers: bool = False

    async def problem(self) -> str | None:
        if not self.needed:
            return None
        if self.url is None:
            return "models that need LiteLLM are configured, but its process was not started"
        if time.monotonic() - self._checked_at_s > CHILD_CHECK_S:
            self._answers = await self._ask()
            self._checked_at_s = time.monotonic()
        return None if self._answers else "the LiteLLM process does not answer (it may still be starting)"

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
    """Answers of the health routes. `recorder_problems` gives what the recorder says of itself, in words."""

    configuration: Configuration
    keys: Keys
    child: LiteLLMChild
    recorder_problems: Callable[[], list[str]]
    store: SharedStore | None = None  # that gateways count in together
    stopping: bool = False
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
        notes = [_reason("recorder", problem) for problem in self.recorder_problems()]
        if self.store is not None and self.store.problem:
            notes.append(_reason("store", f"REDIS_URL: {self.store.problem}; rules decide by their on_store_error"))
        if (problem := await self.child.problem()) is not None:
            notes.append(_reason("litellm", problem))
        notes += [_reason("switched_off", f"{name}: {why}") for name, why in self.configuration.off]
        return blocking, notes


def _reason(code: str, message: str) -> dict[str, str]:
    return {"code": code, "message": message}
