"""Stored responses, files, batches and other paths: each team its own, through restarts, on both databases."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conftest import BACKENDS
from tests.functional.books import Ledger
from tests.functional.house import RATES, House, marker, model
from tests.functional.installation import Installation, wait_until
from tests.functional.provider_books import FakeProvider, body_of, header_of

LINE = b'{"custom_id": "one", "method": "POST", "url": "/v1/chat/completions", "body": {}}\n'


@dataclass
class Teams:
    """A house with two teams, each with a client of its own; `passing` may use every path."""

    house: House
    ledger: Ledger
    red: openai.OpenAI
    blue: openai.OpenAI
    passing: openai.OpenAI
    narrow: openai.OpenAI

    def restart(self) -> None:
        self.house.installation.stop()
        self.house.installation.start("all")

    def unmetered(self, **wanted: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.house.api("GET", "/api/unmetered?limit=1000")["items"]
        return [item for item in items if all(item[name] == value for name, value in wanted.items())]

    def row(self, answer: Any) -> dict[str, Any]:
        """The one row of a call, by its raw answer."""
        identity = answer.headers["x-tt-request-id"]
        found: list[dict[str, Any]] = wait_until(
            lambda: [row for row in self.ledger.table("token_usage") if row["call_id"] == identity], 10, "the row"
        )
        assert len(found) == 1
        return found[0]


@pytest.fixture(scope="module", params=BACKENDS)
def teams(
    request: pytest.FixtureRequest,
    databases: Callable[[str], Any],
    fake_provider: FakeProvider,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Teams]:
    url = databases(request.param).empty()
    config = {"model_list": [model("fake-*", "openai/fake-*", fake_provider.openai_base, **RATES)]}
    installation = Installation(tmp_path_factory.mktemp("stored"), config, url, TOKEN_TRACKER_MAX_BODY_SIZE="3000000")
    with installation.start("all"):
        house = House(installation, fake_provider)
        for name in ("Red", "Blue"):
            house.api("POST", "/api/teams", {"name": name}, status=201)

        def client(**fields: Any) -> openai.OpenAI:
            made = house.api("POST", "/api/keys", {"name": marker("key"), **fields}, status=201)
            url = f"{house.proxy_url}/v1/models"
            headers = {"authorization": f"Bearer {made['key']}"}
            wait_until(lambda: installation.call("GET", url, headers=headers)[0] == 200, 5, "the key acts")
            return house.openai(api_key=made["key"])

        yield Teams(
            house,
            Ledger(url),
            client(team="red"),
            client(team="blue"),
            client(team="red", permissions=["passthrough"]),
            client(team="red", models=["fake-plain"]),
        )
        house.close_clients()


def refused(call: Callable[[], Any]) -> tuple[int, Any]:
    with pytest.raises(openai.APIStatusError) as refusal:
        call()
    return refusal.value.status_code, refusal.value.body


def made_response(client: openai.OpenAI, **more: Any) -> Any:
    return client.responses.with_raw_response.create(model="fake-plain", input="one two three", **more)


@pytest.mark.parametrize("stream", [False, True])
def test_a_stored_response_is_its_teams_alone(teams: Teams, stream: bool) -> None:
    raw = made_response(teams.red, stream=stream)
    if stream:
        with raw.parse() as events:  # left to the garbage collector, it may be closed within its own client's locks
            made = next(event.response for event in events)
    else:
        made = raw.parse()
    assert teams.red.responses.retrieve(made.id).id == made.id
    assert teams.red.responses.input_items.list(made.id).data == []
    followed = teams.red.responses.create(model="fake-plain", input="and", previous_response_id=made.id)
    assert followed.output_text
    before = len(teams.house.provider.books(slim=True))
    ways: list[Callable[[str], Any]] = [
        teams.blue.responses.retrieve,
        teams.blue.responses.input_items.list,
        teams.blue.responses.cancel,
        teams.blue.responses.delete,
        lambda each: teams.blue.responses.create(model="fake-plain", input="and", previous_response_id=each),
    ]
    for way in ways:
        status, body = refused(lambda way=way: way(made.id))
        unknown_status, unknown = refused(lambda way=way: way("resp_unknown"))
        assert (status, body["code"]) == (404, "object_not_found")
        assert (unknown_status, unknown["message"].replace("resp_unknown", made.id)) == (404, body["message"])
    assert len(teams.house.provider.books(slim=True)) == before, "nothing of it was forwarded"
    teams.red.responses.delete(made.id)
    assert refused(lambda: teams.red.responses.retrieve(made.id))[0] == 404


def test_asking_again_costs_nothing_and_is_a_row(teams: Teams) -> None:
    made = made_response(teams.red).parse()
    raw = teams.red.responses.with_raw_response.retrieve(made.id)
    assert raw.parse().usage is not None
    row = teams.row(raw)
    assert (row["endpoint"], row["usage_source"], row["cost_nano_usd"]) == ("GET /v1/responses/{id}", "none", 0)
    assert (row["input_tokens"], row["cost_source"], row["end_reason"]) == (0, "priced", "complete")
    again = teams.red.responses.with_raw_response.retrieve(made.id, stream=True)
    assert [event.type for event in again.parse()] == ["response.created", "response.completed"]
    assert teams.row(again)["cost_nano_usd"] == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_background_response_is_booked_once_with_its_real_usage(teams: Teams, stream: bool) -> None:
    raw = made_response(teams.red, background=True)
    made, row = raw.parse(), teams.row(raw)
    assert made.status == "queued"
    assert (row["usage_source"], row["cost_source"], row["cost_nano_usd"]) == ("none", "unpriced", None)
    pending = teams.unmetered(endpoint="/v1/responses")
    assert sum(item["attempts"] for item in pending) == 1, "nobody has fetched it yet, and it is not free"
    first = teams.red.responses.with_raw_response.retrieve(made.id, stream=stream)
    _ = list(first.parse()) if stream else first.parse()
    metered = teams.row(first)
    assert (metered["input_tokens"], metered["output_tokens"], metered["usage_source"]) == (3, 9, "provider")
    assert (metered["cost_nano_usd"], metered["model"]) == (3 * 3000 + 9 * 15000, "fake-plain")
    wait_until(lambda: teams.unmetered(endpoint="/v1/responses") == [], 10, "it is metered")
    second = teams.row(teams.red.responses.with_raw_response.retrieve(made.id))
    assert (second["input_tokens"], second["cost_nano_usd"]) == (0, 0)


def test_files_are_their_teams_alone_also_in_lists_and_after_a_restart(teams: Teams) -> None:
    raw = teams.red.files.with_raw_response.create(file=("x.jsonl", LINE), purpose="batch")
    mine = raw.parse()
    others = teams.blue.files.create(file=("x.jsonl", LINE * 2), purpose="batch")
    row = teams.row(raw)
    assert (row["endpoint"], row["cost_nano_usd"], row["upstream_id"]) == ("POST /v1/files", 0, mine.id)
    assert teams.red.files.content(mine.id).content == LINE
    for _ in range(2):
        assert mine.id in [each.id for each in teams.red.files.list()]
        assert others.id not in [each.id for each in teams.red.files.list()]
        assert [each.id for each in teams.blue.files.list(limit=1)] == [others.id]
        assert teams.red.files.retrieve(mine.id).bytes == len(LINE)
        for way in (teams.blue.files.retrieve, teams.blue.files.content, teams.blue.files.delete):
            assert refused(lambda way=way: way(mine.id))[0] == 404
        teams.restart()
    assert teams.red.files.delete(mine.id).deleted
    assert refused(lambda: teams.red.files.retrieve(mine.id))[0] == 404
    assert teams.blue.files.retrieve(others.id).id == others.id


def test_a_batch_and_what_it_writes_are_its_teams_alone_and_it_is_not_taken_for_free(teams: Teams) -> None:
    source = teams.red.files.create(file=("x.jsonl", LINE), purpose="batch")

    def make(client: openai.OpenAI) -> Any:
        return client.batches.with_raw_response.create(
            input_file_id=source.id, endpoint="/v1/chat/completions", completion_window="24h"
        )

    before = sum(each["attempts"] for each in teams.unmetered(endpoint="POST /v1/batches"))
    assert refused(lambda: make(teams.blue))[0] == 404
    assert refused(lambda: make(teams.narrow))[1]["code"] == "model_not_allowed"
    raw = make(teams.red)
    batch, row = raw.parse(), teams.row(raw)
    assert (row["usage_source"], row["cost_source"], row["cost_nano_usd"]) == ("none", "unpriced", None)
    [seen] = teams.unmetered(endpoint="POST /v1/batches")
    assert (seen["attempts"], seen["team"], seen["provider"]) == (before + 1, "red", "openai")
    assert refused(lambda: teams.blue.batches.retrieve(batch.id))[0] == 404
    assert refused(lambda: teams.blue.batches.cancel(batch.id))[0] == 404
    assert teams.red.batches.list(limit=5).data[0].id == batch.id
    assert list(teams.blue.batches.list()) == []
    done = teams.red.batches.retrieve(batch.id)
    assert done.status == "completed" and done.output_file_id
    assert b"custom_id" in teams.red.files.content(done.output_file_id).content
    assert refused(lambda: teams.blue.files.content(done.output_file_id))[0] == 404


def test_an_object_made_just_before_everything_is_killed_is_still_its_teams(teams: Teams) -> None:
    installation = teams.house.installation
    made = made_response(teams.red).parse()
    pids = [installation.pid, *installation.child_pids("gateway"), *installation.child_pids("recorder")]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    installation.stop()
    installation.start("all")
    assert teams.red.responses.retrieve(made.id).id == made.id
    assert refused(lambda: teams.blue.responses.retrieve(made.id))[0] == 404
    wait_until(
        lambda: [each for each in teams.ledger.table("provider_objects") if each["id"] == made.id], 10, "it is booked"
    )


def test_a_gateway_without_its_index_learns_again_who_owns_what(teams: Teams) -> None:
    made = made_response(teams.red).parse()
    wait_until(
        lambda: [each for each in teams.ledger.table("provider_objects") if each["id"] == made.id], 10, "it is booked"
    )
    teams.house.installation.stop()
    for path in Path(teams.house.installation.data_dir).glob("objects.db*"):
        path.unlink()
    teams.house.installation.start("all")
    wait_until(lambda: _found(teams.red, made.id), 10, "the index is filled from the database")
    assert refused(lambda: teams.blue.responses.retrieve(made.id))[0] == 404


def _found(client: openai.OpenAI, identity: str) -> bool:
    try:
        return bool(client.responses.retrieve(identity).id == identity)
    except openai.InternalServerError as not_yet:
        assert not_yet.status_code == 503 and not_yet.response.headers["retry-after"]
        return False


def test_other_paths_pass_for_keys_that_may_and_are_never_taken_for_free(teams: Teams) -> None:
    def job(client: openai.OpenAI, **more: Any) -> Any:
        return client._client.post(
            f"{teams.house.proxy_url}/pass/fake-plain/v1/fine_tuning/jobs?x=1",
            headers={"authorization": f"Bearer {client.api_key}"},
            **more,
        )

    refusal = job(teams.red, content=b"{}")
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (403, "permission_required")
    before = len(teams.house.provider.books(slim=True))
    big = b"x" * 700_000
    passed = job(teams.passing, content=iter([big, big]))
    assert passed.json()["echoed_bytes"] == 2 * len(big)
    entry = teams.house.provider.books()[before]
    assert (entry["path"], body_of(entry)) == ("/v1/fine_tuning/jobs", big + big)
    assert header_of(entry, "authorization") == ["Bearer sk-the-key-of-the-provider"]
    row = teams.row(passed)
    assert (row["cost_source"], row["endpoint"]) == ("unpriced", "POST /pass/…/v1/fine_tuning/jobs")
    assert [item["team"] for item in teams.unmetered(endpoint=row["endpoint"])] == ["red"]


def test_what_is_known_of_a_passed_path_is_metered_and_reading_is_free(teams: Teams) -> None:
    headers = {"authorization": f"Bearer {teams.passing.api_key}"}
    url = f"{teams.house.proxy_url}/pass/fake-plain"
    asked = {"model": "fake-plain", "messages": [{"role": "user", "content": "one two three"}]}
    row = teams.row(teams.passing._client.post(f"{url}/v1/chat/completions", headers=headers, json=asked))
    assert (row["input_tokens"], row["usage_source"], row["cost_nano_usd"]) == (3, "provider", 144_000)
    streamed = teams.passing._client.post(f"{url}/chat/completions", headers=headers, json=asked | {"stream": True})
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert teams.row(streamed)["stream"]
    read = teams.passing._client.get(f"{url}/v1/models", headers=headers)
    assert read.json()["data"] and teams.row(read)["cost_nano_usd"] == 0
    for path in ("/../v1/models", "/%2e%2e/x"):
        status, _, body = teams.house.installation.call("GET", url + path, headers=headers)
        assert (status, b"segment" in body) == (400, True)
