"""Freezes, tokens, providers' keys, reports and mutes at a terminal: what is shown, kept, and written down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from tests.cli.conftest import Terminal
from tests.services.budget_rows import a_budget, add
from token_tracker.database.models import ProviderCredential, Team
from token_tracker.database.session import reading, transaction
from token_tracker.domain.problems import Conflict, Invalid, NotFound
from token_tracker.services import open_holds, refusals, service_tokens
from token_tracker.services.open_holds import Held, NodeHolds

SECRET = "sk-a-providers-key-0042"


def test_what_is_frozen_is_listed_until_it_ends(terminal: Terminal) -> None:
    made = terminal.json("freezes", "create", "model:gpt-4o", "a runaway agent")
    assert made in terminal.json("freezes", "list")
    assert "was frozen before" in terminal.typed("freezes", "create", "model:gpt-4o", "still running").stderr
    assert "still running" in terminal.must("freezes", "list")
    terminal.must("freezes", "delete", made["id"])
    assert terminal.json("freezes", "list") == []
    assert [action for action, *_ in terminal.log()] == ["freeze.create", "freeze.update", "freeze.delete"]
    assert isinstance(terminal.typed("freezes", "create", "team:nobody", "x").exception, Invalid)
    assert isinstance(terminal.typed("freezes", "delete", made["id"]).exception, NotFound)


def test_a_rotated_key_keeps_its_limits(terminal: Terminal) -> None:
    old = terminal.json("keys", "create", "mine")["id"]
    terminal.must("budgets", "set", f"key:{old}", "total", "1")
    terminal.must("freezes", "create", f"key:{old}", "a runaway agent")
    new = terminal.json("keys", "rotate", old)["id"]
    budgets = terminal.json("budgets", "list")
    assert {(each["scope_id"], each["name"]) for each in budgets} == {(key, "total of key mine") for key in (old, new)}
    assert {each["scope_id"] for each in terminal.json("freezes", "list")} == {old, new}


def test_a_tokens_text_alone_is_on_stdout_and_is_nowhere_else(terminal: Terminal) -> None:
    said = terminal.typed("tokens", "create", "grafana", "--permission", "usage:read", "--expires", "30d")
    text = said.stdout.strip()
    with reading(terminal.engine) as session:
        found = service_tokens.find(session, text=text, at=datetime.now(UTC))
        assert found is not None and (found.user_id, found.permissions) == ("admin", ["usage:read"])
    (shown,) = terminal.json("tokens", "list")
    assert shown["expires_at"] and text.startswith(shown["prefix"])
    terminal.must("tokens", "revoke", found.id)
    terminal.must("tokens", "revoke", found.id)
    assert terminal.json("tokens", "list") == []
    assert len(terminal.json("tokens", "list", "--all")) == 1
    assert [action for action, *_ in terminal.log()] == ["service_token.create", "service_token.revoke"]
    assert text not in str(terminal.log()) + said.stderr
    assert isinstance(terminal.typed("tokens", "create", "x", "--permission", "tokens:manage").exception, Invalid)


def test_a_providers_key_comes_from_stdin_and_is_never_shown(terminal: Terminal) -> None:
    said = terminal.typed("credentials", "create", "prod", "openai", stdin=f"{SECRET}\n")
    (made,) = terminal.json("credentials", "list")
    assert (made["name"], made["provider"], made["hint"], made["readable"]) == ("prod", "openai", "…0042", True)
    for again in ("prod", made["id"]):
        terminal.must("credentials", "change", again, stdin="sk-another-key-of-theirs-0043\r\n")
    assert "…0043" in terminal.must("credentials", "list")
    terminal.must("credentials", "change", "prod", "--provider", "groq")
    (changed,) = terminal.json("credentials", "list")
    assert (changed["provider"], changed["hint"]) == ("groq", "…0043")
    with reading(terminal.engine) as session:
        assert SECRET not in session.scalars(select(ProviderCredential.sealed)).one()
    assert isinstance(terminal.typed("credentials", "create", "prod", "openai", stdin="sk-x\n").exception, Conflict)
    assert isinstance(terminal.typed("credentials", "create", "new", "openai", stdin="\n").exception, Invalid)
    terminal.must("credentials", "delete", "prod")
    assert terminal.json("credentials", "list") == []
    assert isinstance(terminal.typed("credentials", "delete", "prod").exception, NotFound)
    assert (
        terminal.log()[0][0] == "provider_credential.create" and terminal.log()[-1][0] == "provider_credential.delete"
    )
    assert SECRET not in str(terminal.log()) + said.output


def test_no_option_takes_a_providers_key(terminal: Terminal) -> None:
    said = terminal.typed("credentials", "create", "prod", "openai", SECRET)
    assert said.exit_code == 2 and terminal.json("credentials", "list") == []


def test_a_report_is_made_changed_and_deleted(terminal: Terminal) -> None:
    add(terminal.engine, Team(id="core", name="Core", created_at=datetime.now(UTC)))
    said = terminal.typed("reports", "create", "Core", "weekly", "a@tt.example", "b@tt.example", "--team", "core")
    assert said.exit_code == 0 and "SMTP_SERVER is not set" in said.stderr
    (made,) = terminal.json("reports", "list")
    assert (made["timezone"], made["hour"], made["team"]) == ("UTC", 7, "core")
    changed = terminal.json("reports", "change", made["id"], "--hour", "9", "--to", "c@tt.example", "--team", "")
    assert changed == made | {"hour": 9, "recipients": ["c@tt.example"], "team": ""}
    assert terminal.typed("reports", "change", made["id"]).exit_code == 2
    assert isinstance(terminal.typed("reports", "create", "X", "daily", "nobody").exception, Invalid)
    terminal.must("reports", "delete", made["id"])
    assert terminal.json("reports", "list") == []
    assert [action for action, *_ in terminal.log()] == ["report.create", "report.update", "report.delete"]


def test_a_mute_holds_until_it_is_ended(terminal: Terminal) -> None:
    made = terminal.json("mutes", "create", "4h", "--subject", "gpt-4o", "--reason", "known")
    assert made in terminal.json("mutes", "list") and "gpt-4o" in terminal.must("mutes", "list")
    assert isinstance(terminal.typed("mutes", "create", "4h", "--rule", "none").exception, Invalid)
    terminal.must("mutes", "delete", made["id"])
    assert terminal.json("mutes", "list") == []
    assert [action for action, *_ in terminal.log()] == ["alert_mute.create", "alert_mute.delete"]


def test_an_alert_by_mail_that_nobody_will_get_is_said(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = ("budgets", "set", "global", "daily", "10", "--alert")
    assert "SMTP_SERVER is not set" in terminal.typed(*budget, "80=a@tt.example").stderr
    assert "SMTP" not in terminal.typed(*budget, "80=https://hooks.tt.example/x").stderr


@pytest.mark.parametrize("words", [("top-up", "{}", "5"), ("delete", "{}")])
def test_a_budget_named_by_its_scope_or_name_is_answered_with_the_ids(
    terminal: Terminal, words: tuple[str, ...]
) -> None:
    team = {"scope_type": "team", "scope_id": "core"}
    add(terminal.engine, a_budget("one", **team), a_budget("two", period="monthly", **team), a_budget("three"))
    for named, ids in (
        ("team:core", {"budget_one", "budget_two"}),
        ("three", {"budget_three"}),
        ("global", {"budget_three"}),
    ):
        said = terminal.typed("budgets", *(word.format(named) for word in words))
        assert said.exit_code == 1
        assert {word for word in said.stderr.split() if word.startswith("budget_")} == ids
    assert isinstance(terminal.typed("budgets", *(word.format("team:x") for word in words)).exception, NotFound)
    assert terminal.log() == []


def test_what_was_refused_is_counted(terminal: Terminal) -> None:
    assert terminal.must("refusals") == "Nothing was refused.\n" and terminal.json("refusals") == []
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    ann = {
        "hour": hour, "code": "budget_exceeded", "status": 402, "key_id": "k", "user_id": "ann", "team_id": "red",
        "model": "fast", "endpoint": "/v1/chat/completions", "calls": 2,
    }  # fmt: skip
    late = ann | {"hour": hour - timedelta(hours=30), "calls": 5}
    nobody = ann | {"code": "invalid_api_key", "status": 401, "key_id": "", "user_id": "", "team_id": "", "calls": 9}
    with transaction(terminal.engine) as session:
        refusals.book_refusals(session, [ann, late, nobody])
    assert [(each["code"], each["calls"]) for each in terminal.json("refusals")] == [
        ("invalid_api_key", 9),
        ("budget_exceeded", 2),
    ]
    (of_ann,) = terminal.json("refusals", "--user", "ann", "--team", "red", "--key", "k", "--since", "3d")
    assert (of_ann["calls"], of_ann["first_hour"]) == (7, late["hour"].strftime("%Y-%m-%dT%H:00:00Z"))
    assert terminal.json("refusals", "--code", "frozen") == terminal.json("refusals", "--model", "slow") == []
    assert "invalid_api_key" in terminal.must("refusals", "--limit", "1")


def test_a_node_that_never_comes_back_is_given_up_and_one_that_speaks_is_not(terminal: Terminal) -> None:
    at = datetime.now(UTC)
    add(terminal.engine, a_budget("day"))
    holds = NodeHolds(1, (Held("budget_day|usd|", int(at.timestamp()), 500, 1, incarnation="0000000a"),), ())
    with transaction(terminal.engine) as session:
        open_holds.publish(session, node="gone", content=holds, at=at - timedelta(minutes=1))
        open_holds.publish(session, node="here", content=holds, at=at + timedelta(minutes=1))
    states = {each["id"]: (each["state"], each["calls"]) for each in terminal.json("nodes", "list")}
    assert states == {"gone": ("silent", 1), "here": ("alive", 1)}
    terminal.must("nodes", "release", "gone", "its disk is lost")
    assert "released" in terminal.must("nodes", "list")
    assert [action for action, *_ in terminal.log()] == ["node.release"]
    assert isinstance(terminal.typed("nodes", "release", "here", "x").exception, Conflict)
    assert isinstance(terminal.typed("nodes", "release", "nobody", "x").exception, NotFound)


def test_a_name_or_a_scope_in_an_ids_place_is_answered_with_the_ids(terminal: Terminal) -> None:
    key = terminal.json("keys", "create", "mine")["id"]
    budget = terminal.json("budgets", "set", f"key:{key}", "total", "1")["id"]
    limit = terminal.json("limits", "set", "global", "60/minute")["id"]
    dear = terminal.json("freezes", "create", "model:gpt-4o", "too dear")["id"]
    freeze = terminal.json("freezes", "create", f"key:{key}", "a runaway agent")["id"]
    terminal.must("tokens", "create", "grafana", "--permission", "usage:read")
    token = terminal.json("tokens", "list")[0]["id"]
    report = terminal.json("reports", "create", "Core", "weekly", "ana@example.com")["id"]
    for words, identity in (
        (("budgets", "delete", f"key:{key}"), budget),
        (("budgets", "top-up", "total of key mine", "1"), budget),
        (("limits", "delete", "global"), limit),
        (("freezes", "delete", f"key:{key}"), freeze),
        (("freezes", "delete", "model:gpt-4o"), dear),
        (("keys", "revoke", "mine"), key),
        (("keys", "rotate", "mine"), key),
        (("tokens", "revoke", "grafana"), token),
        (("reports", "delete", "Core"), report),
        (("reports", "change", "Core", "--hour", "8"), report),
    ):
        typed = terminal.typed(*words)
        assert typed.exit_code == 1 and f"What you may mean:\n  {identity}  " in typed.stderr, words
        nobody = (*words[:2], "nobody", *words[3:])
        assert isinstance(terminal.typed(*nobody).exception, NotFound), nobody
    assert (len(terminal.json("freezes", "list")), len(terminal.json("limits", "list"))) == (2, 1)
    assert f"key:{key}" in terminal.must("freezes", "list") and "global" in terminal.must("limits", "list")
