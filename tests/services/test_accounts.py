"""Users, teams and passwords."""

from __future__ import annotations

from datetime import datetime

import pytest
from argon2 import PasswordHasher, extract_parameters
from sqlalchemy import Engine, select

from token_tracker.database.models import Team, User
from token_tracker.database.session import reading, transaction
from token_tracker.domain.access import Scope
from token_tracker.domain.problems import Conflict, Invalid, NotFound
from token_tracker.services import accounts, passwords

PASSWORD = "correct horse battery"


@pytest.fixture
def with_dora(people: Engine, at: datetime) -> Engine:
    with transaction(people) as session:
        accounts.create_user(session, name="dora", password=PASSWORD, role="manager", team="red", at=at)
    return people


def authenticate(engine: Engine, username: str, password: str) -> str | None:
    with reading(engine) as session:
        user = accounts.authenticate(session, username=username, password=password)
        return user.id if user else None


def test_the_right_password_opens_and_all_else_does_not(with_dora: Engine) -> None:
    assert authenticate(with_dora, "dora", PASSWORD) == "dora"
    wrong = [
        ("dora", "wrong"),
        ("dora", ""),
        ("dora", PASSWORD + " "),
        ("nobody", PASSWORD),
        ("", ""),
        ("Dora", PASSWORD),
        ("do\0ra", PASSWORD),
        ("\ud800", PASSWORD),
        ("dora", "\ud800"),
    ]
    assert [authenticate(with_dora, *pair) for pair in wrong] == [None] * len(wrong)


def test_a_disabled_account_does_not_open(with_dora: Engine, at: datetime) -> None:
    with transaction(with_dora) as session:
        session.get_one(User, "dora").disabled_at = at
    assert authenticate(with_dora, "dora", PASSWORD) is None


def test_an_overlong_password_is_wrong_even_where_its_beginning_is_right(people: Engine, at: datetime) -> None:
    longest = "x" * passwords.MAX_LENGTH
    with transaction(people) as session:
        accounts.create_user(session, name="dora", password=longest, role="member", at=at)
    assert authenticate(people, "dora", longest) == "dora"
    assert authenticate(people, "dora", longest + "x") is None


def test_an_unknown_user_costs_one_check_of_the_same_work(with_dora: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    passwords.warm_up()
    checked: list[str] = []
    verify = PasswordHasher.verify

    def counted(self: PasswordHasher, password_hash: str, password: str) -> bool:
        checked.append(password_hash)
        return verify(self, password_hash, password)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    authenticate(with_dora, "nobody", PASSWORD)
    authenticate(with_dora, "dora", "wrong password")
    unknown, known = map(extract_parameters, checked)
    assert unknown == known


def test_passwords_are_argon2id_with_a_salt_of_their_own(with_dora: Engine, at: datetime) -> None:
    with transaction(with_dora) as session:
        accounts.create_user(session, name="emil", password=PASSWORD, role="member", at=at)
    with reading(with_dora) as session:
        hashes = [session.get_one(User, name).password_hash for name in ("dora", "emil")]
    assert hashes[0] != hashes[1]
    assert all(each.startswith("$argon2id$") for each in hashes)


def test_all_that_is_wrong_with_a_new_user_is_said_at_once(people: Engine, at: datetime) -> None:
    with transaction(people) as session, pytest.raises(Invalid, match="not valid Unicode"):
        accounts.create_user(session, name="emil", password="\ud800" * 9, role="member", at=at)
    with transaction(people) as session, pytest.raises(Invalid) as refused:
        accounts.create_user(session, name="a b", password="short", role="king", team="blue", at=at)
    assert [field for field, _ in refused.value.problems] == ["name", "password", "role", "team"]


def test_a_taken_name_is_a_conflict_and_changes_nothing(with_dora: Engine, at: datetime) -> None:
    with transaction(with_dora) as session:
        with pytest.raises(Conflict, match="'dora' is taken"):
            accounts.create_user(session, name="dora", password="another password", role="admin", at=at)
        with pytest.raises(Conflict, match="'red' is taken"):
            accounts.create_team(session, team_id="red", name="Other", at=at)
        accounts.create_team(session, team_id="blue", name="Blue", at=at)
    assert authenticate(with_dora, "dora", PASSWORD) == "dora"
    with reading(with_dora) as session:
        assert sorted(session.scalars(select(Team.name))) == ["Blue", "Red"]


def test_a_new_password_replaces_the_old_one(with_dora: Engine) -> None:
    with transaction(with_dora) as session:
        accounts.set_password(session, user_id="dora", password="a new password")
        with pytest.raises(Invalid):
            accounts.set_password(session, user_id="dora", password="short")
    assert authenticate(with_dora, "dora", PASSWORD) is None
    assert authenticate(with_dora, "dora", "a new password") == "dora"


def test_lists_show_what_their_reader_may_see(people: Engine) -> None:
    with reading(people) as session:
        assert sorted(user.id for user in accounts.list_users(session).items) == ["ann", "bob", "cid", "eve"]
        red = accounts.list_users(session, scope=Scope(team="red"))
        assert sorted(user.id for user in red.items) == ["ann", "bob"]
        assert [user.id for user in accounts.list_users(session, scope=Scope(user="cid")).items] == ["cid"]
        assert [team.id for team in accounts.list_teams(session).items] == ["red"]
        assert accounts.get_user(session, user_id="ann", scope=Scope(team="red")).id == "ann"
        assert accounts.get_team(session, team_id="red").name == "Red"
        with pytest.raises(NotFound):
            accounts.get_user(session, user_id="cid", scope=Scope(team="red"))
        with pytest.raises(NotFound):
            accounts.get_team(session, team_id="blue")


def test_generated_passwords_differ_and_hold_nothing_that_can_be_mistaken() -> None:
    made = {passwords.generate() for _ in range(100)}
    assert len(made) == 100
    assert {len(each) for each in made} == {24}
    assert not set("".join(made)) & set("0O1Il|oi'\"` ")
