"""Virtual keys: made once, hashed at rest, changed, rotated and revoked."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, select, text

from token_tracker.database.models import ApiKey, ConfigVersion
from token_tracker.database.session import reading, transaction
from token_tracker.domain.access import Scope
from token_tracker.domain.problems import Conflict, Invalid, NotFound
from token_tracker.services import keys

HOUR = timedelta(hours=1)


def make(engine: Engine, at: datetime, user: str = "ann", **fields: object) -> tuple[ApiKey, str]:
    with transaction(engine) as session:
        return keys.create(session, **{"user": user, "created_by": user, "at": at, "name": "mine"} | fields)


def read(engine: Engine, key_id: str) -> ApiKey:
    with reading(engine) as session:
        return keys.get(session, key_id=key_id)


def test_a_key_has_256_random_bits_and_is_stored_only_as_a_hash(people: Engine, at: datetime) -> None:
    (key, secret), (_, other) = make(people, at), make(people, at)
    assert re.fullmatch(r"sk-tt-[A-Za-z0-9_-]{43}", secret)
    assert secret != other
    assert key.hash == hashlib.sha256(secret.encode()).digest()
    assert key.prefix == secret[:12]
    with people.connect() as connection:
        stored = str(connection.execute(text("SELECT * FROM api_keys")).all())
    assert secret not in stored
    assert secret[12:] not in stored


def test_only_the_name_is_required(people: Engine, at: datetime) -> None:
    key = read(people, make(people, at)[0].id)
    assert (key.user_id, key.team_id, key.agent) == ("ann", "red", "")
    assert (key.models, key.permissions, key.expires_at, key.revoked_at) == (["*"], [], None, None)


def test_all_that_is_wrong_with_a_new_key_is_said_at_once(people: Engine, at: datetime) -> None:
    with pytest.raises(Invalid) as refused:
        make(people, at, "nobody", name=" ", team="blue", agent=7, models=[], permissions=["fly"], expires_at=at - HOUR)
    named = [field for field, _ in refused.value.problems]
    assert sorted(named) == ["agent", "expires_at", "models", "name", "permissions", "team", "user"]


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "x" * 201},
        {"name": "two\nlines"},
        {"models": "gpt-4o"},
        {"models": ["gpt-4o", ""]},
        {"models": [1]},
        {"permissions": None},
        {"permissions": ["ingest", "ingest"]},
        {"permissions": "ingest"},
        {"permissions": [["ingest"]]},
        {"expires_at": "tomorrow"},
        {"expires_at": datetime(2099, 1, 1)},  # noqa: DTZ001 (a time without a zone is what is tested)
    ],
)
def test_a_wrong_value_is_refused_by_its_name(people: Engine, at: datetime, fields: dict[str, object]) -> None:
    with pytest.raises(Invalid) as refused:
        make(people, at, **fields)
    assert [field for field, _ in refused.value.problems] == list(fields)


def test_a_disabled_user_gets_no_key(people: Engine, at: datetime) -> None:
    with pytest.raises(Invalid, match="no active user 'eve'"):
        make(people, at, "eve")


def test_the_list_goes_page_by_page_from_the_newest_and_skips_nothing(people: Engine, at: datetime) -> None:
    made = [make(people, at + HOUR * (number // 2))[0].id for number in range(5)]  # two each at one time
    seen: list[str] = []
    cursor = None
    while True:
        with reading(people) as session:
            page = keys.list_keys(session, limit=2, cursor=cursor)
        seen += [key.id for key in page.items]
        make(people, at + HOUR * 9)  # a newer one in between moves nothing
        if (cursor := page.next_cursor) is None:
            break
    assert seen == [made[4], *sorted(made[2:4], reverse=True), *sorted(made[:2], reverse=True)]


def test_a_list_shows_what_its_reader_may_see(people: Engine, at: datetime) -> None:
    for user in ("ann", "bob", "cid"):
        make(people, at, user)
    with reading(people) as session:

        def owners(**narrowed: object) -> list[str]:
            return sorted(key.user_id for key in keys.list_keys(session, **narrowed).items)

        assert owners() == ["ann", "bob", "cid"]
        assert owners(scope=Scope(team="red")) == ["ann", "bob"]
        assert owners(scope=Scope(team="red"), user="bob") == ["bob"]
        assert owners(scope=Scope(user="ann"), user="bob") == []
        assert owners(team="red", user="cid") == []


@pytest.mark.parametrize("asked", [{"limit": 0}, {"limit": 1001}, {"cursor": "rubbish"}, {"cursor": "WzEsMl0"}])
def test_a_wrong_limit_or_cursor_is_refused(people: Engine, asked: dict[str, object]) -> None:
    with reading(people) as session, pytest.raises(Invalid) as refused:
        keys.list_keys(session, **asked)
    assert [field for field, _ in refused.value.problems] == list(asked)


def test_a_key_outside_the_scope_is_not_found(people: Engine, at: datetime) -> None:
    key, _ = make(people, at, "ann")
    others = Scope(user="bob")
    with transaction(people) as session:
        for use in (
            lambda: keys.get(session, key_id=key.id, scope=others),
            lambda: keys.update(session, key_id=key.id, scope=others, at=at, name="taken"),
            lambda: keys.revoke(session, key_id=key.id, scope=others, at=at),
            lambda: keys.rotate(session, key_id=key.id, scope=others, at=at, overlap_s=0, created_by="bob"),
            lambda: keys.get(session, key_id="key_none"),
        ):
            with pytest.raises(NotFound):
                use()
    assert read(people, key.id).name == "mine"


def test_an_update_changes_what_is_named_and_nothing_else(people: Engine, at: datetime) -> None:
    key, _ = make(people, at, agent="bot", models=["gpt-4o"])
    with transaction(people) as session:
        keys.update(session, key_id=key.id, at=at, models=["gpt-*"], expires_at=at + HOUR)
    changed = read(people, key.id)
    assert (changed.name, changed.agent, changed.models, changed.expires_at) == ("mine", "bot", ["gpt-*"], at + HOUR)
    with transaction(people) as session:
        keys.update(session, key_id=key.id, at=at, expires_at=None)
    assert read(people, key.id).expires_at is None


def test_an_update_to_equal_values_publishes_nothing(people: Engine, at: datetime) -> None:
    key, _ = make(people, at, models=["gpt-4o"])
    with reading(people) as session:
        before = session.scalars(select(ConfigVersion.version)).one()
    with transaction(people) as session:
        keys.update(session, key_id=key.id, at=at, name="mine", models=["gpt-4o"])
    with reading(people) as session:
        assert session.scalars(select(ConfigVersion.version)).one() == before


def test_a_bad_update_is_refused_whole(people: Engine, at: datetime) -> None:
    key, _ = make(people, at)
    with pytest.raises(Invalid), transaction(people) as session:
        keys.update(session, key_id=key.id, at=at, name="new", models=[])
    assert read(people, key.id).name == "mine"


def test_revoking_twice_keeps_the_first_time(people: Engine, at: datetime) -> None:
    key, _ = make(people, at)
    for when in (at, at + HOUR):
        with transaction(people) as session:
            keys.revoke(session, key_id=key.id, at=when)
    assert read(people, key.id).revoked_at == at
    assert not keys.is_live(read(people, key.id), at)


def test_a_revoked_key_is_not_brought_back(people: Engine, at: datetime) -> None:
    key, _ = make(people, at)
    with transaction(people) as session:
        keys.revoke(session, key_id=key.id, at=at)
        with pytest.raises(Conflict):
            keys.update(session, key_id=key.id, at=at, name="again")
        with pytest.raises(Conflict):
            keys.rotate(session, key_id=key.id, at=at, overlap_s=60, created_by="ann")


def test_a_rotated_key_works_until_the_overlap_ends_and_its_successor_has_the_same_rights(
    people: Engine, at: datetime
) -> None:
    old, text_of_old = make(people, at, agent="bot", models=["gpt-4o"])
    with transaction(people) as session:
        new, text_of_new = keys.rotate(session, key_id=old.id, overlap_s=60, created_by="bob", at=at + HOUR)
    old, new = read(people, old.id), read(people, new.id)
    assert text_of_new != text_of_old
    assert (new.name, new.user_id, new.team_id, new.agent, new.models) == ("mine", "ann", "red", "bot", ["gpt-4o"])
    assert (new.predecessor_id, new.created_by, new.expires_at) == (old.id, "bob", None)
    end = at + HOUR + timedelta(seconds=60)
    assert keys.is_live(old, end - timedelta(microseconds=1))
    assert not keys.is_live(old, end)


def test_rotation_gives_a_life_as_long_as_the_old_one_and_never_lengthens_that(people: Engine, at: datetime) -> None:
    old, _ = make(people, at, expires_at=at + 2 * HOUR)
    with transaction(people) as session:
        new, _ = keys.rotate(session, key_id=old.id, overlap_s=86_400, created_by="ann", at=at + HOUR)
    assert read(people, old.id).expires_at == at + 2 * HOUR
    assert read(people, new.id).expires_at == at + 3 * HOUR


def test_a_key_has_one_successor(people: Engine, at: datetime) -> None:
    old, _ = make(people, at)
    with transaction(people) as session:
        new, _ = keys.rotate(session, key_id=old.id, overlap_s=3600, created_by="ann", at=at)
    with transaction(people) as session, pytest.raises(Conflict, match=new.id):
        keys.rotate(session, key_id=old.id, overlap_s=3600, created_by="ann", at=at)


@pytest.mark.parametrize("overlap_s", [-1, 1.5, True, "60", 10**9])
def test_a_wrong_overlap_is_refused(people: Engine, at: datetime, overlap_s: object) -> None:
    key, _ = make(people, at)
    with transaction(people) as session, pytest.raises(Invalid, match="overlap_s"):
        keys.rotate(session, key_id=key.id, overlap_s=overlap_s, created_by="ann", at=at)


@pytest.mark.parametrize("text_from_outside", ["a\0b", "\ud800"])
def test_text_that_no_database_takes_is_refused_like_any_other(
    people: Engine, at: datetime, text_from_outside: str
) -> None:
    with transaction(people) as session:
        with pytest.raises(NotFound):
            keys.get(session, key_id=text_from_outside)
        with pytest.raises(NotFound):
            keys.revoke(session, key_id=text_from_outside, at=at)
        with pytest.raises(Invalid):
            keys.list_keys(session, user=text_from_outside)
    with pytest.raises(Invalid) as refused:
        make(people, at, text_from_outside, name=text_from_outside, team=text_from_outside, models=[text_from_outside])
    assert sorted(field for field, _ in refused.value.problems) == ["models", "name", "team", "user"]
