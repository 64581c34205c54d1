"""Ports: are those that are configured free, which others can be had, and does anybody answer there."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Mapping
from functools import cache

from token_tracker.config.values import Address

PROBE_TIMEOUT_S = 0.5
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def check_free(addresses: Mapping[str, Address]) -> list[str]:
    """Problems, by component ('PROXY', …): each port is bound once, without SO_REUSEPORT, which would hide a second
    installation on it."""
    problems = (_problem(component, address) for component, address in addresses.items())
    return [problem for problem in problems if problem]


def _problem(component: str, address: Address) -> str | None:
    setting = f"TOKEN_TRACKER_{component}"
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # Connections that a former run left in TIME_WAIT do not matter; a listening socket still does.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
            probe.listen(1)
    except OSError as error:
        return _explain(error, address, setting)
    return None


def _explain(error: OSError, address: Address, setting: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {address.port} on {address.host} is in use by another program: stop it, or choose another port with "
            f"{setting}_PORT."
        )
    if error.errno == errno.EACCES:
        return f"Port {address.port} needs special rights: choose one above 1023 with {setting}_PORT."
    reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
    return f"{setting}_HOST '{address.host}' is no address of this machine ({reason})."


def reserve_loopback_port() -> int:
    """A port of 127.0.0.1 for a child that starts later, and again. On Linux a socket that listens to
    nobody keeps other programs off it until this process ends."""
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        port = int(keeper.getsockname()[1])
        if os.uname().sysname == "Linux":  # elsewhere the child could not listen beside it
            keeper.detach()
        return port


@cache
def _anybody() -> ssl.SSLContext:
    """For a question whether our own process answers; who it is need not be proven."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def answers(address: Address, path: str) -> bool:
    """Whether a GET of `path` there is answered with 200, within half a second."""
    host = _EVERYWHERE.get(address.host, address.host)
    try:
        with socket.create_connection((host, address.port), PROBE_TIMEOUT_S) as plain:
            connection = _anybody().wrap_socket(plain) if address.tls else plain
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            return connection.recv(64).startswith((b"HTTP/1.1 200", b"HTTP/1.0 200"))
    except OSError:
        return False
