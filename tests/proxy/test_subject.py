"""Who and what for."""

from __future__ import annotations

from tests.proxy.house import key_record
from token_tracker.proxy.dialects import ROUTES
from token_tracker.proxy.dialects.base import Request
from token_tracker.proxy.subject import clean, subject_of


def request(body: bytes = b'{"model":"m","messages":[],"user":"from-body","metadata":{"a":"b"}}') -> Request:
    return ROUTES["/v1/chat/completions"].dialect.read(body)


def test_a_pinned_agent_cannot_be_overridden_by_a_header() -> None:
    own = {b"x-tt-agent": b"claimed"}
    assert subject_of(key_record(agent="pinned"), own, request()).agent == "pinned"
    assert subject_of(key_record(), own, request()).agent == "claimed"


def test_our_headers_come_before_open_webuis_and_those_before_the_body() -> None:
    both = {
        b"x-tt-session": b"ours", b"x-openwebui-chat-id": b"chat",
        b"x-tt-end-user": b"eve", b"x-openwebui-user-id": b"web",
    }  # fmt: skip
    subject = subject_of(key_record(), both, request())
    assert (subject.session, subject.end_user) == ("ours", "eve")
    web = {b"x-openwebui-chat-id": b"chat", b"x-openwebui-user-id": b"web"}
    assert subject_of(key_record(), web, request()).end_user == "web"
    assert subject_of(key_record(), web, request()).session == "chat"
    assert subject_of(key_record(), {}, request()).end_user == "from-body"


def test_tags_are_trimmed_deduplicated_and_bounded() -> None:
    assert subject_of(key_record(), {b"x-tt-tags": b" a, b,,a ,c"}, request()).tags == ("a", "b", "c")
    many = ",".join(f"tag-{n}" for n in range(50)).encode()
    assert len(subject_of(key_record(), {b"x-tt-tags": many}, request()).tags) == 32
    assert subject_of(key_record(), {b"x-tt-tags": b"x" * 500}, request()).tags == ("x" * 128,)


def test_control_characters_and_nul_never_reach_the_ledger() -> None:
    own = {b"x-tt-session": b"a\x00b\x1b[31m\xc2\x85c"}
    assert subject_of(key_record(), own, request()).session == "ab[31mc"
    assert clean("x" * 300, 255) == "x" * 255
    assert clean("grüße 世界", 255) == "grüße 世界"


def test_metadata_above_4_kib_is_dropped_not_cut() -> None:
    assert subject_of(key_record(), {}, request()).metadata == '{"a":"b"}'
    long = b'{"model":"m","messages":[],"metadata":{"a":"' + b"x" * 5000 + b'"}}'
    assert subject_of(key_record(), {}, request(long)).metadata == ""
