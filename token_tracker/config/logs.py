"""How our processes speak to the log: a line an event on stderr, with time, level and logger, as text or JSON."""

from __future__ import annotations

import json
import logging
import time


def write_logs(form: str = "text") -> None:
    """Log from INFO on, in `form` 'text' or 'json'."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if form == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(JsonLines())


class JsonLines(logging.Formatter):
    """One object a line: `time` (RFC 3339, UTC), `level`, `logger`, `message`, and `exception` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": rfc3339(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def rfc3339(at_s: float) -> str:
    """Unix seconds as `2026-01-31T12:00:00.123Z`."""
    whole_s = int(at_s)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole_s))}.{int((at_s - whole_s) * 1000):03d}Z"
