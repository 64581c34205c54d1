"""The echo provider that comes with the product: OpenAI- and Anthropic-compatible, with true word counts."""

from __future__ import annotations

import os
import sys
from urllib.parse import urlsplit


def main() -> None:
    """Serve until SIGTERM or SIGINT, on the address in TT_DEMO_URL ('http://127.0.0.1:8123').

    Exits with 2 and the remedy where that variable is no such address.
    """
    import uvicorn

    from token_tracker.demo.app import app

    address = urlsplit(os.environ.get("TT_DEMO_URL", ""))
    if not address.hostname or not address.port:
        print("TT_DEMO_URL must say where to listen, such as http://127.0.0.1:8123.", file=sys.stderr)
        raise SystemExit(2)
    uvicorn.run(
        app,
        host=address.hostname,
        port=address.port,
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
