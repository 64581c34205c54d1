"""The child's console: where a warning arose and of what class, never its text, which may quote requests or keys."""

from __future__ import annotations

import logging
import time

_REPEAT_AFTER_S = 60.0


class SourceOnly(logging.Formatter):
    """'litellm: WARNING RateLimitError at router.py:123 (text withheld)'."""

    def format(self, record: logging.LogRecord) -> str:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        where = f"{record.filename}:{record.lineno}"
        return " ".join(filter(None, ("litellm:", record.levelname, kind, "at", where, "(text withheld)")))


class SeldomRepeated(logging.Filter):
    """Lets each source line speak once a minute: an upstream's outage must not flood the console."""

    def __init__(self) -> None:
        super().__init__()
        self._last_s: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        source, now_s = (record.pathname, record.lineno), time.monotonic()
        is_new = now_s - self._last_s.get(source, -_REPEAT_AFTER_S) >= _REPEAT_AFTER_S
        if is_new:
            self._last_s[source] = now_s
        return is_new


def quieten() -> None:
    """After LiteLLM is imported: every logger that exists speaks through one handler, from ERROR on (its warnings say
    nothing without their texts). Our own loggers ('token_tracker…') say theirs, which hold no content."""
    handler = logging.StreamHandler()
    handler.setFormatter(SourceOnly())
    handler.addFilter(SeldomRepeated())
    for name in list(logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.ERROR)
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.ERROR)
    _speak_for_ourselves()


def _speak_for_ourselves() -> None:
    ours = logging.getLogger("token_tracker")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("litellm: %(levelname)s %(message)s"))
    ours.handlers[:] = [handler]
    ours.propagate = False
