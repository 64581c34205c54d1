"""Ports of 127.0.0.1 for servers that tests start.

They lie below those that the system gives to outgoing connections (Linux: from 32768), where a port that was free a
moment ago may be taken by anybody's next connection; and no process is given one twice.
"""

from __future__ import annotations

import contextlib
import random
import socket

_LOWEST, _HIGHEST = 10_000, 32_000
_random = random.SystemRandom()
_given: set[int] = set()


def free_port(neighbours: int = 1) -> int:
    """The first of so many neighbours that are free now."""
    while True:
        first = _random.randrange(_LOWEST, _HIGHEST)
        ports = range(first, first + neighbours)
        if _given.isdisjoint(ports) and all(_is_free(port) for port in ports):
            _given.update(ports)
            return first


def free_ports(count: int) -> list[int]:
    return [free_port() for _ in range(count)]


def _is_free(port: int) -> bool:
    with socket.socket() as listener, contextlib.suppress(OSError):
        listener.bind(("127.0.0.1", port))
        return True
    return False
