"""Why an upstream could not be reached: for the client in words, for the log with its provider and host."""

from __future__ import annotations

import logging
import time

import aiohttp

from token_tracker.proxy.upstreams import Target

log = logging.getLogger("token_tracker.gateway")

SAID_EVERY_S = 10.0


class Complaints:
    """Says at most every 10 s of one deployment that it cannot be reached, and how often that was."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str], tuple[float, int]] = {}  # when it was said, and how often it was not

    def say(self, target: Target, why: str) -> None:
        deployment, now_s = target.deployment, time.monotonic()
        host = target.url.host if target.url is not None else ""
        said_at_s, unsaid = self._since.get((deployment.name, str(host)), (float("-inf"), 0))
        if now_s - said_at_s < SAID_EVERY_S:
            self._since[deployment.name, str(host)] = said_at_s, unsaid + 1
            return
        self._since[deployment.name, str(host)] = now_s, 0
        more = f" ({unsaid} more times since this was last said)" if unsaid else ""
        log.warning("%s (%s at %s) cannot be reached: %s%s", deployment.name, deployment.provider, host, why, more)


def why_unreachable(error: BaseException | None) -> str:
    """In a few words, without an address; None: the bound for connecting passed."""
    if error is None:
        return "connecting took too long"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name was not found"
    if isinstance(error, aiohttp.ClientSSLError):
        return "TLS could not be agreed on"
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError):
        return "it refused the connection"
    return "no connection could be made"
