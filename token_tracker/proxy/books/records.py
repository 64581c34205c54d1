"""What a gateway worker writes into its journal, and the recorder reads: five kinds of record."""

from __future__ import annotations

import msgspec


def earlier_id(call_id: str, attempt: int) -> str:
    """The id of an attempt (1 to 255) that another one followed: the call's, with the attempt in the two digits behind
    the time, which are 0 in every call's own. It can be worked out again by whoever books a dead worker's calls."""
    return f"{call_id[:12]}{attempt:02x}{call_id[14:]}"


class Subject(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Who a call is for. Empty strings mean 'nobody'; `metadata` is OpenAI's `metadata` as JSON text or ''."""

    key_id: str
    user: str
    team: str
    agent: str
    session: str
    end_user: str
    tags: tuple[str, ...]
    metadata: str


class Open(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="o"):
    """Written before anything goes upstream; enough to book a `crash` row if no end follows."""

    id: str  # the call's; an attempt that was not the last ends under an id of its own, see `earlier_id`
    call_id: str
    attempt: int  # from 1
    timestamp_us: int  # admission, Unix microseconds UTC
    endpoint: str  # '/v1/chat/completions'
    lane: str  # 'direct' | 'litellm'
    stream: bool
    requested_model: str
    model: str  # sent upstream, without provider prefix
    provider: str
    subject: Subject
    model_group: str = ""  # the `model_list` name that serves; records of older versions have none
    held_nano_usd: int = 0  # what the gate holds for it; 0 where no budget does
    held_tokens: int = 0


class End(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="e"):
    """The full row: the open record and how it ended. Written before the client gets what it takes for the end."""

    opened: Open
    end_reason: str
    status_code: int  # the upstream's, or ours where the upstream gave none; 0: client left before any
    tokens: tuple[int, ...]  # in the order of domain.usage.TOKEN_CLASSES
    usage_source: str
    cost_nano_usd: int | None  # None: unpriced
    cost_source: str
    price_version: str  # '' where no price was used
    latency_ms: float
    ttft_ms: float | None
    upstream_id: str
    upstream_request_id: str
    unproven_nano_usd: int = 0  # what of the hold may have been spent beyond the cost
    unproven_tokens: int = 0
    overrun_nano_usd: int = 0  # the cost beyond the hold
    request_bytes: int = 0  # of the body that went up, and of what came down of the answer's
    response_bytes: int = 0


class Awaiting(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="a"):
    """An end whose usage is still to come from LiteLLM's callback. Booked as it stands if the worker dies first;
    replaced by the `End` that the worker writes within `evidence_wait_s`."""

    end: End


class Stored(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="s"):
    """Something that a provider keeps under an id (a response, a file, a batch): written before the client learns the
    id, and again in full when the gateway learns more of it. Each record stands for itself, in any order."""

    kind: str  # 'response' | 'file' | 'batch'
    id: str
    account: str  # the provider's account that has it, see `objects/accounts.py`
    deployment: str  # the entry of `model_list`
    provider: str
    model: str  # as it was sent upstream; '' where none was
    team: str
    user: str
    key_id: str
    call_id: str  # the call that made it
    at_us: int
    is_background: bool = False  # its usage is told only by a later retrieval
    metered_by: str = ""  # the call that read its usage
    is_deleted: bool = False

    @property
    def owner(self) -> str:
        return owner_of(self.team, self.user)


class Refused(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="r"):
    """Calls of one hour that were refused alike before anything was sent; they have no row."""

    hour_us: int  # the beginning of the UTC hour
    code: str
    status: int
    key_id: str
    user: str
    team: str
    model: str  # an entry of `model_list`, 'other', or '' where none was read
    endpoint: str
    calls: int
    writer: str = ""  # whose count it is, and a number that grows with each of its counts; '' in older records
    serial: int = 0

    def counted(self, calls: int, writer: str, serial: int) -> Refused:
        return msgspec.structs.replace(self, calls=calls, writer=writer, serial=serial)


def owner_of(team: str, user: str) -> str:
    """Whose a stored object is: the team's whose key made it, else the user's."""
    return f"team:{team}" if team else f"user:{user}"


Record = Open | End | Awaiting | Stored | Refused
