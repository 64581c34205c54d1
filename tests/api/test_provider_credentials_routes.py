"""Providers' keys over the API: kept encrypted, never shown again, and deleted only when nothing uses them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, select, text

from token_tracker.api.app import create_app
from token_tracker.config.encryption import Keyring, make_key
from token_tracker.database.models import ConfigVersion, OfferedModel, ProviderCredential
from token_tracker.database.session import reading, transaction

PATH = "/api/provider-credentials"
SECRET = "sk-the-key-of-the-provider-7Q9z"
OTHER = "sk-another-key-of-the-provider-3Xy8"
OLD_KEY, NEW_KEY = make_key(), make_key()


@pytest.fixture
def desk(api: Any) -> Any:
    """The API with an encryption key."""
    return with_keys(api, OLD_KEY)


def with_keys(api: Any, *keys: str) -> Any:
    from tests.api.conftest import SECRET as SIGNING

    api.client = create_app(api.engine, SIGNING, keyring=Keyring(keys)).test_client()
    return api


def make(api: Any, name: str = "prod", **more: Any) -> dict[str, Any]:
    answer = api.post(PATH, "root", **({"name": name, "provider": "openai", "api_key": SECRET} | more))
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.get_json()
    return made


def offer(engine: Engine, name: str, credentials: Iterable[str]) -> None:
    document = {"alias_of": None, "off": [], "deployments": [{"credential": each} for each in credentials]}
    with transaction(engine) as session:
        session.add(OfferedModel(name=name, source="config", document=document, updated_at=datetime.now(UTC)))


def whole_database(engine: Engine) -> str:
    tables = ("provider_credentials", "audit_log", "offered_models")
    with engine.connect() as connection:
        return str([connection.execute(text(f"select * from {table}")).fetchall() for table in tables])


def test_a_key_is_never_shown_again_and_stands_nowhere_in_the_clear(desk: Any) -> None:
    made = make(desk)
    assert made["hint"] == "…7Q9z" and made["readable"] is True and made["provider"] == "openai"
    changed = desk.patch(f"{PATH}/{made['id']}", "root", api_key=OTHER)
    assert changed.get_json()["hint"] == "…3Xy8" and changed.get_json()["updated_at"]
    answers = [changed.text, desk.get(PATH, "root").text, desk.get(f"{PATH}/{made['id']}", "eve").text]
    answers += [desk.get("/api/audit-log", "root").text, whole_database(desk.engine)]
    for answer in answers:
        assert SECRET not in answer and OTHER not in answer
    with reading(desk.engine) as session:
        sealed = session.scalars(select(ProviderCredential.sealed)).one()
    assert Keyring([OLD_KEY]).decrypt(sealed) == OTHER


def test_every_change_is_in_the_audit_log_without_the_key(desk: Any) -> None:
    made = make(desk)
    desk.patch(f"{PATH}/{made['id']}", "root", api_key=OTHER)
    assert desk.delete(f"{PATH}/{made['id']}", "root").status_code == 204
    entries = desk.get("/api/audit-log", "root", object_id=made["id"]).get_json()["items"]
    assert [entry["action"].partition(".")[2] for entry in entries] == ["delete", "update", "create"]
    assert entries[1]["before"]["hint"] == "…7Q9z" and entries[1]["after"]["hint"] == "…3Xy8"
    assert {entry["actor"] for entry in entries} == {"root"}


def test_only_admins_manage_them_and_a_viewer_sees_them_masked(desk: Any) -> None:
    made = make(desk)
    for who in ("mia", "ann"):
        assert desk.get(PATH, who).status_code == 403
    assert [each["name"] for each in desk.get(PATH, "eve").get_json()["items"]] == ["prod"]
    for who in ("mia", "ann", "eve"):
        assert desk.post(PATH, who, name="x", provider="openai", api_key=SECRET).status_code == 403
        assert desk.delete(f"{PATH}/{made['id']}", who).status_code == 403


def test_one_in_use_is_not_deleted_and_its_users_are_named(desk: Any) -> None:
    made, free = make(desk), make(desk, "free")
    offer(desk.engine, "gpt-4o", ["prod", "other"])
    offer(desk.engine, "claude", ["prod"])
    refused = desk.delete(f"{PATH}/{made['id']}", "root")
    assert refused.status_code == 409 and "claude, gpt-4o" in refused.get_json()["error"]["message"]
    assert desk.get(f"{PATH}/{made['id']}", "root").get_json()["used_by"] == ["claude", "gpt-4o"]
    assert desk.delete(f"{PATH}/{free['id']}", "root").status_code == 204
    assert desk.get(f"{PATH}/{free['id']}", "root").status_code == 404


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "two words"), ("name", "<b>"), ("name", ""), ("name", "n" * 65),
        ("provider", "Open AI"), ("provider", ""),
        ("api_key", ""), ("api_key", " "), ("api_key", "sk-x\nx-evil: 1"),
        ("api_key", "schlüssel"), ("api_key", "k" * 9000),
    ],
)  # fmt: skip
def test_what_cannot_be_one_is_refused_by_its_field(desk: Any, field: str, value: str) -> None:
    body = {"name": "prod", "provider": "openai", "api_key": SECRET} | {field: value}
    answer = desk.post(PATH, "root", **body)
    assert answer.status_code == 422
    assert [detail["field"] for detail in answer.get_json()["error"]["details"]] == [field]
    assert SECRET not in answer.text


def test_a_name_is_taken_once_and_kept(desk: Any) -> None:
    made = make(desk)
    assert desk.post(PATH, "root", name="prod", provider="groq", api_key=OTHER).status_code == 409
    assert desk.patch(f"{PATH}/{made['id']}", "root", name="new").status_code == 422
    stale = desk.send("PATCH", f"{PATH}/{made['id']}", "root", json={"provider": "x"}, headers={"If-Match": '"old"'})
    assert stale.status_code == 412


def test_without_an_encryption_key_nothing_is_stored_and_the_answer_says_how_to_make_one(api: Any) -> None:
    refused = with_keys(api).post(PATH, "root", name="prod", provider="openai", api_key=SECRET)
    assert refused.status_code == 409
    assert "TOKEN_TRACKER_ENCRYPTION_KEY" in refused.text and "generate_key" in refused.text
    assert api.get(PATH, "root").get_json()["items"] == []
    assert SECRET not in refused.text


def test_an_encryption_key_can_be_rotated_out(desk: Any) -> None:
    """And gateways hear of it: the version that they watch grows."""
    make(desk)
    make(desk, "second")
    version = select(ConfigVersion.version)
    with reading(desk.engine) as session:
        before = session.scalar(version)
    both = with_keys(desk, NEW_KEY, OLD_KEY)
    assert both.post(f"{PATH}/re-encrypt", "root").get_json() == {"re_encrypted": ["prod", "second"]}
    assert both.post(f"{PATH}/re-encrypt", "root").get_json() == {"re_encrypted": []}
    with reading(desk.engine) as session:
        assert session.scalar(version) == before + 1
    alone = with_keys(desk, NEW_KEY)
    assert [each["readable"] for each in alone.get(PATH, "root").get_json()["items"]] == [True, True]


def test_re_encryption_is_all_or_nothing_and_names_what_no_key_opens(desk: Any) -> None:
    lost = make(desk, "lost")
    other = with_keys(desk, NEW_KEY)
    make(other, "fine")
    refused = other.post(f"{PATH}/re-encrypt", "root")
    assert refused.status_code == 409 and "decrypts lost;" in refused.text
    assert other.get(f"{PATH}/{lost['id']}", "root").get_json()["readable"] is False
    assert other.patch(f"{PATH}/{lost['id']}", "root", api_key=OTHER).get_json()["readable"] is True
    assert other.post(f"{PATH}/re-encrypt", "root").status_code == 200
