"""Any service that the library Apprise knows, by its URL; each message in a process of its own, which can be ended."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from urllib.parse import unquote

from token_tracker.notifications.letter import Letter
from token_tracker.notifications.messages import text_of, words_of
from token_tracker.services.outbox import Outcome

TOTAL_S = 60.0
_KINDS = {"budget.threshold": "warning", "budget.exceeded": "failure", "budget.recovered": "success"}
_SECRET_CHARACTERS = 4  # at least: shorter pieces of a URL keep no secret


class AppriseChannel:
    """The library says only whether it worked; its log is the answer, without any part of the URL."""

    def __init__(self, dashboard_url: str = "", total_s: float = TOTAL_S) -> None:
        self._dashboard_url, self._total_s = dashboard_url, total_s

    def send(self, letter: Letter) -> Outcome:
        words = words_of(letter)
        text = text_of(words, self._dashboard_url).replace("@", "@\u200b")  # a name mentions nobody
        kind = _KINDS.get(letter.event, "info")
        request = {"url": letter.recipient, "title": words.subject, "body": text, "kind": kind}
        command = [sys.executable, "-m", "token_tracker.notifications.channels.apprise_process"]
        try:
            done = subprocess.run(  # noqa: S603 (the URL goes by stdin, where no list of processes shows it)
                command, input=json.dumps(request), capture_output=True, text=True, timeout=self._total_s, check=False
            )
            kind, answer = json.loads(done.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            return Outcome("retry", f"no answer within {self._total_s:g} s; the attempt was ended")
        except (OSError, ValueError, IndexError) as error:
            return Outcome("retry", f"Apprise ended without an answer ({type(error).__name__})")
        return Outcome(str(kind), without_secrets(str(answer), letter.recipient))


def without_secrets(text: str, url: str) -> str:
    """`text` without any piece of `url`, as it stands in the URL and decoded."""
    pieces = {piece for part in (url, unquote(url)) for piece in re.split(r"[/:@?&=,#\s]+", part)}
    for piece in sorted(pieces, key=len, reverse=True):
        if len(piece) >= _SECRET_CHARACTERS:
            text = text.replace(piece, "…")
    return " ".join(text.split())
