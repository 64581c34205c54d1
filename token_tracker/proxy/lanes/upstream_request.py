"""What either lane prepares for an upstream, and the exchange sends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from yarl import URL


@runtime_checkable
class Upload(Protocol):
    """A body on its way up. `is_broken_off`: the client did not send the rest of it."""

    is_broken_off: bool

    def __aiter__(self) -> AsyncIterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """One request, ready to be sent; header names in lower case."""

    method: str
    url: URL
    headers: list[tuple[str, str]]
    body: bytes | Upload | None
