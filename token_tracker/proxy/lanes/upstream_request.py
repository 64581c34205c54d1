"""What either lane prepares for an upstream, and the exchange sends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from yarl import URL


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
        if self.upload is not None:
            return self.upload.sent_bytes
        return len(self.body) if isinstance(self.body, bytes) else 0

    @property
    def upload(self) -> Upload | None:
        """The body, where it goes up as it comes."""
        return None if self.body is None or isinstance(self.body, bytes) else self.body
