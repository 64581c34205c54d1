"""Usage that only LiteLLM's callback knows comes after the answer's end and completes the same row."""

from __future__ import annotations

import socket
from decimal import Decimal
from pathlib import Path

import pytest

from tests.proxy.conftest import MakeHouse
from tests.proxy.house import House, wait_until
from tests.proxy.upstream import Out, Seen, Upstream
from token_tracker.config import paths
from token_tracker.config.values import GatewayOptions
from token_tracker.domain.usage import Usage
from token_tracker.proxy.books.records import Awaiting
from token_tracker.proxy.litellm.report import Evidence, to_line

AUDIO = b"ID3" + bytes(range(256)) * 20


@pytest.fixture
def speaking(make_house: MakeHouse, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> House:
    """A gateway whose LiteLLM child is the scripted upstream, which answers with audio."""

    async def speak(seen: Seen, out: Out) -> None:
        await out.whole(AUDIO, kind="audio/mpeg")

    upstream.answer = speak
    monkeypatch.setenv("TT_LITELLM_URL", upstream.url.removesuffix("/v1"))
    monkeypatch.setenv("TT_LITELLM_KEY", "sk-child")
    house = make_house(options=GatewayOptions(evidence_wait_s=1))
    house.configuration.models.exact["tts-1"] = (house.deployment("tts-1", rates=None),)  # type: ignore[index]
    return house


def report(house: House, evidence: Evidence) -> None:
    path: Path = next(paths.runtime_dir(house.settings).glob("*.sock"))
    with socket.socket(socket.AF_UNIX) as child:
        child.connect(str(path))
        child.sendall(to_line(evidence))


def speak(house: House) -> str:
    reply = house.call({"model": "tts-1", "input": "Hello there", "voice": "alloy"}, "/v1/audio/speech")
    assert (reply.status, reply.body, reply.headers["content-type"]) == (200, AUDIO, "audio/mpeg")
    return reply.id


def test_the_client_is_not_kept_and_the_row_waits_for_the_callback(speaking: House) -> None:
    call_id = speak(speaking)
    assert speaking.rows() == []
    assert [type(record) for record in speaking.records()][1:] == [Awaiting]
    evidence = Evidence(call_id=call_id, usage=Usage(input_tokens=11), cost_usd=Decimal("0.000165"))
    report(speaking, evidence)
    row = speaking.row()
    assert (row.usage_source, row.tokens[0], row.end_reason) == ("provider", 11, "complete")
    assert (row.cost_source, row.cost_nano_usd) == ("litellm", 165_000)
    assert row.opened.lane == "litellm"


def test_without_a_word_from_the_callback_the_row_stands_as_the_gateway_saw_it(speaking: House) -> None:
    speak(speaking)
    row = wait_until(speaking.rows, "the row", 5)[0]
    assert (row.usage_source, row.cost_source, row.cost_nano_usd) == ("estimated", "unpriced", None)


def test_evidence_of_a_call_that_is_booked_makes_no_second_row(speaking: House) -> None:
    call_id = speak(speaking)
    for _ in range(2):
        report(speaking, Evidence(call_id=call_id, usage=Usage(input_tokens=11)))
    assert speaking.row().tokens[0] == 11
    assert speaking.app is not None and speaking.app.floor.background == set()


def test_a_callback_that_knows_nothing_leaves_the_estimate_of_a_counted_answer(
    speaking: House, upstream: Upstream
) -> None:
    """A usage that is no count: LiteLLM cannot read it either, and 'nothing' is not the provider's word."""

    async def garbled(seen: Seen, out: Out) -> None:
        usage = b'"usage":{"prompt_tokens":-5,"completion_tokens":7}'
        await out.whole(b'{"id":"c","choices":[{"message":{"content":"Hello there"}}],' + usage + b"}")

    upstream.answer = garbled
    chat = speaking.deployment("chat", lane="litellm")
    speaking.configuration.models.exact["chat"] = (chat,)  # type: ignore[index]
    reply = speaking.chat("chat")
    assert (reply.status, speaking.rows()) == (200, [])
    report(speaking, Evidence(call_id=reply.id, usage=None))
    row = speaking.row()
    assert (row.usage_source, row.cost_source, row.tokens[6]) == ("estimated", "priced", 3)


def test_evidence_that_fits_into_no_record_leaves_the_row_as_it_was(speaking: House) -> None:
    call_id = speak(speaking)
    report(speaking, Evidence(call_id=call_id, usage=Usage(input_tokens=10**30)))
    assert speaking.row().usage_source == "estimated"
