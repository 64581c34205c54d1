"""Concurrent calls through a gateway that may be killed meanwhile, and what each client saw of its call."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import urlsplit

from tests.functional.installation import Installation, wait_until

# Calls take 0 to 180 ms, so that a kill meets some before, some within and some after their answers.
MANNERS = ("fake-plain", "fake-slow-20ms", "fake-cached+slow-5ms", "fake-reasoning", "fake-slow-100ms")
SLOW_WHOLE = "fake-slow-100ms"  # as a stream it would last 0.9 s
PAUSE_S = 0.01
Moment = tuple[float, float]  # just before and just after something happened, in monotonic seconds


@dataclass(slots=True)
class Seen:
    """One call, from its client's side. `is_complete`: the client got what it takes for the end.

    `was_refused`: nobody listened, so that no gateway ever saw the call. Times are monotonic seconds.
    """

    marker: str
    started_s: float
    ended_s: float = 0.0
    status: int = 0
    is_complete: bool = False
    was_refused: bool = False
    problem: str = ""


@dataclass
class Traffic:
    """Calls from `clients` threads, one after the other in each, from `with` to its end.

    At the end each thread finishes its call. Markers begin with `name`.
    """

    installation: Installation
    name: str
    clients: int = 8
    pause_s: float = PAUSE_S
    seen: list[Seen] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def __enter__(self) -> Traffic:
        self._threads = [threading.Thread(target=self._run) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a call did not end within 30 s"

    def complete(self) -> list[Seen]:
        return [each for each in list(self.seen) if each.is_complete]

    def wait_for_more(self, count: int, timeout_s: float = 15) -> None:
        """Until `count` further calls were answered completely."""
        before = len(self.complete())
        wait_until(lambda: len(self.complete()) >= before + count, timeout_s, f"{count} more complete calls")

    def in_flight(self, moment: Moment) -> set[str]:
        """Markers of the calls that may have been open at that moment."""
        before_s, after_s = moment
        return {each.marker for each in self.seen if each.started_s <= after_s and each.ended_s >= before_s}

    def _run(self) -> None:
        while not self._stop.is_set():
            number = next(self._numbers)
            call = Seen(f"{self.name}-{number}", time.monotonic())
            try:
                self._call(call, number)
            except ConnectionRefusedError:
                call.was_refused = True
            except (OSError, http.client.HTTPException) as error:
                call.problem = repr(error)
            call.ended_s = time.monotonic()
            self.seen.append(call)
            time.sleep(self.pause_s if not call.was_refused else 0.05)

    def _call(self, call: Seen, number: int) -> None:
        model = MANNERS[number % len(MANNERS)]
        is_stream = model != SLOW_WHOLE and number % 3 != 0
        body = {"model": model, "messages": [{"role": "user", "content": "one two three"}], "user": call.marker}
        address = urlsplit(self.installation.proxy_url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
        try:
            connection.request(
                "POST",
                "/v1/chat/completions",
                json.dumps({**body, "stream": is_stream}),
                {"authorization": f"Bearer {self.installation.key}", "content-type": "application/json"},
            )
            answer = connection.getresponse()
            call.status = answer.status
            text = answer.read()
            ends_well = b"data: [DONE]" in text if is_stream else text.endswith(b"}}")
            call.is_complete = answer.status == 200 and ends_well
            if not call.is_complete:
                call.problem = text[-300:].decode(errors="replace")
        except http.client.IncompleteRead as error:
            call.is_complete = b"data: [DONE]" in error.partial
            call.problem = repr(error)
        finally:
            connection.close()
