"""Providers' keys changed over the API under a running installation: what reaches the provider, on both lanes."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.functional.house import RATES, marker
from tests.functional.installation import Installation, wait_until
from tests.functional.provider_books import Entry, FakeProvider
from tests.functional.test_reloading import reason, write

ACTS_WITHIN_S = 2.0
PATH = "/api/provider-credentials"
FIRST, SECOND, THIRD = "sk-provider-first-A1b2", "sk-provider-second-C3d4", "sk-provider-third-E5f6"


def entry(name: str, provider: FakeProvider, credential: str, lane: str, model: str = "fake-plain") -> dict[str, Any]:
    params = {"model": f"openai/{model}", "api_base": provider.openai_base, "litellm_credential_name": credential}
    return {"model_name": name, "lane": lane, "litellm_params": {**params, **RATES}}


@pytest.fixture(scope="module")
def house(fake_provider: FakeProvider) -> Iterator[Installation]:
    models = [
        entry("direct", fake_provider, "prod", "direct"),
        entry("translated", fake_provider, "prod", "litellm"),
        entry("fake-*", fake_provider, "prod", "direct", "fake-*"),
        entry("fake-plain", fake_provider, "nobody-made-it", "direct"),
        entry("half", fake_provider, "prod", "direct"),
        entry("half", fake_provider, "nobody-made-it", "direct"),
    ]
    with (
        tempfile.TemporaryDirectory(prefix="tt-") as directory,
        Installation(Path(directory), {"model_list": models}) as made,
    ):
        made.start("all")
        yield made


class Desk:
    """The API as the administrator, who logs in once."""

    def __init__(self, house: Installation) -> None:
        self._house, self._login = house, house.login()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        status, _, text = self._house.call(method, self._house.api_url + path, body, self._login)
        return status, json.loads(text) if text else None


@pytest.fixture(scope="module")
def desk(house: Installation) -> Desk:
    return Desk(house)


@pytest.fixture(scope="module")
def credential(house: Installation, desk: Desk) -> dict[str, Any]:
    """'prod', made after what is refused without it was seen."""
    for model in ("direct", "translated", "fake-any"):
        status, headers, body = house.chat(model=model)
        assert (status, headers["x-tt-code"]) == (404, "model_not_found"), body
        assert b"its credential 'prod' does not exist" in body
    assert "does not exist" in reason(house, "credential")
    status, made = desk.ask("POST", PATH, {"name": "prod", "provider": "openai", "api_key": FIRST})
    assert status == 201
    wait_until(lambda: house.chat(model="direct")[0] == 200, ACTS_WITHIN_S, "the new credential")
    found: dict[str, Any] = made
    return found


def key_in(entry: Entry) -> str:
    """With which key a call came to the provider."""
    return str(dict(entry["headers"])["authorization"]).removeprefix("Bearer ")


def refused(answer: tuple[int, Mapping[str, str], bytes]) -> bytes:
    """What a 404 says; nothing where the key is not known yet."""
    assert answer[0] in (401, 404), answer
    return answer[2] if answer[0] == 404 else b""


def rotate(house: Installation, desk: Desk, provider: FakeProvider, credential: str, model: str, key: str) -> float:
    """Give it `key` while calls run; seconds until the last call with the one before had begun. No call may fail."""
    sent: list[tuple[float, str, int]] = []
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            name, began_s = marker("rotation"), time.monotonic()
            sent.append((began_s, name, house.chat(model=model, text=name)[0]))

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(sent) >= 6, 20, "calls before the change")
        assert desk.ask("PATCH", f"{PATH}/{credential}", {"api_key": key})[0] == 200
        changed_s = time.monotonic()
        wait_until(lambda: time.monotonic() > changed_s + ACTS_WITHIN_S + 0.5, 10, "calls after the change")
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert {status for _, _, status in sent} == {200}
    entries = {each["marker"]: each for each in provider.books()}
    keys = [(began_s, key_in(entries[name])) for began_s, name, _ in sent]
    assert len({each for _, each in keys}) == 2 and keys[0][1] != key, "calls went on before and after"
    return max(began_s for began_s, each in keys if each != key) - changed_s


def test_another_key_arrives_within_two_seconds_while_calls_run(
    house: Installation, desk: Desk, credential: dict[str, Any], fake_provider: FakeProvider
) -> None:
    wait_until(lambda: house.chat(model="translated")[0] == 200, 60, "the LiteLLM child")
    for model, key in (("direct", SECOND), ("translated", THIRD)):
        took_s = rotate(house, desk, fake_provider, credential["id"], model, key)
        print(f"{model}: the last call with the old key began {took_s:.2f} s after the change")
        assert took_s < ACTS_WITHIN_S


def test_a_deployment_without_its_credential_is_never_asked_and_nothing_stands_in_for_it(
    house: Installation, desk: Desk, credential: dict[str, Any], fake_provider: FakeProvider
) -> None:
    """Neither a wildcard's key nor none at all; another deployment of the same name does."""
    status, _, body = house.chat(model="fake-plain", text=(name := marker("missing")))
    assert status == 404 and b"nobody-made-it" in body
    made = desk.ask("POST", "/api/keys", {"name": "passes", "permissions": ["passthrough"]})[1]
    headers, place = {"authorization": f"Bearer {made['key']}"}, f"{house.proxy_url}/pass/fake-plain/chat/completions"
    body = {"model": "fake-plain", "messages": [{"role": "user", "content": name}]}
    passed = wait_until(lambda: refused(house.call("POST", place, body, headers)), ACTS_WITHIN_S, "the key")
    assert b"nobody-made-it" in passed
    assert fake_provider.books(name) == []
    for _ in range(6):
        name = marker("half")
        assert house.chat(model="half", text=name)[0] == 200
        assert key_in(fake_provider.entry(name)).startswith("sk-provider-")
    assert "fake-plain: its credential 'nobody-made-it' does not exist" in reason(house, "credential")
    listed = house.call("GET", f"{house.proxy_url}/v1/models", headers={"authorization": f"Bearer {house.key}"})[2]
    assert [each["id"] for each in json.loads(listed)["data"]] == ["direct", "half", "translated"]


def test_no_file_and_no_line_of_output_holds_a_providers_key(house: Installation, credential: dict[str, Any]) -> None:
    files = [path for path in house.data_dir.rglob("*") if path.is_file()]
    assert {"snapshot", "encryption_key"} <= {path.name for path in files}
    for path in files:
        assert not [key for key in (FIRST, SECOND, THIRD) if key.encode() in path.read_bytes()], path.name
        assert path.stat().st_mode & 0o077 == 0, path.name
    assert not [key for key in (FIRST, SECOND, THIRD) if key in house.printed]


def test_one_in_use_is_not_deleted_until_the_file_lets_it_go(
    house: Installation, desk: Desk, credential: dict[str, Any], fake_provider: FakeProvider
) -> None:
    place = f"{PATH}/{credential['id']}"
    status, refused = desk.ask("DELETE", place)
    assert status == 409 and "direct, fake-*, half, translated" in refused["error"]["message"]
    assert house.chat(model="direct")[0] == 200
    write(house, {"model_list": [entry("direct", fake_provider, "other", "direct")]})
    wait_until(lambda: desk.ask("GET", place)[1]["used_by"] == [], 20, "the file's models in the database")
    changes = desk.ask("GET", "/api/audit-log?actor=config&action=model.delete")[1]["items"]
    assert {change["object_id"] for change in changes} == {"translated", "fake-*", "fake-plain", "half"}
    assert desk.ask("DELETE", place)[0] == 204
    assert house.chat(model="direct")[0] == 404
    assert desk.ask("POST", PATH, {"name": "other", "provider": "openai", "api_key": FIRST})[0] == 201
    wait_until(lambda: house.chat(model="direct")[0] == 200, ACTS_WITHIN_S, "the other credential")
