"""The dashboard as a browser asks it: what is behind the login, what ends it, and what no control of ours sends."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.conftest import using
from token_tracker.config.load import load
from token_tracker.dashboard.app import create_app
from token_tracker.database.session import transaction
from token_tracker.domain.access import Role
from token_tracker.services.accounts import create_user

PASSWORD = "correct horse battery"
DEMO = "model_list: [{model_name: demo, litellm_params: {model: demo/echo}}]"


@pytest.fixture
def server(laid_url: str, tmp_path: Path) -> Iterator[Flask]:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "proxy.yaml").write_text(DEMO)
    with using(laid_url) as engine, transaction(engine) as session:
        create_user(session, name="root", password=PASSWORD, role=Role.ADMIN, at=datetime.now(UTC))
    environment = {"DATABASE_URL": laid_url, "TOKEN_TRACKER_DATA_DIR": str(tmp_path / "data")}
    configuration = load(environment, tmp_path)
    configuration.settings.data_dir.mkdir()
    made = create_app(configuration)
    yield made
    made.extensions["engine"].dispose()


def form_token(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found
    return found.group(1)


def log_in(client: FlaskClient) -> None:
    token = form_token(client.get("/login").text)
    answer = client.post("/login", data={"username": "root", "password": PASSWORD, "csrf_token": token})
    assert (answer.status_code, answer.headers["location"]) == (302, "/")


def refreshed(client: FlaskClient, values: dict[str, Any]) -> Any:
    """The state's text after a callback with `values` by the input's id."""
    (callback,) = [each for each in client.get("/_dash-dependencies").get_json() if "cards" in each["output"]]
    outputs = [
        dict(zip(("id", "property"), each.rsplit(".", 1), strict=True))
        for each in callback["output"].strip(".").split("...")
    ]
    given = {"tick": 1, "zone": "UTC", "range": "24h"} | values
    body = {
        "output": callback["output"],
        "outputs": outputs,
        "inputs": [{**each, "value": given.get(each["id"])} for each in callback["inputs"]],
        "state": [{**each, "value": None} for each in callback["state"]],
        "changedPropIds": ["range.value"],
    }
    answer = client.post("/_dash-update-component", data=json.dumps(body), content_type="application/json")
    assert answer.status_code == 200, answer.text[:300]
    return answer.get_json()["response"]["state"]["children"]


@pytest.mark.parametrize("junk", [-1, 10**30, 1e308, True, "9999y", "", [], ["24h"], {"a": 1}, None])
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_range_that_no_control_holds_is_the_default_one(server: Flask, junk: object) -> None:
    client = server.test_client()
    log_in(client)
    assert refreshed(client, {"range": junk}).startswith("Last 24 hours, times in UTC")


def test_filters_and_a_zone_that_no_control_holds_are_the_defaults(server: Flask) -> None:
    client = server.test_client()
    log_in(client)
    for junk in (-1, 1e308, True, [], ["x"], {"a": 1}, "a\0b", "\ud800", "<x>", "x" * 5_000):
        values = dict.fromkeys(("zone", "filter-model", "filter-user", "filter-team", "filter-key"), junk)
        assert refreshed(client, values).startswith("Last 24 hours, times in UTC")


@pytest.mark.parametrize(
    "body",
    [
        *("", "x", "5", "null", "[]", "{}", '{"output": 5}', '{"output": "nope.children", "inputs": []}'),
        *('{"output": "OURS", "inputs": [1], "outputs": [], "state": []}', '{"output": "OURS", "outputs": {}}'),
    ],
)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_callback_that_no_page_of_ours_sends_is_a_bad_request(server: Flask, body: str) -> None:
    client = server.test_client()
    log_in(client)
    (ours,) = [each["output"] for each in client.get("/_dash-dependencies").get_json() if "cards" in each["output"]]
    answer = client.post("/_dash-update-component", data=body.replace("OURS", ours), content_type="application/json")
    assert answer.status_code == 400


def test_a_log_out_ends_the_session_for_a_copied_cookie_too(server: Flask) -> None:
    client, thief = server.test_client(), server.test_client()
    log_in(client)
    cookie = client.get_cookie("tt_session")
    assert cookie
    thief.set_cookie("tt_session", cookie.value)
    assert refreshed(thief, {}).startswith("Last 24 hours")
    with client.session_transaction() as session:
        session["csrf"] = "known"
    assert client.post("/logout", data={"csrf_token": "known"}).headers["location"] == "/login"
    assert refreshed(thief, {}).startswith("Your session has ended")
    assert thief.get("/").headers["location"] == "/login"
    log_in(thief)
    assert refreshed(thief, {}).startswith("Last 24 hours")
