"""A call that may have several attempts: who is asked, what the client gets, and one row for each."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from tests.proxy.conftest import MakeHouse
from tests.proxy.house import KEY, House, key_record, wait_until
from tests.proxy.test_gateway_endings import CLOSED_PORT, connect, reset
from tests.proxy.upstream import DONE, Answer, Out, Seen, Upstream, complete, delta, stream
from token_tracker.config.values import GatewayOptions, Routing, Secret
from token_tracker.proxy.books.journal import Journal, JournalUnavailable
from token_tracker.proxy.books.records import End, Open, earlier_id

ERROR = b'{"error": {"message": "not now", "type": "server_error"}}'


def fails(status: str, *headers: str) -> Answer:
    async def answer(seen: Seen, out: Out) -> None:
        await out.whole(ERROR, *headers, status=status)

    return answer


def by_model(upstream: Upstream, **answers: Answer) -> None:
    """The upstream answers by the model it is asked for; each deployment has another."""

    async def answer(seen: Seen, out: Out) -> None:
        await answers[json.loads(seen.body)["model"]](seen, out)

    upstream.answer = answer


def asked(upstream: Upstream) -> list[str]:
    return [json.loads(seen.body)["model"] for seen in upstream.seen]


def install(make_house: MakeHouse, groups: dict[str, list[dict[str, Any]]], **more: Any) -> House:
    """Deployments by name; each says at least its model."""
    house = make_house(exact=None, **more)
    exact: Any = house.configuration.models.exact
    for name, members in groups.items():
        exact[name] = tuple(house.deployment(name, **member) for member in members)
    return house


TWO = {"gpt": [{"model": "a", "order": 1}, {"model": "b", "order": 2}]}
ONE = {"gpt": [{"model": "a"}]}


def rows(house: House, count: int) -> list[End]:
    found: list[End] = wait_until(lambda: len(house.rows()) >= count and house.rows(), f"{count} rows")
    opens = [record for record in house.records() if isinstance(record, Open)]
    assert len(found) == len(opens) == count
    assert [row.opened.attempt for row in found] == [each.attempt for each in opens] == list(range(1, count + 1))
    return found


@pytest.mark.parametrize("status", ["429 Too Many Requests", "500 Oops", "503 Busy", "529 Overloaded"])
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_refused_attempt_goes_to_the_next_deployment_and_each_is_one_row(
    make_house: MakeHouse, upstream: Upstream, status: str, is_stream: bool
) -> None:
    house = install(make_house, TWO)
    by_model(upstream, a=fails(status, "x-request-id: req-a"), b=stream if is_stream else complete)
    reply = house.chat(stream=is_stream)
    assert reply.status == 200 and asked(upstream) == ["a", "b"]
    first, last = rows(house, 2)
    assert last.opened.id == last.opened.call_id == first.opened.call_id == reply.id
    assert first.opened.id == earlier_id(reply.id, 1) != reply.id
    assert (first.status_code, first.end_reason, first.usage_source) == (int(status[:3]), "upstream_error", "none")
    assert (first.cost_nano_usd, first.cost_source, first.upstream_request_id) == (0, "priced", "req-a")
    assert (last.end_reason, last.usage_source, last.cost_nano_usd) == ("complete", "provider", 24_000)
    assert (first.opened.model, last.opened.model, last.opened.requested_model) == ("a", "b", "gpt")
    assert "x-tt-model" not in reply.headers
    if is_stream:
        assert reply.body == delta("Hello") + delta(" there") + DONE
    else:
        assert reply.headers["x-tt-cost-usd"] == "0.000024000"


def test_a_deployment_that_cannot_be_reached_is_passed_over(make_house: MakeHouse, upstream: Upstream) -> None:
    groups = {"gpt": [{"model": "a", "order": 1, "api_base": CLOSED_PORT}, {"model": "b", "order": 2}]}
    house = install(make_house, groups)
    assert house.chat().status == 200
    first, _ = rows(house, 2)
    assert (first.status_code, first.end_reason, first.cost_nano_usd) == (502, "upstream_error", 0)


def test_each_deployment_is_asked_with_its_own_key(make_house: MakeHouse, upstream: Upstream) -> None:
    house = install(make_house, {"gpt": [{"model": "a", "order": 1}, {"model": "b", "api_key": Secret("sk-second")}]})
    by_model(upstream, a=fails("500 Oops"), b=complete)
    house.chat()
    assert [seen.header(b"authorization") for seen in upstream.seen] == [
        b"Bearer sk-upstream-secret",
        b"Bearer sk-second",
    ]


@pytest.mark.parametrize("status", ["400 Bad", "401 Who", "404 What", "408 Slow", "409 Hm"])
def test_an_error_that_is_the_calls_own_is_not_repeated(make_house: MakeHouse, upstream: Upstream, status: str) -> None:
    house = install(make_house, TWO, routing=Routing(num_retries=3))
    upstream.answer = fails(status)
    reply = house.chat()
    assert (reply.status, reply.body) == (int(status[:3]), ERROR)
    assert len(upstream.seen) == len(rows(house, 1)) == 1


def test_the_last_attempts_own_error_is_what_the_client_gets(make_house: MakeHouse, upstream: Upstream) -> None:
    house = install(make_house, TWO, routing=Routing(num_retries=0))
    by_model(upstream, a=fails("500 Oops"), b=fails("503 Busy", "retry-after: 9"))
    reply = house.chat()
    assert (reply.status, reply.body, reply.headers["retry-after"]) == (503, ERROR, "9")
    assert rows(house, 2)[1].opened.id == reply.id


@pytest.mark.parametrize("status", ["429 Too Many Requests", "500 Oops"])
def test_a_model_with_one_deployment_is_neither_retried_nor_left_alone(
    make_house: MakeHouse, upstream: Upstream, status: str
) -> None:
    house = install(make_house, ONE)
    upstream.answer = fails(status)
    assert [house.chat().status for _ in range(7)] == [int(status[:3])] * 7
    assert len(upstream.seen) == len(house.rows()) == 7
    assert all(row.opened.id == row.opened.call_id for row in house.rows())


def test_num_retries_repeats_a_single_deployment_after_a_wait(make_house: MakeHouse, upstream: Upstream) -> None:
    house = install(make_house, ONE, routing=Routing(num_retries=1))

    async def answer(seen: Seen, out: Out) -> None:
        await (fails("503 Busy", "retry-after-ms: 30") if len(upstream.seen) == 1 else complete)(seen, out)

    upstream.answer = answer
    started_s = time.monotonic()
    assert house.chat().status == 200
    took_ms = (time.monotonic() - started_s) * 1000
    first, last = rows(house, 2)
    assert first.opened.timestamp_us == last.opened.timestamp_us, "all of a call belongs to its admission"
    assert took_ms >= first.latency_ms + last.latency_ms + 25, "a row's latency is the attempt's own"


def test_a_client_that_leaves_while_a_repetition_waits_ends_the_call_with_what_was(
    make_house: MakeHouse, upstream: Upstream
) -> None:
    house = install(make_house, ONE, routing=Routing(num_retries=1))
    answered = threading.Event()

    async def answer(seen: Seen, out: Out) -> None:
        await fails("503 Busy", "retry-after: 50")(seen, out)
        answered.set()

    upstream.answer = answer
    client = connect(house)
    assert answered.wait(10)
    reset(client)
    (row,) = rows(house, 1)
    assert row.opened.id == row.opened.call_id
    assert (row.status_code, row.end_reason, row.usage_source) == (503, "upstream_error", "none")
    assert len(upstream.seen) == 1


def test_a_gateway_that_stops_while_a_repetition_waits_gives_the_client_the_upstreams_answer(
    make_house: MakeHouse, upstream: Upstream
) -> None:
    house = install(make_house, ONE, routing=Routing(num_retries=1), options=GatewayOptions(shutdown_s=0.05))
    upstream.answer = fails("503 Busy", "retry-after: 50")
    with connect(house) as client:
        wait_until(lambda: upstream.seen, "the attempt")
        house.stop()
        assert client.recv(65536).startswith(b"HTTP/1.1 503 ")
    assert [row.end_reason for row in rows(house, 1)] == ["upstream_error"]


def test_a_fallback_answers_under_its_own_name_where_the_key_may_use_it(
    make_house: MakeHouse, upstream: Upstream
) -> None:
    groups = {"gpt": [{"model": "a"}], "forbidden": [{"model": "x"}], "spare ü": [{"model": "b"}]}
    keys = {KEY: key_record(models=("gpt", "spare*"))}
    routing = Routing(fallbacks={"gpt": ("forbidden", "spare ü")})
    house = install(make_house, groups, keys=keys, routing=routing)
    by_model(upstream, a=fails("429 Enough"), b=complete)
    reply = house.chat()
    assert reply.status == 200 and asked(upstream) == ["a", "b"]
    assert reply.headers["x-tt-model"] == "spare %C3%BC"
    assert [(row.opened.requested_model, row.opened.model) for row in rows(house, 2)] == [("gpt", "a"), ("gpt", "b")]


def test_a_deployment_that_had_enough_is_left_alone_and_then_asked_again(
    make_house: MakeHouse, upstream: Upstream
) -> None:
    house = install(
        make_house, {"gpt": [{"model": "a", "order": 1, "cooldown_time_s": 0.5}, {"model": "b", "order": 2}]}
    )
    by_model(upstream, a=fails("429 Enough", "retry-after: 3000"), b=complete)
    house.chat()
    house.chat()
    assert asked(upstream) == ["a", "b", "b"]
    wait_until(lambda: house.chat().status == 200 and asked(upstream).count("a") == 2, "the deployment's return")


def break_off(seen: Seen, out: Out) -> Any:
    async def now() -> None:
        out.reset()

    return now()


@pytest.mark.parametrize("is_retried", [False, True])
def test_a_break_after_sending_is_repeated_only_for_those_who_asked_for_it(
    make_house: MakeHouse, upstream: Upstream, is_retried: bool
) -> None:
    house = install(make_house, TWO, options=GatewayOptions(retry_ambiguous=is_retried))
    by_model(upstream, a=break_off, b=complete)
    assert house.chat().status == (200 if is_retried else 502)
    first = rows(house, 2 if is_retried else 1)[0]
    assert (first.end_reason, first.usage_source) == ("upstream_disconnect", "estimated")
    assert first.cost_nano_usd


@pytest.mark.parametrize("is_retried", [False, True])
def test_a_time_out_is_repeated_only_for_those_who_asked_for_it(
    make_house: MakeHouse, upstream: Upstream, is_retried: bool
) -> None:
    options = GatewayOptions(retry_ambiguous=is_retried, first_byte_timeout_s=0.2)
    house = install(make_house, TWO, options=options)
    _, wait = upstream.gate()

    async def silent(seen: Seen, out: Out) -> None:
        await wait()

    by_model(upstream, a=silent, b=complete)
    assert house.chat().status == (200 if is_retried else 504)
    assert rows(house, 2 if is_retried else 1)[0].end_reason == "timeout"


def test_an_answer_that_has_begun_is_never_repeated(make_house: MakeHouse, upstream: Upstream) -> None:
    house = install(make_house, TWO, options=GatewayOptions(retry_ambiguous=True))

    async def dies(seen: Seen, out: Out) -> None:
        await out.begin_stream()
        await out.chunk(delta("Hello"))
        out.reset()

    by_model(upstream, a=dies, b=stream)
    reply = house.chat(stream=True)
    assert not reply.is_whole and reply.body == delta("Hello")
    assert rows(house, 1)[0].end_reason == "upstream_disconnect" and asked(upstream) == ["a"]


def test_an_error_whose_text_breaks_off_is_still_known_not_to_be_billed(
    make_house: MakeHouse, upstream: Upstream
) -> None:
    house = install(make_house, TWO)

    async def half(seen: Seen, out: Out) -> None:
        await out.head("500 Oops", "content-type: application/json", "content-length: 100")
        await out.raw(b'{"error"')
        out.reset()

    by_model(upstream, a=half, b=complete)
    assert house.chat().status == 200
    assert (rows(house, 2)[0].status_code, house.rows()[0].cost_nano_usd) == (500, 0)


def test_connections_of_repeated_attempts_are_used_again(make_house: MakeHouse, upstream: Upstream) -> None:
    house = install(make_house, {"gpt": [{"model": "a", "order": 1}, {"model": "b", "order": 2}]},
                    routing=Routing(has_cooldowns=False))  # fmt: skip
    by_model(upstream, a=fails("500 Oops"), b=complete)
    for _ in range(5):
        assert house.chat().status == 200
    assert len(upstream._writers) == 1


def test_where_the_next_attempt_cannot_be_journalled_the_last_one_stands(
    make_house: MakeHouse, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = install(make_house, TWO)
    by_model(upstream, a=fails("500 Oops"), b=complete)
    whole = Journal.open

    def full(journal: Journal, record: Open) -> None:
        if record.attempt > 1:
            raise JournalUnavailable("the disk is full")
        whole(journal, record)

    monkeypatch.setattr(Journal, "open", full)
    reply = house.chat()
    assert (reply.status, reply.body) == (500, ERROR)
    assert rows(house, 1)[0].opened.id == reply.id
    monkeypatch.undo()
    assert house.chat().status == 200
