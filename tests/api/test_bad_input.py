"""Every field of every request: a bound, a message that names it, and nothing from outside that is a fault of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.api.conftest import SECRET, Api
from token_tracker.api.app import create_app
from token_tracker.api.openapi import describe
from token_tracker.api.routes import ROUTES
from token_tracker.config.encryption import Keyring, make_key

DOCUMENT = describe(ROUTES)
SCHEMAS = DOCUMENT["components"]["schemas"]
Operation = tuple[str, str]
BODIES: dict[Operation, dict[str, Any]] = {
    (method.upper(), path): SCHEMAS[schema["$ref"].rpartition("/")[2]]
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if "$ref"
    in (schema := operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {}))
}
QUERIES: dict[Operation, dict[str, dict[str, Any]]] = {
    (method.upper(), path): {each["name"]: each["schema"] for each in operation["parameters"] if each["in"] == "query"}
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if any(each["in"] == "query" for each in operation["parameters"])
}
# Text that no field turns into a fault, whether it takes it as a name or not.
TEXTS = (
    "",
    " ",
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "a\x00b",
    "a\r\nSet-Cookie: b",
    "\x1b[31m",
    "\u202egnp.exe",
    "\ufeff",
    "\U0001f9ff" * 70,
    "e\u0301",
    "null",
    "NaN",
    "../../etc/passwd",
    "'; DROP TABLE users; --",
    "%00%n",
)
TIMES = (
    "yesterday",
    "2026-01-01",
    "2026-01-01T00:00:00",
    "2026-02-30T00:00:00Z",
    "2026-01-01T25:00:00Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "1767225600",
    "0.5",
    "-1",
    "99999999999999999999",
)
ZONES = ("", "/etc/passwd", "Europe/../Berlin", "europe/nowhere", "UTC\x00", "GMT+25", ".", "a" * 64)
DECIMALS = ("NaN", "Infinity", "-Infinity", "sNaN", "1e400", "1e-400", "-1", "", "0x10", "1,5", "9" * 40, "$1", "10^2")
NUMBERS = (-1, 2**63, 10**30, -(10**30), 1.5, True)
ON_ONE_DATABASE = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)  # it is not asked


@pytest.fixture
def desk(api: Api) -> Api:
    """The API with an encryption key, and one login of `root` for many requests."""
    app = create_app(api.engine, SECRET, keyring=Keyring((make_key(),)))
    api.client = FlaskClient(app, use_cookies=False)
    token = api.token_of("root")
    api.token_of = lambda _: token  # type: ignore[method-assign]
    return api


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = SCHEMAS[schema["$ref"].rpartition("/")[2]]
    return schema


def branches(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """What a value may be, null apart."""
    found = [resolved(each) for each in resolved(schema).get("anyOf", [schema])]
    return [each for each in found if each.get("type") != "null"]


def unbounded(schema: dict[str, Any], place: str) -> Iterator[str]:
    for each in branches(schema):
        kind = each.get("type")
        if "enum" in each or "const" in each or kind == "boolean":
            continue
        if kind == "string" and not ({"maxLength", "format"} & each.keys()):
            yield place
        lowest = {"minimum", "exclusiveMinimum"} & each.keys()
        if kind in ("integer", "number") and not (lowest and "maximum" in each):
            yield place
        if kind == "array":
            yield from () if "maxItems" in each else (place,)
            yield from unbounded(each["items"], f"{place}[]")
        if kind == "object":
            for name, inner in each.get("properties", {}).items():
                yield from unbounded(inner, f"{place}.{name}")
            if isinstance(more := each.get("additionalProperties"), dict):
                yield from () if "maxProperties" in each else (place,)
                yield from unbounded(more, f"{place}.*")


def test_every_field_of_a_body_and_of_a_query_has_a_bound() -> None:
    fields = [
        (*operation, name, schema) for operation, body in BODIES.items() for name, schema in body["properties"].items()
    ]
    fields += [(*operation, name, schema) for operation, query in QUERIES.items() for name, schema in query.items()]
    assert len(fields) > 150
    assert not [
        f"{method} {path}: {found}" for method, path, name, schema in fields for found in unbounded(schema, name)
    ]


def wrong_values(schema: dict[str, Any], name: str) -> Iterator[Any]:
    """Values that the schema itself forbids."""
    kinds = {each.get("type") for each in branches(schema)}
    yield from [{"a": {"b": 1}}] if "object" not in kinds else []
    yield from [[["x"]]] if "array" not in kinds else []
    yield from [True] if "boolean" not in kinds else ["true", 1]
    if "string" not in kinds:
        yield "\x00<b>"
    elif not {"integer", "number"} & kinds:
        yield from (0, 10**30)
    for each in branches(schema):
        if "maxLength" in each and "enum" not in each:
            yield "x" * (each["maxLength"] + 1)
        if each.get("type") == "integer":
            yield from (each["minimum"] - 1, each["maximum"] + 1, 10**40)
            yield from () if "number" in kinds else (1.5,)
        if each.get("format") == "date-time":
            yield from TIMES
        if "enum" in each:
            yield "no such choice"


def messages(answer: TestResponse) -> dict[str, str]:
    return {each["field"]: each["message"] for each in answer.get_json()["error"]["details"]}


def names(fields: dict[str, str], name: str) -> bool:
    return any(field == name or field.startswith((f"{name}.", f"{name}[")) for field in fields)


def address(operation: Operation) -> str:
    """With ids of nothing: a body is judged before anything is looked for."""
    return operation[1].replace("{", "x-").replace("}", "")


@ON_ONE_DATABASE
@pytest.mark.parametrize("operation", BODIES, ids=" ".join)
def test_a_value_that_a_field_cannot_have_is_refused_by_the_fields_name(desk: Api, operation: Operation) -> None:
    for name, schema in BODIES[operation]["properties"].items():
        for value in wrong_values(schema, name):
            answer = desk.send(operation[0], address(operation), "root", json={name: value})
            assert answer.status_code == 422, (name, str(value)[:80], answer.text[:300])
            assert names(messages(answer), name), (name, str(value)[:80], answer.text[:300])
            assert len(answer.data) < 5000, "an answer does not send back what was too long"


@ON_ONE_DATABASE
@pytest.mark.parametrize("operation", QUERIES, ids=" ".join)
def test_a_filter_that_cannot_be_is_refused_by_its_name(desk: Api, operation: Operation) -> None:
    for name, schema in QUERIES[operation].items():
        values = [str(each) for each in wrong_values(schema, name) if isinstance(each, str | int) and each is not True]
        numeric = any(each.get("type") == "integer" for each in branches(schema))
        values = [] if schema.get("type") == "boolean" else values
        values += [f"{each}" for each in ("", "1e3", "0x1", "1_0", "NaN", "٣", "--1")] if numeric else []
        for value in values:
            if not numeric and value.lstrip("-").isdigit() and "enum" not in schema and "format" not in schema:
                continue  # as text it is a name like others
            answer = desk.send(operation[0], operation[1], "root", query_string={name: value})
            if answer.status_code == 404 and "{" in operation[1]:
                continue
            assert answer.status_code == 422, (name, value[:80], answer.text[:300])
            assert names(messages(answer), name), (name, value[:80], answer.text[:300])


@pytest.mark.parametrize("operation", BODIES, ids=" ".join)
def test_no_text_number_or_time_in_any_field_is_a_fault_of_ours(desk: Api, operation: Operation) -> None:
    if operation == ("POST", "/api/alerts/test"):
        pytest.skip("it waits for the worker; its fields are tried above")
    base = GOOD.get(operation, {})
    for name in BODIES[operation]["properties"]:
        for value in (*TEXTS, *ZONES, *DECIMALS, *TIMES, *NUMBERS, None, [], {}, [None], [{}]):
            answer = desk.send(operation[0], address(operation), "root", json={**base, name: value})
            assert answer.status_code < 500, (name, value, answer.text)
            if answer.status_code == 422:
                assert messages(answer), (name, value, answer.text)


GOOD: dict[Operation, dict[str, Any]] = {
    ("POST", "/api/keys"): {"name": "k"},
    ("POST", "/api/users"): {"username": "u", "password": "correct horse"},
    ("POST", "/api/teams"): {"name": "t"},
    ("POST", "/api/prices"): {"name": "m", "rates": {"input_cost_per_token": "0.1"}},
    ("POST", "/api/budgets"): {"name": "b", "scope": {"type": "global"}, "period": "daily", "limit_usd": "1"},
    ("POST", "/api/rate-limits"): {"scope": {"type": "global"}, "limit": 1, "period": "hour"},
    ("POST", "/api/freezes"): {"scope": {"type": "user", "id": "ann"}, "reason": "r"},
    ("POST", "/api/service-tokens"): {"name": "t", "permissions": ["usage:read"]},
    ("POST", "/api/provider-credentials"): {"name": "c", "provider": "openai", "api_key": "sk-x"},
}


@pytest.mark.parametrize("operation", GOOD, ids=" ".join)
def test_several_problems_come_together_and_unknown_fields_are_refused(desk: Api, operation: Operation) -> None:
    wrong = {name: {"a": 1} if not isinstance(value, dict) else 7 for name, value in GOOD[operation].items()}
    answer = desk.send(*operation, "root", json={**wrong, "<b>extra</b>": 1})
    found = messages(answer)
    assert answer.status_code == 422 and names(found, "<b>extra</b>")
    assert all(names(found, name) for name in wrong), found
    assert desk.send(*operation, "root", json=GOOD[operation]).status_code in (200, 201)


@pytest.mark.parametrize(
    ("path", "body", "field", "words"),
    [
        ("/api/users", {"role": "boss"}, "role", "admin, manager, member, viewer"),
        ("/api/rate-limits", {"unit": "calls"}, "unit", "concurrent, requests, tokens"),
        ("/api/budgets", {"on_exceeded": {"action": "mail"}}, "on_exceeded.action", "block, downgrade"),
        (
            "/api/keys",
            {"rate_limits": [{"limit": 1, "period": "min"}]},
            "rate_limits[0].period",
            "day, hour, minute, second",
        ),
    ],
)
@ON_ONE_DATABASE
def test_a_word_that_is_not_known_is_answered_with_those_that_are(
    desk: Api, path: str, body: dict[str, Any], field: str, words: str
) -> None:
    details = desk.post(path, "root", **body).get_json()["error"]["details"]
    assert {"field": field, "message": f"must be one of {words}"} in details


@ON_ONE_DATABASE
@pytest.mark.parametrize(
    "text",
    ['{"name": NaN}', '{"name": Infinity}', '{"name": 1e999}', '{"name": "\\ud800"}', "{'name': 1}", '{"a": 1,}'],
)
def test_what_is_no_json_is_refused_as_such(desk: Api, text: str) -> None:
    answer = desk.send("POST", "/api/keys", "root", data=text, content_type="application/json")
    assert (answer.status_code, answer.get_json()["error"]["code"]) in ((400, "invalid_json"), (422, "invalid_request"))


@pytest.mark.parametrize("cursor", ["!", "-1", "\u0663", "\x00", "=", "Ww" * 400])
@pytest.mark.parametrize(
    "operation", [each for each, query in QUERIES.items() if "cursor" in query and "{" not in each[1]], ids=" ".join
)
def test_a_cursor_that_no_list_gave_out_is_refused(desk: Api, operation: Operation, cursor: str) -> None:
    answer = desk.send(*operation, "root", query_string={"cursor": cursor})
    assert answer.status_code == 422 and names(messages(answer), "cursor"), answer.text


@ON_ONE_DATABASE
@pytest.mark.parametrize("name", ["If-Match", "Authorization", "Content-Type", "Accept", "X-Forwarded-For", "Host"])
@pytest.mark.parametrize(
    "value", ["", "*", '"', "<script>", "=1+1", "a" * 5000, "\u00ff\u00fe", "Bearer svc-tt-\u00e9"]
)
def test_no_header_is_a_fault_of_ours(desk: Api, name: str, value: str) -> None:
    headers = {"Authorization": f"Bearer {desk.token_of('root')}", "Content-Type": "application/json", name: value}
    answer = desk.client.patch("/api/users/ann", headers=headers, data=json.dumps({"disabled": False}))
    assert answer.status_code < 500 and answer.mimetype == "application/json"
    assert "<script>" not in answer.text or name != "Host"


def test_names_that_are_html_or_formulas_stay_text(desk: Api) -> None:
    for name in ("<img src=x onerror=alert(1)>", "=HYPERLINK(0)", "+1", "@SUM(A1)", "-2+3"):
        made = desk.post("/api/keys", "root", name=name)
        assert made.get_json()["name"] == name and made.mimetype == "application/json"
        shown = desk.get(f"/api/keys/{made.get_json()['id']}", "root")
        assert shown.get_json()["name"] == name and shown.headers["X-Content-Type-Options"] == "nosniff"
