"""Virtual keys: made and revoked by the API, and within two seconds what the gateway goes by."""

from __future__ import annotations

import time
from typing import Any

import anthropic
import openai
import pytest

from tests.functional.house import House, marker
from tests.functional.installation import wait_until

ACTS_WITHIN_S = 2.0


def make_key(house: House, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = house.api("POST", "/api/keys", {"name": marker("key"), **fields}, status=201)
    return made


def answers(house: House, key: str, status: int) -> bool:
    url = f"{house.proxy_url}/v1/models"
    return house.installation.call("GET", url, headers={"authorization": f"Bearer {key}"})[0] == status


def wait_until_it_acts(house: House, key: str, status: int) -> float:
    """Until the gateway answers a request with `key` so; how long that took, in seconds."""
    began_s = time.monotonic()
    wait_until(lambda: answers(house, key, status), ACTS_WITHIN_S, f"a {status} for the key")
    return time.monotonic() - began_s


def ask(client: openai.OpenAI, name: str = "fake-plain", **more: Any) -> Any:
    return client.chat.completions.create(model=name, messages=[{"role": "user", "content": "one two three"}], **more)


def test_a_new_key_serves_within_two_seconds_and_a_revoked_one_is_refused_within_two(house: House) -> None:
    made = make_key(house)
    assert made["key"].startswith("sk-tt-") and made["key"].startswith(made["prefix"])
    wait_until_it_acts(house, made["key"], 200)
    name = marker("new-key")
    ask(house.openai(api_key=made["key"]), user=name)
    assert house.row(name)["key_id"] == made["id"]
    house.api("DELETE", f"/api/keys/{made['id']}", status=204)
    wait_until_it_acts(house, made["key"], 401)
    with pytest.raises(openai.AuthenticationError):
        ask(house.openai(api_key=made["key"]))
    listed = {key["id"]: key for key in house.api("GET", "/api/keys?limit=1000")["items"]}
    assert listed[made["id"]]["revoked_at"] and "key" not in listed[made["id"]]


def test_a_key_rotated_without_overlap_is_refused_and_its_successor_serves(house: House) -> None:
    made = make_key(house)
    wait_until_it_acts(house, made["key"], 200)
    successor = house.api("POST", f"/api/keys/{made['id']}/rotate", {"overlap_s": 0}, status=201)
    assert successor["predecessor"] == made["id"]
    wait_until_it_acts(house, successor["key"], 200)
    wait_until_it_acts(house, made["key"], 401)


def test_a_key_ends_at_its_expiry_without_anybody_doing_anything(house: House) -> None:
    expires_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 6))
    made = make_key(house, expires_at=expires_at)
    wait_until_it_acts(house, made["key"], 200)
    wait_until(lambda: answers(house, made["key"], 401), 15, "the end of the key")
    # gmtime() alone reads a coarser clock, which may still show the second before.
    assert time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time())) >= expires_at


@pytest.mark.parametrize("key", ["sk-tt-" + "0" * 43, "sk-of-somebody-else", "x"])
def test_a_wrong_key_is_refused_in_the_dialect_of_the_route(house: House, key: str) -> None:
    name = marker("wrong-key")
    with pytest.raises(openai.AuthenticationError) as openais:
        ask(house.openai(api_key=key), user=name)
    assert openais.value.code == "invalid_api_key" and "sk-tt-" in openais.value.body["message"]
    with pytest.raises(anthropic.AuthenticationError) as anthropics:
        house.anthropic(api_key=key).messages.create(
            model="claude-plain", max_tokens=10, messages=[{"role": "user", "content": name}]
        )
    body = anthropics.value.body
    assert body["type"] == "error" and body["error"]["type"] == "authentication_error"
    for refused in (openais.value.response, anthropics.value.response):
        assert refused.headers["x-tt-code"] == "invalid_api_key" and refused.headers["x-tt-request-id"]
        assert key == "x" or key not in refused.text
    assert house.provider.books(name) == []


def test_without_a_key_every_route_but_health_is_closed(house: House) -> None:
    call, url = house.installation.call, house.proxy_url
    for path in ("/v1/chat/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"):
        assert call("POST", url + path, {"model": "fake-plain"})[0] == 401
    assert call("GET", url + "/v1/models")[0] == 401
    for path in ("/health", "/health/live", "/health/ready"):
        assert call("GET", url + path)[0] == 200


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key"])
def test_a_key_is_taken_from_each_header_that_clients_use_and_goes_no_further(house: House, header: str) -> None:
    name = marker("header")
    value = f"Bearer {house.key}" if header == "authorization" else house.key
    body = {"model": "fake-plain", "messages": [{"role": "user", "content": "one two three"}], "user": name}
    url = f"{house.proxy_url}/v1/chat/completions"
    assert house.installation.call("POST", url, body, {header: value})[0] == 200
    sent = house.provider.entry(name)["headers"]
    assert not [pair for pair in sent if house.key in pair[1]]


def test_a_key_serves_only_its_models_and_sees_no_others(house: House) -> None:
    made = make_key(house, models=["gpt-4o", "fake-*"])
    wait_until_it_acts(house, made["key"], 200)
    client, name = house.openai(api_key=made["key"]), marker("models")
    assert [each.id for each in client.models.list()] == ["gpt-4o"]  # what a wildcard covers cannot be listed
    ask(client, "fake-plain", user=marker("allowed"))
    with pytest.raises(openai.PermissionDeniedError) as caught:
        ask(client, "alias-of-plain", user=name)
    assert caught.value.code == "model_not_allowed" and "alias-of-plain" in caught.value.body["message"]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("alias-of-plain")
    with pytest.raises(anthropic.PermissionDeniedError) as theirs:
        house.anthropic(api_key=made["key"]).messages.create(
            model="claude-plain", max_tokens=10, messages=[{"role": "user", "content": name}]
        )
    assert theirs.value.body["error"]["type"] == "permission_error"
    assert house.provider.books(name) == []
    house.api("PATCH", f"/api/keys/{made['id']}", {"models": ["alias-of-plain"]})
    wait_until(lambda: [each.id for each in client.models.list()] == ["alias-of-plain"], ACTS_WITHIN_S, "the change")
    ask(client, "alias-of-plain", user=name)
    assert house.row(name)["key_id"] == made["id"]


def test_a_keys_pinned_agent_is_on_the_row_whatever_the_client_says(house: House) -> None:
    made = make_key(house, agent="the-pinned-one")
    wait_until_it_acts(house, made["key"], 200)
    name = marker("agent")
    ask(house.openai(api_key=made["key"]), user=name, extra_headers={"x-tt-agent": "another"})
    assert house.row(name)["agent"] == "the-pinned-one"


def test_no_file_and_no_line_of_output_holds_a_key_in_the_clear(house: House) -> None:
    """The first key is printed once, as it must be; a key of the API, the upstream's key and passwords nowhere."""
    made = make_key(house)
    wait_until_it_acts(house, made["key"], 200)
    name = marker("secrets")
    ask(house.openai(api_key=made["key"]), user=name)
    house.row(name)
    installation = house.installation
    secrets = [made["key"], house.key, installation.admin_password]
    files = [path for path in installation.data_dir.rglob("*") if path.is_file()]
    assert {"snapshot", "token_tracker.db"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret.encode() in content], path.name
        assert path.stat().st_mode & 0o077 == 0, f"others may read {path.name}"
    assert made["key"] not in installation.printed
    assert installation.printed.count(house.key) <= 2  # the line of the first key, and the curl line beside it
    assert installation.admin_password not in installation.printed
