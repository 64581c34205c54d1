"""What either lane prepares for an upstream, and the exchange sends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from yarl import URL


@runtime_checkable
class Upload(Protocol):
    """A body on its way up, of which `sent_bytes` have gone. `is_broken_off`: the client did not send the rest."""

    is_broken_off: bool
    sent_bytes: int

    def __aiter__(self) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """One request, ready to be sent; header names in lower case."""

    method: str
    url: URL
    headers: list[tuple[str, str]]
    body: bytes | Upload | None

    @property
    def sent_bytes(self) -> int:
        """Of its body, once it is on its way."""
        if isinstance(self.body, Upload):
            return self.body.sent_bytes
        return len(self.body) if self.body else 0
