"""Every route of the application as every role, for things of all: what is answered is what docs/access.md says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from tests.api.access import matrix, things
from tests.api.conftest import NOON, PEOPLE, SECRET, Api
from token_tracker.api.app import create_app
from token_tracker.database.session import transaction
from token_tracker.domain.access import GRANTS, Role
from token_tracker.services.refusals import book_refusals
from token_tracker.services.service_tokens import OF_PEOPLE

ASKERS = ("root", "mia", "max", "ann", "eve")  # max: a manager of no team
OTHERS = ("ben", "bob", "eve")  # of the team red, of the team blue, of none
# What a route needs to come as far as looking for the thing; all else is asked with an empty body.
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/api/keys/{key_id}/rotate"): {"overlap_s": 0},
    ("PATCH", "/api/teams/{team_id}"): {"name": "Team"},
    ("POST", "/api/budgets/{budget_id}/top-up"): {"amount_usd": "1"},
    ("POST", "/api/budgets/{budget_id}/release"): {"call_ids": "all", "reason": "r"},
    ("POST", "/api/nodes/{node_id}/release"): {"reason": "r"},
}
# Lists of what people used: each row names a model that only its user called.
USAGE = {
    "/api/token-usage": ("", "format=csv", "format=jsonl"),
    "/api/token-usage/summary": ("group_by=model",),
    "/api/refusals": ("",),
    "/api/unmetered": ("",),
    "/api/unpriced": ("",),
}
_FIELD = re.compile(r"\{(\w+)\}")
WRITTEN = matrix.written()
CLOSED = {route: row for route, row in WRITTEN.items() if row.reach[Role.ADMIN] != matrix.OPEN}


@pytest.fixture
def walker(api: Api) -> Api:
    """The API with an encryption key; tokens are made once, as the walk is long."""
    api.client = FlaskClient(create_app(api.engine, SECRET, keyring=things.KEYRING), use_cookies=False)
    api.token_of = cache(api.token_of)  # type: ignore[method-assign]
    return api


@pytest.fixture
def programs(engine: Engine) -> Callable[..., str]:
    """`programs("mia", permissions)`: the text of a service token."""

    @cache
    def make(who: str, permissions: frozenset[str]) -> str:
        with transaction(engine) as session:
            return things.service_token(session, who, sorted(permissions))[1]

    return make


def role_of(who: str) -> Role:
    return Role(PEOPLE[who][0])


def sees(reach: str, who: str, owner: str) -> bool:
    team = PEOPLE[who][1]
    if reach == "team" and team:
        return team == PEOPLE[owner][1]
    return reach == "all" or (reach in ("team", "own") and who == owner)


def outcome(answer: TestResponse) -> str:
    """'reached', or why not. Whatever is reached may have other words about the request."""
    assert answer.status_code < 500, answer.text
    if answer.status_code in (401, 403, 404):
        code: str = answer.get_json()["error"]["code"]
        return code if code in ("not_authenticated", "forbidden", "not_found") else "reached"
    return "reached"


def addresses(route: tuple[str, str], who: str, engine: Engine) -> list[tuple[str, str]]:
    """Whose thing, and its address: the asker's own, a team-mate's, another team's and that of a person without one."""
    found = []
    path = route[1]
    fields = _FIELD.findall(path)
    owners = dict.fromkeys((who, *OTHERS)) if is_owned(path) else (who,)
    with transaction(engine) as session:
        for owner in owners:
            made = {field: (things.OWNED | things.SHARED)[field](session, owner) for field in fields}
            if all(made.values()):
                found.append((owner, path.format(**made)))
    return found


def is_owned(path: str) -> bool:
    return any(field in things.OWNED for field in _FIELD.findall(path))


def ask(walker: Api, route: tuple[str, str], path: str, token: str) -> TestResponse:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return walker.client.open(path, method=route[0], headers=headers, json=BODIES.get(route, {}))


def expected(route: tuple[str, str], who: str, owner: str) -> str:
    reach = WRITTEN[route].reach[role_of(who)]
    if reach == matrix.NEVER:
        return "forbidden"
    return "not_found" if is_owned(route[1]) and not sees(reach, who, owner) else "reached"


def test_every_route_of_the_application_is_in_the_matrix_and_no_other(walker: Api) -> None:
    app = walker.client.application
    missing = "python -m tests.api.access.matrix writes the table of docs/access.md"
    assert matrix.served(app) == set(WRITTEN), missing
    assert {field for _, path in CLOSED for field in _FIELD.findall(path)} == {*things.OWNED, *things.SHARED}


def test_nobody_gets_in_where_it_is_not_open_and_everybody_where_it_is(walker: Api) -> None:
    for route, row in WRITTEN.items():
        assert set(row.reach.values()) | {row.by_token} == {matrix.OPEN} or route in CLOSED
        said = outcome(ask(walker, route, route[1].replace("{path}", "index.html"), ""))
        assert (said == "not_authenticated") == (route in CLOSED), route


@pytest.mark.parametrize("who", ASKERS)
def test_each_role_reaches_what_the_matrix_says_and_not_what_lies_beyond(walker: Api, who: str, engine: Engine) -> None:
    for route in CLOSED:
        for owner, path in addresses(route, who, engine):
            answer = ask(walker, route, path, walker.token_of(who))
            assert outcome(answer) == expected(route, who, owner), (route, f"{who} asks for {owner}'s", answer.text)
            assert answer.status_code != 422 or path == route[1], (route, "needs an entry in BODIES", answer.text)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize("who", ASKERS)
def test_a_service_token_reaches_as_far_as_its_account_with_the_permission_and_nothing_without(
    walker: Api, who: str, programs: Callable[..., str], engine: Engine
) -> None:
    own = frozenset(map(str, GRANTS[role_of(who)].keys() - OF_PEOPLE))
    for route, row in CLOSED.items():
        assert (row.by_token == "yes") == (row.needs not in OF_PEOPLE), route
        places = addresses(route, who, engine)
        without = ask(walker, route, places[0][1] if places else route[1], programs(who, own - {row.needs}))
        assert outcome(without) == "forbidden", (route, who, without.text)
        for owner, path in places:
            if row.needs in own:
                answer = ask(walker, route, path, programs(who, frozenset({row.needs})))
                assert outcome(answer) == expected(route, who, owner), (route, f"{who}: {owner}'s", answer.text)


@pytest.mark.parametrize("who", ASKERS)
def test_lists_sums_and_exports_leave_out_what_lies_beyond_the_reach(
    walker: Api, who: str, engine: Engine, booked: Callable[[Iterable[dict[str, Any]]], None]
) -> None:
    owners = tuple(dict.fromkeys((who, *OTHERS)))
    book_for_each(owners, engine, booked)
    makers = {path.partition("/{")[0]: field for _, path in CLOSED for field in _FIELD.findall(path)}
    for route, row in CLOSED.items():
        method, path = route
        reach = row.reach[role_of(who)]
        if method != "GET" or "{" in path or reach == matrix.NEVER:
            continue
        field = makers.get(path, "")
        assert path in USAGE or field in things.OWNED or set(row.reach.values()) <= {"all", matrix.NEVER}, path
        with transaction(engine) as session:
            made = {owner: things.OWNED[field](session, owner) for owner in owners} if field in things.OWNED else {}
        for query in USAGE.get(path, ("limit=1000",)):
            text = walker.client.get(
                f"{path}?{query}", headers={"Authorization": f"Bearer {walker.token_of(who)}"}
            ).text
            for owner in owners if path in USAGE else made:
                needle = f"model-of-{owner}" if path in USAGE else f'"{made[owner]}"'
                assert made.get(owner) == "" or (needle in text) == sees(reach, who, owner), (path, query, owner, text)


def book_for_each(owners: Iterable[str], engine: Engine, booked: Callable[[Iterable[dict[str, Any]]], None]) -> None:
    """A call that nobody could meter or price, and one that was refused."""
    plain = {"usage_source": "none", "cost_source": "unpriced", "cost_nano_usd": None}
    who = [(owner, PEOPLE[owner][1] or "", f"model-of-{owner}") for owner in owners]
    booked({**plain, "id": model, "model": model, "user_id": name, "team_id": team} for name, team, model in who)
    refused = {"hour": NOON, "code": "frozen", "status": 403, "key_id": "k", "endpoint": "/v1/messages", "calls": 1}
    with transaction(engine) as session:
        book_refusals(session, [{**refused, "user_id": n, "team_id": t, "model": m} for n, t, m in who])


@pytest.mark.parametrize("who", ("root", "mia", "max", "ann"))
def test_a_key_is_made_only_for_those_within_the_reach(walker: Api, who: str) -> None:
    reach = WRITTEN["POST", "/api/keys"].reach[role_of(who)]
    for owner in dict.fromkeys((who, *OTHERS)):
        answer = walker.post("/api/keys", who, name="k", user=owner)
        assert answer.status_code == (201 if sees(reach, who, owner) else 403), (who, owner, answer.text)
