"""gunicorn as the server of the API and of the dashboard: one process of threads, nothing written elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication

from token_tracker.config.values import Address
from token_tracker.supervisor.web_worker import Worker

THREADS = 8  # slow readers of exports wait in them
GRACE_S = 2  # for requests under way; all processes together have 5 s


def serve(make: Callable[[], Any], address: Address, directory: Path) -> None:
    """Serve the WSGI application that `make` gives, until SIGTERM. `directory`: for gunicorn's heartbeat file.

    The master imports nothing of ours; it keeps the port while it replaces a worker that died.
    """
    tls = {"certfile": str(address.tls.certificate), "keyfile": str(address.tls.key)} if address.tls else {}
    host = f"[{address.host}]" if ":" in address.host else address.host
    _Application(
        make,
        {
            "bind": [f"{host}:{address.port}"],
            "workers": 1,
            "worker_class": Worker,
            "threads": THREADS,
            "graceful_timeout": GRACE_S,
            "worker_tmp_dir": str(directory),
            "control_socket_disable": True,  # it would lie in the home directory
            "loglevel": "warning",
            "limit_request_line": 8190,
            **tls,
        },
    ).run()


class _Application(BaseApplication):  # type: ignore[misc]  # gunicorn is untyped
    """Configured by what it is given alone: no file, no arguments, no environment."""

    def __init__(self, make: Callable[[], Any], settings: dict[str, object]) -> None:
        self._make, self._settings = make, settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return self._make()
