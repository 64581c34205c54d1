"""The echo provider that comes with the product: OpenAI- and Anthropic-compatible, with true word counts."""

from __future__ import annotations

import os
from urllib.parse import urlsplit


def main() -> None:
    """Serve until SIGTERM or SIGINT, on the address in TT_DEMO_URL ('http://127.0.0.1:8123')."""
    import uvicorn

    from token_tracker.demo.app import app

    address = urlsplit(os.environ["TT_DEMO_URL"])
    uvicorn.run(
        app,
        host=address.hostname or "127.0.0.1",
        port=address.port or 80,
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
