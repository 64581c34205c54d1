"""Who a call is booked on: the key's user and team, and what the request says of agent, session, end user and tags."""

from __future__ import annotations

import re
from collections.abc import Mapping

from token_tracker.proxy.books.publication import KeyRecord
from token_tracker.proxy.books.records import Subject
from token_tracker.proxy.dialects.base import Request

AGENT_CHARACTERS = 200
NAME_CHARACTERS = 255
TAG_CHARACTERS = 128
TAGS = 32
METADATA_BYTES = 4096

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def clean(text: str, characters: int) -> str:
    """Without control characters and lone surrogates, trimmed, at most `characters` long."""
    if not text.isprintable():
        text = _CONTROL.sub("", text)
    return text.strip()[:characters]


def subject_of(key: KeyRecord, own: Mapping[bytes, bytes], request: Request) -> Subject:
    """The contract's 'who and what for': pins of the key first, then our headers, then what clients already send."""
    return Subject(
        key_id=key.id,
        user=key.user,
        team=key.team,
        agent=key.agent or _header(own, AGENT_CHARACTERS, b"x-tt-agent"),
        session=_header(own, NAME_CHARACTERS, b"x-tt-session", b"x-openwebui-chat-id"),
        end_user=_header(own, NAME_CHARACTERS, b"x-tt-end-user", b"x-openwebui-user-id")
        or clean(request.end_user, NAME_CHARACTERS),
        tags=_tags(own[b"x-tt-tags"]) if b"x-tt-tags" in own else (),
        metadata=_metadata(request.metadata),
    )


def _header(own: Mapping[bytes, bytes], characters: int, *names: bytes) -> str:
    for name in names:
        if name in own and (text := clean(own[name].decode("utf-8", "replace"), characters)):
            return text
    return ""


def _tags(value: bytes) -> tuple[str, ...]:
    """At most 32 different tags of at most 128 characters, in the order they came."""
    tags = (clean(tag, TAG_CHARACTERS) for tag in value.decode("utf-8", "replace").split(","))
    return tuple(dict.fromkeys(tag for tag in tags if tag))[:TAGS]


def _metadata(text: str) -> str:
    """Dropped, not cut, above 4 KiB: half a JSON object helps nobody."""
    return text if text and len(text.encode("utf-8", "replace")) <= METADATA_BYTES and "\\u0000" not in text else ""
