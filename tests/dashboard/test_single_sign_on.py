"""Logging in to the dashboard by an OpenID Connect provider."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from tests.api.identity_provider import CLIENT, SECRET, follow, running_provider
from token_tracker.config.load import load
from token_tracker.dashboard.app import create_app


@pytest.fixture
def server(laid_url: str, tmp_path: Path) -> Iterator[Flask]:
    with running_provider() as issuer:
        environment = {
            "DATABASE_URL": laid_url,
            "TOKEN_TRACKER_DATA_DIR": str(tmp_path / "data"),
            "TOKEN_TRACKER_OIDC_ISSUER": issuer,
            "TOKEN_TRACKER_OIDC_CLIENT_ID": CLIENT,
            "TOKEN_TRACKER_OIDC_CLIENT_SECRET": SECRET,
            "TOKEN_TRACKER_OIDC_ROLES": "admins=admin",
        }
        (tmp_path / "config").mkdir()
        (tmp_path / "config" / "proxy.yaml").write_text("model_list: []")
        (tmp_path / "data").mkdir()
        made = create_app(load(environment, tmp_path))
        yield made
        made.extensions["engine"].dispose()


def test_a_person_comes_back_from_the_provider_logged_in(server: Flask) -> None:
    client = server.test_client()
    assert "/login/sso" in client.get("/login").text
    back = follow(client.get("/login/sso").headers["Location"], "ann", groups="admins")
    assert back.startswith("/login/sso/callback?")
    answer = client.get(back)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")
    assert client.get("/").status_code == 200
    layout = client.get("/_dash-layout")
    assert "ann (admin)" in layout.text


def test_a_refused_a_replayed_and_a_foreign_login_say_so_on_the_login_page(server: Flask) -> None:
    client, other = server.test_client(), server.test_client()
    refused = client.get(follow(client.get("/login/sso").headers["Location"], "ann", manner="refused"))
    assert refused.status_code == 401 and "did not log you in" in refused.text
    back = follow(client.get("/login/sso").headers["Location"], "ann")
    assert "in this browser" in other.get(back).text
    assert client.get(back).status_code == 302
    assert client.get(back).status_code == 401
