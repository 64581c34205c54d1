"""Calls for stored objects at one worker: which account, whose objects, and what happens where something is missing."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from typing import Any

import pytest

from tests.proxy.conftest import MakeHouse
from tests.proxy.house import KEY, House, Reply, key_record, synced, wait_until
from tests.proxy.upstream import Answer, Out, Seen, Upstream, event
from token_tracker.config.values import Deployment, GatewayOptions, Secret
from token_tracker.proxy.books.journal import Journal, JournalUnavailable
from token_tracker.proxy.books.object_index import ObjectIndex
from token_tracker.proxy.books.records import Stored
from token_tracker.proxy.objects.mentions import FILES_MAX, may_name_files

OTHER, ALONE, LONELY = "sk-tt-other", "sk-tt-alone", "sk-tt-lonely"
KEYS = {
    KEY: key_record(),
    OTHER: key_record(id="key-2", team="red"),
    ALONE: key_record(id="key-3", team=""),
    LONELY: key_record(id="key-4", team="", user="bob"),
}
USAGE = {"input_tokens": 5, "output_tokens": 2}
MULTIPART = "multipart/form-data; boundary=b"


@pytest.fixture
def house(make_house: MakeHouse) -> House:
    return synced(make_house(keys=KEYS))


def saying(content: Any) -> Answer:
    async def answer(seen: Seen, out: Out) -> None:
        await out.whole(json.dumps(content).encode())

    return answer


def upload(house: House, key: str = KEY, path: str = "/v1/files", **headers: str) -> Reply:
    house.upstream.answer = saying({"id": "file-1", "object": "file"})
    return house.call(b"--b--", path, key=key, content_type=MULTIPART, **headers)


def get(house: House, path: str, key: str = KEY, **headers: str) -> Reply:
    return house.call(None, path, "GET", key, **headers)


def test_a_key_without_a_team_shares_with_nobody(house: House) -> None:
    upload(house, ALONE)
    assert get(house, "/v1/files/file-1", ALONE).status == 200
    seen = len(house.upstream.seen)
    for key in (KEY, OTHER, LONELY):
        refusal = get(house, "/v1/files/file-1", key)
        assert (refusal.status, refusal.headers["x-tt-code"]) == (404, "object_not_found")
    assert get(house, "/v1/files/file-1", "sk-tt-nobody").status == 401
    assert len(house.upstream.seen) == seen


def test_the_record_of_an_owner_is_in_the_journal_before_the_client_sees_the_id(house: House) -> None:
    go_on, wait = house.upstream.gate()

    async def answer(seen: Seen, out: Out) -> None:
        await out.begin_stream()
        await out.chunk(event({"type": "response.created", "response": {"id": "resp_1", "usage": None}}))
        await wait()
        await out.chunk(event({"type": "response.completed", "response": {"id": "resp_1", "usage": USAGE}}))
        await out.end()

    house.upstream.answer = answer
    body = json.dumps({"model": "gpt", "input": "one", "stream": True}).encode()
    with socket.create_connection(("127.0.0.1", house.port), 10) as client:
        head = f"POST /v1/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(body)}"
        client.sendall(head.encode() + b"\r\n\r\n" + body)
        got = b""
        while b"resp_1" not in got:
            got += client.recv(65536)
        [stored] = [each for each in house.records() if isinstance(each, Stored)]
        assert (stored.id, stored.owner, stored.kind, stored.model) == (
            "resp_1", "team:core", "response", "upstream-name",
        )  # fmt: skip
        assert house.rows() == []
        go_on()
        house.row()


def test_what_is_not_kept_is_nobodys(house: House) -> None:
    house.upstream.answer = saying({"id": "resp_1", "status": "completed", "usage": USAGE})
    house.call({"model": "gpt", "input": "one", "store": False}, "/v1/responses")
    assert get(house, "/v1/responses/resp_1").status == 404


def test_before_the_index_was_ever_filled_nobody_is_told_that_something_is_not_there(make_house: MakeHouse) -> None:
    house = make_house(keys=KEYS)
    refusal = get(house, "/v1/files/file-1")
    assert (refusal.status, refusal.headers["x-tt-code"], refusal.headers["retry-after"]) == (
        503, "objects_unavailable", "2",
    )  # fmt: skip
    upload(house)
    assert get(house, "/v1/files/file-1").status == 200, "what was made here is known here"
    assert get(house, "/v1/files/file-1", OTHER).status == 404


def test_without_room_in_the_journal_the_client_does_not_learn_the_id_and_the_call_has_its_row(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Journal, record: Stored) -> None:
        raise JournalUnavailable("no room")

    monkeypatch.setattr(Journal, "stored", full)
    answer = upload(house)
    assert (answer.status, answer.headers["x-tt-code"]) == (503, "journal_unavailable")
    assert b"file-1" not in answer.body
    assert house.row().opened.endpoint == "POST /v1/files"


def test_an_index_that_cannot_be_written_keeps_nobody_from_what_was_just_made(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import sqlite3

    def broken(self: ObjectIndex, records: Any) -> None:
        raise sqlite3.OperationalError("disk is full")

    monkeypatch.setattr(ObjectIndex, "put", broken)
    upload(house)
    assert get(house, "/v1/files/file-1").status == 200
    assert get(house, "/v1/files/file-1", OTHER).status == 404
    assert "disk is full" in caplog.text


def test_of_several_accounts_the_client_must_name_one(make_house: MakeHouse, upstream: Upstream) -> None:
    exact = {
        name: (Deployment(name, "openai", name, upstream.url, Secret(f"sk-{name}")),) for name in ("first", "second")
    }
    house = synced(make_house(keys=KEYS, exact=exact))
    refusal = upload(house)
    assert refusal.status == 400 and "'first', 'second'" in refusal.json["error"]["message"]
    assert house.upstream.seen == []
    assert upload(house, x_tt_model="second").status == 200
    assert upload(house, path="/v1/files?x-tt-model=first&purpose=batch").status == 200
    assert upload(house, x_tt_model="third").json["error"]["code"] == "model_not_found"
    seen = [(each.header(b"authorization"), each.target) for each in house.upstream.seen]
    assert seen == [(b"Bearer sk-second", "/v1/files"), (b"Bearer sk-first", "/v1/files?purpose=batch")]
    assert get(house, "/v1/files/file-1").status == 200


def test_a_response_goes_on_where_it_lies_and_nowhere_else(make_house: MakeHouse, upstream: Upstream) -> None:
    both = [Deployment("gpt", "openai", "m", upstream.url, Secret(f"sk-{name}"), order=at) for at, name in
            enumerate(("first", "second"), 1)]  # fmt: skip
    far = Deployment("far", "openai", "m", upstream.url, Secret("sk-far"))
    house = synced(make_house(keys=KEYS, exact={"gpt": tuple(both), "far": (far,)}))

    async def fail_at_first(seen: Seen, out: Out) -> None:
        is_first = seen.header(b"authorization") == b"Bearer sk-first"
        answer = {"id": "resp_1", "status": "completed", "usage": USAGE}
        await out.whole(json.dumps(answer).encode(), status="500 Oops" if is_first else "200 OK")

    upstream.answer = fail_at_first
    assert house.call({"model": "gpt", "input": "one"}, "/v1/responses").status == 200
    upstream.seen.clear()
    again = {"model": "gpt", "input": "two", "previous_response_id": "resp_1"}
    assert house.call(again, "/v1/responses").status == 200
    assert get(house, "/v1/responses/resp_1").status == 200
    assert [each.header(b"authorization") for each in upstream.seen] == [b"Bearer sk-second"] * 2
    refusal = house.call(again | {"model": "far"}, "/v1/responses")
    assert refusal.status == 400 and "another account" in refusal.json["error"]["message"]
    assert house.call(again | {"previous_response_id": None}, "/v1/responses").status == 200
    assert house.call(again | {"previous_response_id": 7}, "/v1/responses").status == 400


def test_a_new_key_of_the_same_entry_finds_it_and_a_removed_entry_is_named(
    make_house: MakeHouse, upstream: Upstream
) -> None:
    def serving(name: str, key: str) -> House:
        return make_house(keys=KEYS, exact={name: (Deployment(name, "openai", "m", upstream.url, Secret(key)),)})

    house = synced(serving("gpt", "sk-old"))
    upload(house)
    house.stop()
    house = serving("gpt", "sk-new")
    assert get(house, "/v1/files/file-1").status == 200
    assert upstream.seen[-1].header(b"authorization") == b"Bearer sk-new"
    house.stop()
    gone = get(serving("another", "sk-another"), "/v1/files/file-1")
    assert (gone.status, gone.headers["x-tt-code"]) == (409, "deployment_gone")
    assert "'gpt'" in gone.json["error"]["message"]


def test_of_many_retrievals_at_once_one_books_the_usage(house: House) -> None:
    house.upstream.answer = saying({"id": "resp_1", "status": "queued", "usage": None, "background": True})
    house.call({"model": "gpt", "input": "one", "background": True}, "/v1/responses")
    house.upstream.answer = saying({"id": "resp_1", "status": "completed", "usage": USAGE})
    threads = [threading.Thread(target=get, args=(house, "/v1/responses/resp_1")) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    rows = wait_until(lambda: found if len(found := house.rows()) == 9 else None, "nine rows")
    assert sorted(sum(row.tokens) for row in rows) == [0] * 8 + [7]
    assert sorted(row.cost_nano_usd for row in rows if row.cost_nano_usd is not None) == [0] * 7 + [9000]
    assert [row.cost_source for row in rows if row.cost_nano_usd is None] == ["unpriced"]


def test_a_background_stream_that_was_cut_is_left_to_a_later_retrieval(make_house: MakeHouse) -> None:
    house = synced(make_house(keys=KEYS, options=GatewayOptions(idle_timeout_s=0.3)))

    async def answer(seen: Seen, out: Out) -> None:
        await out.begin_stream()
        await out.chunk(event({"type": "response.created", "response": {"id": "resp_1", "usage": None}}))
        await out.chunk(event({"type": "response.output_text.delta", "delta": "some words"}))
        await asyncio.sleep(20)

    house.upstream.answer = answer
    cut = house.call({"model": "gpt", "input": "one", "background": True, "stream": True}, "/v1/responses")
    assert not cut.is_whole
    row = house.row()
    assert (row.usage_source, row.cost_nano_usd, row.end_reason) == ("none", None, "timeout")
    house.upstream.answer = saying({"id": "resp_1", "status": "completed", "usage": USAGE})
    assert get(house, "/v1/responses/resp_1").headers["x-tt-cost-usd"] == "0.000009000"


def test_a_list_shows_ones_own_alone_and_says_whether_more_may_follow(house: House) -> None:
    for key, identity in ((KEY, "file-a"), (OTHER, "file-b"), (KEY, "file-c")):
        house.upstream.answer = saying({"id": identity})
        house.call(b"--b--", "/v1/files", key=key, content_type=MULTIPART)
    listed = [{"id": each, "n": 1.50} for each in ("file-c", "file-b", "file-a", "file-unknown")]
    house.upstream.answer = saying({"data": listed, "has_more": True, "first_id": "file-c", "last_id": "file-unknown"})
    all_own = get(house, "/v1/files").json
    assert ([each["id"] for each in all_own["data"]], all_own["has_more"]) == (["file-c", "file-a"], True)
    assert (all_own["first_id"], all_own["last_id"]) == ("file-c", "file-a")
    cut = get(house, "/v1/files?limit=1&order=asc").json
    assert ([each["id"] for each in cut["data"]], cut["has_more"], cut["last_id"]) == (["file-c"], True, "file-c")
    assert house.upstream.seen[-1].target == "/v1/files?order=asc&limit=10000"
    nobodys = get(house, "/v1/files", LONELY).json
    assert (nobodys["data"], nobodys["has_more"], nobodys["last_id"]) == ([], True, "file-unknown")


@pytest.mark.parametrize("body", [b"[1, 2]", b"no json", b'{"data": 7}'])
def test_a_list_that_cannot_be_read_is_not_shown(house: House, body: bytes) -> None:
    async def answer(seen: Seen, out: Out) -> None:
        await out.whole(body, kind="text/html")

    house.upstream.answer = answer
    assert get(house, "/v1/files").status == 502
    assert house.row().end_reason == "upstream_error"


def test_an_error_about_an_object_passes_through_and_changes_nothing(house: House) -> None:
    upload(house)

    async def answer(seen: Seen, out: Out) -> None:
        await out.whole(b'{"error": {"message": "busy"}}', "retry-after: 9", status="409 Conflict")

    house.upstream.answer = answer
    refused = house.call(None, "/v1/files/file-1", "DELETE")
    assert (refused.status, refused.body, refused.headers["retry-after"]) == (
        409, b'{"error": {"message": "busy"}}', "9",
    )  # fmt: skip
    house.upstream.answer = saying({"id": "file-1"})
    assert get(house, "/v1/files/file-1").status == 200


def test_a_client_that_leaves_in_the_middle_of_an_upload_is_a_cancelled_row(make_house: MakeHouse) -> None:
    house = synced(make_house(keys={KEY: key_record(permissions=("passthrough",))}))

    async def answer(seen: Seen, out: Out) -> None:
        raise AssertionError("the request was never complete")

    house.upstream.answer = answer
    with socket.create_connection(("127.0.0.1", house.port), 10) as client:
        head = f"POST /pass/gpt/v1/x HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: 999\r\n\r\n"
        client.sendall(head.encode() + b"some of it")
        assert house.app is not None
        in_flight = house.app.floor.in_flight
        wait_until(lambda: [each for each in list(in_flight) if each.attempt.was_sent], "the beginning goes up")
    row = house.row()
    assert (row.end_reason, row.cost_source, row.usage_source) == ("cancelled", "unpriced", "none")


def test_anthropics_files_go_to_anthropic_with_its_own_key(make_house: MakeHouse, upstream: Upstream) -> None:
    exact = {
        "claude": (Deployment("claude", "anthropic", "claude", upstream.url.removesuffix("/v1"), Secret("sk-a")),),
        "gpt": (Deployment("gpt", "openai", "gpt", upstream.url, Secret("sk-o")),),
        "azure": (Deployment("azure", "azure", "gpt", upstream.url.removesuffix("/v1"), Secret("sk-z")),),
    }
    house = synced(make_house(keys=KEYS, exact=exact))
    assert upload(house, anthropic_version="2023-06-01").status == 200
    assert upload(house, x_tt_model="azure").status == 200
    first, second = upstream.seen
    assert (first.target, first.header(b"x-api-key"), first.header(b"authorization")) == ("/v1/files", b"sk-a", None)
    assert (second.target, second.header(b"api-key")) == ("/openai/v1/files", b"sk-z")


@pytest.mark.parametrize("size", [100, 300_000])
def test_a_row_tells_how_many_bytes_went_up_and_came_down(make_house: MakeHouse, size: int) -> None:
    """At once or in pieces; a passed path has nothing else to tell how much it was."""
    house = synced(make_house(keys={KEY: key_record(permissions=("passthrough",))}))

    async def answer(seen: Seen, out: Out) -> None:
        await out.begin_stream()
        for _ in range(3):
            await out.chunk(b"x" * size)
        await out.end()

    house.upstream.answer = answer
    assert len(house.call(b"y" * size, "/pass/gpt/v1/x", content_type="a/b").body) == 3 * size
    assert (house.row().cost_source, house.row().request_bytes, house.row().response_bytes) == (
        "unpriced", size, 3 * size,
    )  # fmt: skip


def test_a_row_of_what_was_never_sent_tells_no_bytes(make_house: MakeHouse, upstream: Upstream) -> None:
    nobody = Deployment("gpt", "openai", "m", api_base="http://127.0.0.1:1/v1", api_key=Secret("k"))
    house = make_house(exact={"gpt": (nobody,)})
    assert house.chat().status == 502
    assert (house.row().request_bytes, house.row().response_bytes) == (0, 0)


PARTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"file": {"file_id": "file-1"}}]}]}),
    ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]}),
    ("/v1/responses", {"tools": [{"type": "code_interpreter", "container": {"file_ids": ["a", "file-1"]}}]}),
)


@pytest.mark.parametrize(("path", "body"), PARTS)
def test_a_file_in_a_prompt_is_its_teams_alone_and_what_nobody_made_here_passes(
    house: House, path: str, body: dict[str, Any]
) -> None:
    upload(house)
    house.upstream.seen.clear()
    refusal = house.call({"model": "gpt", **body}, path, key=OTHER)
    direct = get(house, "/v1/files/file-1", OTHER)
    assert (refusal.status, refusal.headers["x-tt-code"]) == (404, "object_not_found")
    assert refusal.json["error"]["message"] == direct.json["error"]["message"]
    assert not house.upstream.seen
    assert house.call({"model": "gpt", **body}, path).status == 200
    unknown = json.loads(json.dumps(body).replace("file-1", "file-of-nobody"))
    assert house.call({"model": "gpt", **unknown}, path, key=OTHER).status == 200
    assert json.loads(house.upstream.seen[-1].body)[next(iter(body))] == unknown[next(iter(body))]


@pytest.mark.parametrize(
    "part",
    [
        rb'{"\u0066ile_id": "file-1"}',
        rb'{"file\u005fid": "f\u0069le-1"}',
        b'{"file_id": "file-1", "file_id": "file-of-mine"}',
        b'{"file_id": "file-of-mine", "file_id": "file-1"}',
    ],
)
def test_no_way_of_writing_hides_a_file(house: House, part: bytes) -> None:
    upload(house)
    body = b'{"model": "gpt", "messages": [{"role": "user", "content": [{"type": "file", "file": %s}]}]}' % part
    assert house.call(body, key=OTHER).headers["x-tt-code"] == "object_not_found"


@pytest.mark.parametrize(
    "content", ["what is a file_id?", {"file_id": {"type": "string"}}, {"file_id": None}, {"file_id": ""}]
)
def test_what_only_looks_like_it_passes(house: House, content: Any) -> None:
    upload(house)
    assert house.call({"model": "gpt", "messages": [], "tools": [content]}, key=OTHER).status == 200


def test_before_the_index_was_ever_filled_a_prompt_with_a_file_waits(make_house: MakeHouse) -> None:
    house = make_house()
    body = {"model": "gpt", "messages": [], "x": {"file_id": "file-1"}}
    assert house.call(body).headers["x-tt-code"] == "objects_unavailable"
    assert house.chat().status == 200


def test_more_files_than_anybody_names_are_refused(house: House) -> None:
    many = [f"file-{number}" for number in range(FILES_MAX + 1)]
    assert house.call({"model": "gpt", "messages": [], "x": {"file_ids": many}}).status == 400


def test_a_long_body_is_searched_for_files_wherever_they_stand() -> None:
    filler = b"some_words and_more fil_e_id file-id " * 2000
    assert not may_name_files(filler) and not may_name_files(b"_" * 5000) and not may_name_files(b"")
    for place in (0, 1, 5, 36_000, len(filler)):
        assert may_name_files(filler[:place] + b"file_id" + filler[place:])
        assert may_name_files(filler[:place] + rb"\u0066ile_id" + filler[place:])
