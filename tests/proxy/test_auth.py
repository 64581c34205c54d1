"""Who calls, and which models they may use."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import pytest

from tests.proxy.house import key_record
from token_tracker.domain.errors import Refusal
from token_tracker.proxy.auth import authenticate, credential, may_use
from token_tracker.proxy.books.publication import KeyRecord


@dataclass
class Published:
    keys: dict[bytes, KeyRecord] = field(default_factory=dict)
    made_at_us: int = 1


def published(**more: object) -> Published:
    return Published({hashlib.sha256(b"sk-tt-good").digest(): key_record(**more)})


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer sk-tt-good"},
        {b"authorization": b"bearer  sk-tt-good"},
        {b"x-api-key": b"sk-tt-good"},
        {b"api-key": b"sk-tt-good"},
        {b"authorization": b"Bearer placeholder", b"x-api-key": b"sk-tt-good"},
        {b"authorization": b"Basic abc", b"api-key": b"sk-tt-good"},
    ],
)
def test_a_key_is_found_wherever_clients_put_it(headers: dict[bytes, bytes]) -> None:
    assert authenticate(headers, published(), 1).id == "key-1"


@pytest.mark.parametrize(
    "headers", [{}, {b"authorization": b"Bearer "}, {b"authorization": b"sk-tt-good"}, {b"x-api-key": b"sk-tt-bad"}]
)
def test_whatever_is_wrong_with_a_key_the_answer_is_the_same(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(Refusal) as missing:
        authenticate({}, published(), 1)
    with pytest.raises(Refusal) as refused:
        authenticate(headers, published(), 1)
    assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")
    assert refused.value.message == missing.value.message


def test_a_key_ends_at_the_microsecond_of_its_expiry() -> None:
    keys = published(expires_at_us=1000)
    assert authenticate({b"x-api-key": b"sk-tt-good"}, keys, 999)
    with pytest.raises(Refusal):
        authenticate({b"x-api-key": b"sk-tt-good"}, keys, 1000)


def test_before_the_first_snapshot_a_key_is_asked_to_come_again_and_none_is_refused() -> None:
    with pytest.raises(Refusal) as waiting:
        authenticate({b"x-api-key": b"sk-tt-good"}, Published(made_at_us=0), 1)
    assert (waiting.value.status, waiting.value.retry_after_s) == (503, 2)
    with pytest.raises(Refusal) as missing:
        authenticate({}, Published(made_at_us=0), 1)
    assert missing.value.status == 401


def test_a_placeholder_alone_is_still_a_credential() -> None:
    assert credential({b"authorization": b"Bearer x"}) == b"x"


def test_a_keys_models_are_exact_names_or_prefixes() -> None:
    assert may_use(("*",), "anything")
    assert may_use(("gpt-4o", "claude-*"), "claude-sonnet")
    assert may_use(("gpt-4o",), "smart", "gpt-4o")
    assert not may_use(("gpt-4o",), "gpt-4o-mini")
    assert not may_use(("gpt-4*",), "o3")
    assert not may_use((), "gpt-4o")
