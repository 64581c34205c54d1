"""What the exchange asks of a lane whose answers are not the upstream's own bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Shaper(Protocol):
    """What makes one translated answer the client's: undoes the traces of the process in between. The direct lane has
    none and changes nothing. `usage_is_estimate`: the process in between counted where the upstream did not."""

    usage_is_estimate: bool

    def is_unbilled(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Of an error: whether the upstream itself refused, or was not reached."""

    def answer_status(self, status: int, headers: Iterable[tuple[bytes, bytes]] = ()) -> int: ...

    def answer_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]: ...

    def answer_body(self, body: bytes) -> bytes: ...

    def reshape_error(
        self, family: str, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, request_id: str
    ) -> bytes: ...

    def feed(self, chunk: bytes) -> bytes: ...

    def close(self) -> bytes: ...
