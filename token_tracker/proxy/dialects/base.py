"""What every wire dialect offers the gateway; adapters translate and decide nothing.

A dialect module reads a request, edits its top level, reads usage from a body or a stream, and knows the event that a
client takes for the end. None does I/O; each is tested on recorded bytes cut at every position.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol

import msgspec

from token_tracker.domain.extras import NO_EXTRAS, Extras
from token_tracker.domain.providers import WireFormat
from token_tracker.domain.usage import Usage
from token_tracker.proxy.dialects.forms import Form


class Uncounted(Enum):
    """What is booked where an answer that was served tells no usage."""

    ESTIMATED = "estimated"  # text in, text out: its bytes over 4
    UNKNOWN = "unknown"  # sound, pictures, documents: no count, and no cost unless every rate is 0
    FREE = "free"  # nobody bills it, whatever it counts


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a request says beside its body: its content type, and the model that its path names ('' if it does not),
    which then counts instead of the body's."""

    content_type: str = ""
    model: str = ""


NO_ENVELOPE = Envelope()


class Request(NamedTuple):
    """The few facts of a request that the gateway needs; `fields` is the body split at its top level only
    (name → raw JSON bytes), so that every other value stays byte-identical when it is re-joined. A multipart request
    has a `form` instead and no fields."""

    model: str
    stream: bool
    fields: dict[str, bytes]
    wants_usage: bool  # the client itself asked for the stream's usage chunk
    end_user: str  # OpenAI's `user`, Anthropic's `metadata.user_id`; '' if none
    metadata: str  # OpenAI's `metadata` as JSON text; '' if none or Anthropic
    output_bound: int | None  # the client's own maximum of output tokens, if any
    original: bytes = b""  # what is sent if nothing is edited
    form: Form | None = None
    characters: int = 0  # of a text to be spoken: what many such models bill
    is_bounded: bool = False  # its output maximum is what the gate holds: nothing may raise it any more


@dataclass(slots=True)
class Reading:
    """What an answer told of itself so far. `usage` is None until the provider reported any.

    `is_final`: the provider's complete count (not Anthropic's `message_start`, say). `output_events` counts non-empty
    delta events of a stream; `output_bytes` is their text, or that of a whole answer that came without usage, for an
    estimate where the provider never counted.
    """

    usage: Usage | None = None
    is_final: bool = False
    upstream_id: str = ""
    output_events: int = 0
    output_bytes: int = 0
    saw_end: bool = False  # the dialect's terminal event was seen (an error event where that ends a stream)
    is_estimate: bool = False  # `usage` is somebody's count between the provider and us, not its own
    error: bool = False  # the answer carried an error, whatever its status
    extras: Extras = NO_EXTRAS  # what is billed beside the tokens


class Cut(msgspec.Struct, frozen=True, gc=False):
    """A piece of a stream, split at what the client takes for the end: `forward` goes out at once, `terminal` (that
    event and all after it) only once the end record is in the journal. After the end everything is `terminal`."""

    forward: bytes
    terminal: bytes = b""


class StreamObserver(Protocol):
    """Watches one SSE answer; fed with chunks cut anywhere. Bytes come out as they went in, but for the usage chunk
    that the gateway itself asked for. An event is held back only while it could still be the end or that chunk."""

    reading: Reading

    @property
    def is_between_events(self) -> bool:
        """Nothing of an event is out, or held back, whose end is still to come."""

    def ending(self, model: str) -> bytes:
        """Events that end the stream here as if its output maximum were reached; b'' where the dialect has none."""

    def feed(self, chunk: bytes) -> Cut: ...

    def close(self, is_clean: bool = True) -> Cut:
        """The upstream ended, `is_clean` unless its connection broke: whatever is still held back. Where a clean end
        does for a terminal event (chat servers that never send [DONE]), `reading.saw_end` is decided here."""


class Dialect(Protocol):
    """One wire format. `family` ('openai' | 'anthropic') decides how an error is shaped."""

    wire: WireFormat
    family: str
    uncounted: Uncounted

    def read(self, body: bytes, envelope: Envelope = NO_ENVELOPE) -> Request:
        """Raises `domain.errors.Refusal` (400) for what is not JSON (or a form, where the route takes one), has no
        model, or wrong types."""

    def outgoing(self, request: Request, *, model: str, meter_stream: bool) -> bytes:
        """The body to send upstream: the model's upstream name put in (untouched if equal), and on a stream with
        `meter_stream` the usage option switched on. Every other top-level value is byte-identical."""

    def read_body(self, body: bytes) -> Reading:
        """Usage from a whole JSON answer; an unreadable body gives an empty reading, never an exception."""

    def observer(self, request: Request) -> StreamObserver: ...

    def estimate_input_tokens(self, request: Request) -> int:
        """A cheap estimate (bytes of the text-bearing fields / 4) for rows whose provider never counted."""


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the gateway and how it is read."""

    path: str  # '/v1/chat/completions'
    dialect: Dialect = field(repr=False)
    keeps: str = ""  # the kind of object that the provider may keep of an answer
