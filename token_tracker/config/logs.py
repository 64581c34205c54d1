"""How our processes speak to the log: one line an event, on stderr, with time, level and who says it."""

from __future__ import annotations

import logging


def write_logs() -> None:
    """Log from INFO on; called once by a process as it starts."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
