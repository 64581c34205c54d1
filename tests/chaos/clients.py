"""Clients that make the calls of a plan, leave where it says so, and remember what they saw."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import urlsplit

from tests.chaos.plan import CHAT, COMPLETIONS, MESSAGES, Call, calls
from tests.functional.installation import Installation
from tests.functional.traffic import Moment, Seen

TIMEOUT_S = 30
DRAIN_S = 3.0  # `gateway.drain_timeout_s` of the installation: so long a call may live on after its client left
ENDS = {CHAT: b"data: [DONE]", COMPLETIONS: b"data: [DONE]", MESSAGES: b"event: message_stop"}
BULKY = ",".join(f"{number:03d}" + "x" * 125 for number in range(32))  # tags that make a record of 4 KB


@dataclass
class Crowd:
    """`direct` and `translated` clients, one call after the other in each, from `with` to its end."""

    installation: Installation
    seed: int
    name: str
    direct: int = 6
    translated: int = 2
    seen: list[Seen] = field(default_factory=list)
    departures: dict[str, str] = field(default_factory=dict)  # marker → where its client left
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _fillers: int = 0

    def __enter__(self) -> Crowd:
        lanes = [False] * self.direct + [True] * self.translated
        self._threads = [threading.Thread(target=self._run, args=each) for each in enumerate(lanes)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * TIMEOUT_S)
            assert not thread.is_alive(), "a call did not end"

    def in_flight(self, moment: Moment) -> set[str]:
        """Markers of the calls that may have been open at that moment, on our side also after their clients left."""
        before_s, after_s = moment
        return {
            each.marker
            for each in list(self.seen)
            if each.started_s <= after_s
            and each.ended_s + (DRAIN_S + 1 if each.marker in self.departures else 0) >= before_s
        }

    def bulky_call(self) -> int:
        """One call whose records take much room; its status, 0 if nobody answered."""
        self._fillers += 1
        call = Call(f"{self.name}-f-{self._fillers}", CHAT, "fake-plain", False, False, "stays", 0, 0, 0)
        return self._make(call, {"x-tt-tags": BULKY}).status

    def _run(self, client: int, is_translated: bool) -> None:
        for call in calls(self.seed, self.name, client, is_translated=is_translated):
            if self._stop.is_set():
                return
            seen = self._make(call)
            self._stop.wait(call.pause_s if not seen.was_refused else 0.05)

    def _make(self, call: Call, more: dict[str, str] | None = None) -> Seen:
        seen = Seen(call.marker, time.monotonic())
        if call.departure != "stays":
            self.departures[call.marker] = call.departure
        try:
            self._exchange(call, seen, more or {})
        except ConnectionRefusedError:
            seen.was_refused = True
        except (OSError, http.client.HTTPException) as error:
            seen.problem = repr(error)
        seen.ended_s = time.monotonic()
        self.seen.append(seen)
        return seen

    def _exchange(self, call: Call, seen: Seen, more: dict[str, str]) -> None:
        address = urlsplit(self.installation.proxy_url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)
        headers = {"authorization": f"Bearer {self.installation.key}", "content-type": "application/json", **more}
        try:
            connection.request("POST", call.path, call.body(), headers)
            if call.departure == "before headers":
                time.sleep(call.stays_s)
                _reset(connection)
                return
            answer = connection.getresponse()
            seen.status = answer.status
            if call.departure == "mid-stream":
                answer.read(call.stays_bytes)
            if call.departure != "stays":
                _reset(connection)
                return
            text = answer.read()
            seen.is_complete = answer.status == 200 and (not call.is_stream or _is_ended(call, text))
            if not seen.is_complete:
                seen.problem = text[-300:].decode(errors="replace")
        except http.client.IncompleteRead as error:
            seen.is_complete = call.is_stream and seen.status == 200 and _is_ended(call, error.partial)
            seen.problem = repr(error)
        finally:
            connection.close()


def _is_ended(call: Call, text: bytes) -> bool:
    return ENDS.get(call.path, b"event: response.completed") in text


def _reset(connection: http.client.HTTPConnection) -> None:
    """Leave at once, with a reset: whatever else is under way is lost."""
    if connection.sock is not None:  # none after an answer that was read to its end
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sock.close()
