"""A hosts file for one gateway process: every name under `.example` is this machine.

Put on PYTHONPATH, Python imports it at its start. An upstream at a loopback address is local and takes no price of the
price file; one at a name of the internet does, and this is how a test has such a name without asking any server.
"""

import sys
from typing import Any


def serve_names() -> None:
    from aiohttp import resolver

    ask = resolver.DefaultResolver.resolve

    async def resolve(self: Any, host: str, port: int = 0, *arguments: Any, **options: Any) -> Any:
        return await ask(self, "127.0.0.1" if host.endswith(".example") else host, port, *arguments, **options)

    resolver.DefaultResolver.resolve = resolve  # type: ignore[method-assign]


if "gateway" in sys.orig_argv:
    serve_names()
