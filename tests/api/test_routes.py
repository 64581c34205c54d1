"""What holds for every route: a named permission, JSON errors, safe headers, a description that is valid OpenAPI."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from flask import Flask
from openapi_spec_validator import validate
from sqlalchemy import Engine

from token_tracker.api.app import create_app
from token_tracker.api.routes import ROUTES
from token_tracker.api.routing import Open, Route
from token_tracker.domain.access import GRANTS, Permission, Role

OPEN = {
    ("GET", "/"),
    ("GET", "/api"),
    ("GET", "/api/health"),
    ("GET", "/api/openapi.json"),
    ("POST", "/api/auth/login"),
    ("POST", "/api/auth/refresh"),
    ("POST", "/api/auth/logout"),
    ("GET", "/api/auth/oidc/start"),
    ("GET", "/api/auth/oidc/callback"),
}
CLOSED = [route for route in ROUTES if not isinstance(route.permission, Open)]
READS = {
    "usage:read",
    "keys:read",
    "users:read",
    "teams:read",
    "tokens:read",
    "prices:read",
    "rules:read",
    "alerts:read",
    "audit:read",
    "credentials:read",
    "models:read",
}


@pytest.fixture
def app() -> Flask:
    from token_tracker.database.session import make_engine

    return create_app(make_engine("postgresql://nobody@127.0.0.1:1/none"), b"secret")


def name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


def test_every_route_of_the_application_names_its_permission(app: Flask) -> None:
    served = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.endpoint != "swagger_ui.show"
        for method in (rule.methods or set()) - {"HEAD"}
    }
    assert served == {(route.method, route.path) for route in ROUTES}
    assert all(isinstance(route.permission, Permission | Open) for route in ROUTES)


def test_only_these_routes_are_open() -> None:
    assert {(route.method, route.path) for route in ROUTES if isinstance(route.permission, Open)} == OPEN


def test_a_route_that_changes_something_never_needs_only_a_permission_to_read() -> None:
    for route in CLOSED:
        assert (route.method == "GET") == (str(route.permission) in READS), name_of(route)


def test_no_closed_route_answers_without_a_token_or_with_a_wrong_one(app: Flask) -> None:
    client = app.test_client()
    for route in CLOSED:
        path = re.sub(r"\{\w+\}", "x", route.path)
        for header in (None, "Bearer", "Bearer x.y.z", "Basic cm9vdDpyb290", "Bearer " + "a" * 5000):
            headers = {} if header is None else {"Authorization": header}
            answer = client.open(path, method=route.method, headers=headers, json={})
            assert answer.status_code == 401, name_of(route)
            assert answer.get_json()["error"]["code"] == "not_authenticated"
            assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_role_without_the_permission_gets_403_and_one_with_it_does_not(api: Any) -> None:
    people = {Role.VIEWER: "eve", Role.MEMBER: "ann", Role.MANAGER: "mia", Role.ADMIN: "root"}
    for route in CLOSED:
        path = re.sub(r"\{\w+\}", "x", route.path)
        for role, who in people.items():
            answer = api.send(route.method, path, who, json={})
            granted = route.permission in GRANTS[role]
            assert (answer.status_code == 403) == (not granted), (name_of(route), role, answer.text)


def test_the_description_is_valid_openapi_and_names_every_route(app: Flask) -> None:
    document = json.loads(app.test_client().get("/api/openapi.json").data)
    validate(document)
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert described == {(route.method, route.path) for route in ROUTES}
    parameters = document["paths"]["/api/token-usage"]["get"]["parameters"]
    wanted = "start,end,model,provider,user,team,key,agent,session,end_user,tag,status,end_reason,usage_source,"
    wanted += "cost_source,lane,limit,cursor,format"
    assert {parameter["name"] for parameter in parameters} == set(wanted.split(","))


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/favicon.ico", 404, "not_found"),
        ("GET", "/api/provider-credentials/re-encrypt", 405, "method_not_allowed"),
        ("DELETE", "/api/prices/import", 405, "method_not_allowed"),
        ("GET", "/api/nothing", 404, "not_found"),
        ("GET", "/static/app.js", 404, "not_found"),
        ("GET", "/api/keys/a%00b", 404, "not_found"),
        ("GET", "/api/%ff", 404, "not_found"),
        ("PUT", "/api/keys", 405, "method_not_allowed"),
        ("OPTIONS", "/api/keys", 405, "method_not_allowed"),
        ("TRACE", "/api/health", 405, "method_not_allowed"),
    ],
)
def test_what_is_not_there_is_a_json_error(app: Flask, method: str, path: str, status: int, code: str) -> None:
    answer = app.test_client().open(path, method=method)
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (status, code)
    if status == 405:
        assert answer.headers["Allow"]


LOGIN = {"username": "a", "password": "b"}


@pytest.mark.parametrize(
    ("body", "media", "status", "code"),
    [
        (json.dumps(LOGIN), "text/plain", 415, "unsupported_media_type"),
        (json.dumps(LOGIN), None, 415, "unsupported_media_type"),
        ("", "application/json", 400, "invalid_json"),
        ("{", "application/json", 400, "invalid_json"),
        ("[]", "application/json", 400, "invalid_json"),
        ("null", "application/json", 400, "invalid_json"),
        (b"\xff\xfe", "application/json", 400, "invalid_json"),
        ('{"username": "\\ud800", "password": "b"}', "application/json", 400, "invalid_json"),
        ("[" * 200_000, "application/json", 400, "invalid_json"),
        ('{"username": "' + "a" * 300_000 + '"}', "application/json", 413, "request_too_large"),
        ('{"username": 1, "extra": 2}', "application/json", 422, "invalid_request"),
    ],
)
def test_a_bad_body_is_refused_with_its_reason(
    app: Flask, body: str | bytes, media: str | None, status: int, code: str
) -> None:
    answer = app.test_client().post("/api/auth/login", data=body, content_type=media)
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (status, code)


def test_all_problems_of_a_body_come_at_once_each_with_its_field(app: Flask) -> None:
    answer = app.test_client().post("/api/auth/login", json={"username": 1, "extra": 2})
    details = {detail["field"]: detail["message"] for detail in answer.get_json()["error"]["details"]}
    assert set(details) == {"username", "password", "extra"}
    assert details["password"] == "is required"
    assert "expected `str`, got `int`" in details["username"]
    assert "username, password" in details["extra"]


def test_while_the_database_is_away_every_answer_says_so(app: Flask) -> None:
    client = app.test_client()
    health = client.get("/api/health")
    login = client.post("/api/auth/login", json=LOGIN)
    for answer in (health, login):
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.get_json()["error"]["code"] == "database_unavailable"
        assert "127.0.0.1" not in answer.text
    assert health.get_json()["version"]


def test_a_database_without_tables_is_not_healthy(empty_engine: Engine) -> None:
    client = create_app(empty_engine, b"secret").test_client()
    assert client.get("/api/health").status_code == 503
    login = client.post("/api/auth/login", json=LOGIN)
    assert (login.status_code, login.get_json()["error"]["code"]) == (503, "database_unavailable")


def test_health_is_open_and_says_the_version(api: Any) -> None:
    answer = api.get("/api/health")
    assert answer.status_code == 200
    assert answer.get_json() == {"status": "ok", "version": "0.1.0", "database": "ok"}


def test_every_answer_carries_the_safe_headers_and_no_cors(api: Any) -> None:
    for answer in (api.get("/api/health"), api.get("/nope"), api.get("/api/keys", "root"), api.get("/api/keys")):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]


def test_a_fault_of_ours_shows_nothing_of_its_inside(
    app: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("inside knowledge")

    monkeypatch.setattr("token_tracker.api.openapi.document", fail)
    answer = app.test_client().get("/api/openapi.json")
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (500, "internal_error")
    assert "inside" not in answer.text
    assert "inside knowledge" in caplog.text
