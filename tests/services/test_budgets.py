"""Budgets, rate limits and freezes as people set them: what is refused, what stays, and who did it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from tests.services.budget_rows import a_budget, add, check, counters
from tests.services.ledger_rows import NOON, a_row
from token_tracker.database.models import (
    AuditEntry,
    Budget,
    BudgetAlert,
    BudgetTopUp,
    ConfigVersion,
    CounterState,
    Freeze,
    RateLimit,
    UnprovenRelease,
)
from token_tracker.database.session import reading, transaction
from token_tracker.domain.problems import Invalid, KeptInFile, NotFound, Unchangeable
from token_tracker.services import (
    budget_fields,
    budgets,
    freezes,
    key_rules,
    keys,
    rate_limit_fields,
    rate_limits,
    releases,
)
from token_tracker.services.audit import Actor
from token_tracker.services.booking import book

ANN = Actor("ann", via="token_1", address="127.0.0.1", request_id="r1")
DAILY: dict[str, Any] = {"name": "cap", "scope_type": "global", "period": "daily", "limit_usd": "10.00"}
TEAM: dict[str, Any] = {"scope_type": "team", "scope_id": "red"}
ALERT = {"threshold": 50, "email": "a@example.com", "slack_webhook": None, "webhook": None, "apprise": None}


def saved(engine: Engine, **fields: Any) -> tuple[Budget, bool]:
    with transaction(engine) as session:
        return budgets.save(session, **(DAILY | fields), actor=ANN, at=NOON)


def changed(engine: Engine, budget_id: str, **fields: Any) -> Budget:
    with transaction(engine) as session:
        return budgets.update(session, budget_id=budget_id, actor=ANN, at=NOON + timedelta(hours=1), **fields)


def audited(engine: Engine) -> list[tuple[str, Any, Any]]:
    with reading(engine) as session:
        entries = session.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
        assert all((entry.actor, entry.via, entry.request_id) == ("ann", "token_1", "r1") for entry in entries)
        return [(entry.action, entry.before, entry.after) for entry in entries]


def version(engine: Engine) -> int:
    with reading(engine) as session:
        return session.scalars(select(ConfigVersion.version)).one()


def test_a_budget_is_made_and_the_same_again_changes_it(engine: Engine) -> None:
    made, is_new = saved(engine, alerts=[ALERT])
    assert is_new
    assert (made.limit_nano_usd, made.enforcement, made.starts_at, made.source) == (10_000_000_000, "hard", NOON, "api")
    first_alert = made.alerts[0].id
    again, is_new = saved(engine, limit_usd="12.5", alerts=[ALERT, ALERT | {"threshold": "80.5"}])
    assert not is_new
    assert (again.id, again.limit_nano_usd) == (made.id, 12_500_000_000)
    with reading(engine) as session:
        alerts = session.execute(select(BudgetAlert.id, BudgetAlert.threshold_percent).order_by(BudgetAlert.id)).all()
        assert [float(percent) for _, percent in alerts] == [50.0, 80.5]
        assert alerts[0].id == first_alert, "one that stays keeps its row"
    actions = audited(engine)
    assert [action for action, _, _ in actions] == ["budget.create", "budget.update"]
    assert actions[1][1:] == (
        {"alerts": ["50 a@example.com"], "limit_usd": "10.000000000"},
        {"alerts": ["50 a@example.com", "80.5 a@example.com"], "limit_usd": "12.500000000"},
    )


def test_every_change_reaches_gateways_by_the_version(engine: Engine) -> None:
    versions = [version(engine)]
    budget, _ = saved(engine)
    versions.append(version(engine))
    changed(engine, budget.id, limit_usd="11")
    versions.append(version(engine))
    with transaction(engine) as session:
        budgets.top_up(session, budget_id=budget.id, amount_usd="1", actor=ANN, at=NOON)
    versions.append(version(engine))
    with transaction(engine) as session:
        frozen, _ = freezes.freeze(session, scope_type="global", reason="r", actor=ANN, at=NOON)
    versions.append(version(engine))
    with transaction(engine) as session:
        freezes.unfreeze(session, freeze_id=frozen.id, actor=ANN, at=NOON)
        budgets.delete(session, budget_id=budget.id, actor=ANN, at=NOON)
    versions.append(version(engine))
    assert versions == sorted(set(versions))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"scope_type": "everybody"}, "scope.type: must be one of global"),
        ({"scope_type": "team"}, "scope.id: is required: which team?"),
        ({"scope_type": "team", "scope_id": "green"}, "scope.id: there is no team 'green'"),
        ({"scope_type": "user", "scope_id": "nobody"}, "scope.id: there is no user 'nobody'"),
        ({"scope_type": "key", "scope_id": "key_1"}, "scope.id: there is no key 'key_1'"),
        ({"scope_id": "x"}, "scope.id: must be absent"),
        ({"scope_type": "tag", "scope_id": "a\nb"}, "scope.id: must not contain line breaks"),
        ({"scope_type": "model"}, "scope.id: is required: which model?"),
        ({"scope_type": "model", "scope_id": "a", "model": "b"}, "model: names another model"),
        ({"model": "m" * 256}, "model: must have at most 255"),
        ({"period": "yearly"}, "period: must be one of hourly, daily"),
        ({"timezone": "Mars/Olympus"}, "timezone: is no time zone"),
        ({"limit_usd": None}, "limit_usd: is required, or 'limit_tokens'"),
        ({"limit_usd": "ten"}, "limit_usd: must be an amount"),
        ({"limit_usd": True}, "limit_usd: must be an amount"),
        ({"limit_usd": "NaN"}, "limit_usd: must be an amount"),
        ({"limit_usd": "-1"}, "limit_usd: must be between 0 and"),
        ({"limit_usd": "1e20"}, "limit_usd: must be between 0 and"),
        ({"limit_usd": "0.0000000001"}, "limit_usd: must have at most 9 places"),
        ({"limit_tokens": 1.5}, "limit_tokens: must be a whole number"),
        ({"limit_tokens": -1}, "limit_tokens: must be between"),
        ({"enforcement": "firm"}, "enforcement: must be one of hard, soft, alert"),
        ({"action": "downgrade"}, "on_exceeded.model: is required"),
        ({"action": "downgrade", "downgrade_model": "m", "model": "m"}, "on_exceeded.model: must be another"),
        (
            {"action": "downgrade", "downgrade_model": "m", "enforcement": "alert"},
            "on_exceeded.action: must be 'block'",
        ),
        ({"downgrade_model": "m"}, "on_exceeded.model: goes with the action 'downgrade'"),
        ({"downgrade_at": 0}, "on_exceeded.downgrade_at: must be between 1 and 100"),
        ({"clamp": "never"}, "clamp: must be one of missing, always"),
        ({"default_output_tokens": 100}, "min_output_tokens: must not be larger"),
        ({"min_output_tokens": 0}, "min_output_tokens: must be between 1"),
        ({"allow_unbounded": "yes"}, "allow_unbounded: must be true or false"),
        ({"on_store_error": "wait"}, "on_store_error: must be one of deny, allow"),
        ({"name": ""}, "name: must not be empty"),
        ({"starts_at": NOON}, "starts_at: goes with the period 'total' only"),
        ({"alerts": "x"}, "alerts: must be a list"),
        ({"alerts": [{"threshold": 50}]}, "alerts[0]: must name exactly one of email"),
        ({"alerts": [ALERT | {"threshold": 0}]}, "alerts[0].threshold: must be a percentage above 0"),
        ({"alerts": [ALERT | {"email": "nobody"}]}, "alerts[0].email: must be one e-mail address"),
        ({"alerts": [{"threshold": 5, "webhook": "ftp://x"}]}, "alerts[0].webhook: must be a URL"),
        ({"alerts": [ALERT, ALERT]}, "alerts[1]: says the same"),
    ],
)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_bad_value_is_refused_with_the_reason(people: Engine, fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(Invalid) as refused:
        saved(people, **fields)
    assert problem in str(refused.value)
    with reading(people) as session:
        assert session.scalars(select(Budget)).all() == []


def test_scope_model_period_zone_and_start_stay_as_they_were_made(people: Engine) -> None:
    budget, _ = saved(people, **TEAM, model="fast", timezone="Europe/Berlin")
    for change in (
        {"scope_type": "global", "scope_id": None},
        {"model": None},
        {"period": "weekly"},
        {"timezone": "UTC"},
        {"starts_at": NOON - timedelta(days=1)},
    ):
        with pytest.raises(Unchangeable, match="cannot be changed: make another budget"):
            changed(people, budget.id, **change)
    with pytest.raises(Unchangeable, match="timezone"):
        saved(people, **TEAM, model="fast", timezone="Asia/Tokyo")
    same = {**TEAM, "model": "fast", "period": "daily", "timezone": "Europe/Berlin", "starts_at": None}
    assert changed(people, budget.id, **same, limit_usd="3").limit_nano_usd == 3_000_000_000


def test_a_model_as_scope_is_everybody_with_that_model(engine: Engine) -> None:
    budget, _ = saved(engine, scope_type="model", scope_id="gpt-4o")
    assert (budget.scope_type, budget.scope_id, budget.model) == ("global", "", "gpt-4o")
    assert saved(engine, model="gpt-4o")[0].id == budget.id
    assert changed(engine, budget.id, scope_type="model", scope_id="gpt-4o").id == budget.id
    with pytest.raises(Unchangeable):
        changed(engine, budget.id, scope_type="model", scope_id="gpt-5")


def test_entries_of_the_file_are_changed_only_there(engine: Engine) -> None:
    limit = {"scope_type": "global", "unit": "requests", "limit": 5, "period": "minute", "on_store_error": "allow"}
    add(
        engine,
        a_budget("file", source="config"),
        RateLimit(id="limit_file", source="config", created_at=NOON, **limit),
    )
    with pytest.raises(KeptInFile, match=r"proxy\.yaml"):
        changed(engine, "budget_file", limit_usd="1")
    with pytest.raises(KeptInFile):
        saved(engine)
    with transaction(engine) as session:
        for change in (
            lambda: budgets.delete(session, budget_id="budget_file", actor=ANN, at=NOON),
            lambda: rate_limits.update(session, limit_id="limit_file", limit=1, actor=ANN, at=NOON),
            lambda: rate_limits.save(session, scope_type="global", limit=1, period="minute", actor=ANN, at=NOON),
            lambda: rate_limits.delete(session, limit_id="limit_file", actor=ANN, at=NOON),
        ):
            with pytest.raises(KeptInFile):
                change()
    assert audited(engine) == []


def test_a_new_measure_has_its_counters_built_first_and_the_old_stay(engine: Engine) -> None:
    budget, _ = saved(engine)
    name = budget.id.removeprefix("budget_")
    with transaction(engine) as session:
        book(session, [a_row(1)], at=NOON)
    check(engine, name)
    assert changed(engine, budget.id, limit_usd="11").counter_built_at == NOON
    assert changed(engine, budget.id, limit_tokens=100).counter_built_at is None
    with transaction(engine) as session:
        book(session, [a_row(2)], at=NOON)
    found = check(engine, name)
    assert [*found.values()] == [(13, 0)]
    assert {place[0]: amount for place, amount in counters(engine, name).items()} == {"usd": (80, 0), "tokens": (26, 0)}


def test_deleting_a_budget_takes_all_that_is_its_own(engine: Engine) -> None:
    budget, _ = saved(engine, alerts=[ALERT])
    with transaction(engine) as session:
        book(session, [a_row(1, unproven_nano_usd=5)], at=NOON)
        budgets.top_up(session, budget_id=budget.id, amount_usd="1", actor=ANN, at=NOON)
        releases.release(session, budget_id=budget.id, calls="all", reason="r", actor=ANN, at=NOON)
    with transaction(engine) as session:
        budgets.delete(session, budget_id=budget.id, actor=ANN, at=NOON)
    with reading(engine) as session:
        for table in (Budget, BudgetAlert, BudgetTopUp, CounterState, UnprovenRelease):
            assert session.scalars(select(table)).all() == [], table
    with pytest.raises(NotFound), transaction(engine) as session:
        budgets.delete(session, budget_id=budget.id, actor=ANN, at=NOON)
    assert audited(engine)[-1][0] == "budget.delete"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"amount_usd": "0"}, "amount_usd: must be between"),
        ({"amount_usd": "-5"}, "amount_usd: must be between"),
        ({"amount_usd": "5", "until": NOON}, "until: must lie in the future"),
    ],
)
def test_a_top_up_that_makes_no_sense_is_refused(engine: Engine, fields: dict[str, Any], problem: str) -> None:
    budget, _ = saved(engine)
    with pytest.raises(Invalid, match=problem), transaction(engine) as session:
        budgets.top_up(session, budget_id=budget.id, actor=ANN, at=NOON, **fields)


def test_tokens_cannot_be_topped_up_with_money(engine: Engine) -> None:
    budget, _ = saved(engine, limit_usd=None, limit_tokens=5)
    with pytest.raises(Invalid, match="limits tokens only"), transaction(engine) as session:
        budgets.top_up(session, budget_id=budget.id, amount_usd="1", actor=ANN, at=NOON)


def test_a_release_ends_what_is_unproven_once_and_says_so(engine: Engine) -> None:
    users = {"scope_type": "tag", "scope_id": "*", "limit_tokens": 100}
    budget, _ = saved(engine, **users)
    other, _ = saved(engine, limit_tokens=100)
    rows = [
        a_row(1, tags=("a", "b"), unproven_nano_usd=5, unproven_tokens=2),
        a_row(2, tags=("a",), unproven_nano_usd=7),
        a_row(3, tags=("a",)),
        a_row(4, NOON - timedelta(days=1), tags=("a",), unproven_nano_usd=100),
    ]
    with transaction(engine) as session:
        book(session, rows, at=NOON)

    def release(*calls: str) -> releases.Released:
        with transaction(engine) as session:
            asked: Any = list(calls) or "all"
            return releases.release(session, budget_id=budget.id, calls=asked, reason="refund", actor=ANN, at=NOON)

    first, second = rows[0]["id"], rows[1]["id"]
    for name in (budget.id, other.id):
        check(engine, name.removeprefix("budget_"))
    done = release(first)
    assert (done.calls, done.already, done.nano_usd, done.tokens) == ((first,), (), 5, 2)
    assert release(first).already == (first,)
    for strange in (rows[2]["id"], rows[3]["id"], "nonsense"):
        with pytest.raises(Invalid, match="left nothing unproven"):
            release(strange)
    today = int(NOON.replace(hour=0).timestamp())
    name = budget.id.removeprefix("budget_")
    assert counters(engine, name)["usd", "a", today] == (120, 7)
    assert counters(engine, name)["usd", "b", today] == (40, 0)
    assert counters(engine, name)["tokens", "b", today] == (13, 0)
    assert release().calls == (second,)
    assert release().calls == ()
    assert counters(engine, name)["usd", "a", today] == (120, 0)
    assert counters(engine, other.id.removeprefix("budget_"))["usd", "", today] == (120, 12), "a word for one budget"
    for each in (budget.id, other.id):
        assert check(engine, each.removeprefix("budget_")) == {}
    said = [after for action, _, after in audited(engine) if action == "budget.release"]
    assert [(entry["calls"], entry["unproven_usd"], entry["reason"]) for entry in said] == [
        ([first], "0.000000005", "refund"),
        ([second], "0.000000007", "refund"),
    ]


def test_rate_limits_are_made_changed_and_deleted(people: Engine) -> None:
    with transaction(people) as session:
        made, is_new = rate_limits.save(session, **TEAM, limit=60, period="minute", actor=ANN, at=NOON)
        assert is_new
        same, is_new = rate_limits.save(session, **TEAM, limit=70, period="minute", actor=ANN, at=NOON)
        assert (same.id, same.limit, is_new) == (made.id, 70, False)
        slots, _ = rate_limits.save(session, scope_type="global", unit="concurrent", limit=3, actor=ANN, at=NOON)
        assert slots.period == ""
        with pytest.raises(Unchangeable):
            rate_limits.update(session, limit_id=made.id, period="hour", actor=ANN, at=NOON)
        changed_one = rate_limits.update(
            session, limit_id=made.id, limit=80, period="minute", on_store_error="deny", actor=ANN, at=NOON
        )
        assert (changed_one.limit, changed_one.on_store_error, changed_one.updated_at) == (80, "deny", NOON)
        rate_limits.delete(session, limit_id=slots.id, actor=ANN, at=NOON)
        assert [limit.id for limit in rate_limits.list_rate_limits(session).items] == [made.id]
    assert [action for action, _, _ in audited(people)] == [
        "rate_limit.create",
        "rate_limit.update",
        "rate_limit.create",
        "rate_limit.update",
        "rate_limit.delete",
    ]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"limit": -1, "period": "minute"}, "limit: must be between 0"),
        ({"period": "minute"}, "limit: is required"),
        ({"limit": 1}, "period: must be one of second"),
        ({"limit": 1, "period": "fortnight"}, "period: must be one of second"),
        ({"limit": 1, "period": "minute", "unit": "bytes"}, "unit: must be one of requests"),
        ({"limit": 1, "period": "minute", "unit": "concurrent"}, "period: must be absent"),
        ({"limit": 1, "period": "minute", "on_store_error": "x"}, "on_store_error: must be one of allow, deny"),
    ],
)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_bad_rate_limit_is_refused_with_the_reason(engine: Engine, fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(Invalid, match=problem), transaction(engine) as session:
        rate_limits.save(session, scope_type="global", actor=ANN, at=NOON, **fields)


def test_freezes_are_made_once_and_taken_back(people: Engine) -> None:
    with transaction(people) as session:
        made, is_new = freezes.freeze(session, **TEAM, reason="leak", actor=ANN, at=NOON)
        assert is_new
        again, is_new = freezes.freeze(session, **TEAM, reason="still", actor=ANN, at=NOON)
        assert (again.id, again.reason, is_new) == (made.id, "still", False)
        model, _ = freezes.freeze(
            session, scope_type="model", scope_id="gpt-4o", reason="r", actor=ANN, at=NOON + timedelta(seconds=1)
        )
        assert (model.scope_type, model.model) == ("global", "gpt-4o")
        assert [each.id for each in freezes.list_freezes(session).items] == [model.id, made.id]
        freezes.unfreeze(session, freeze_id=made.id, actor=ANN, at=NOON)
        with pytest.raises(NotFound):
            freezes.unfreeze(session, freeze_id=made.id, actor=ANN, at=NOON)
        for bad in ({"scope_type": "tag", "scope_id": "a"}, {"scope_type": "user", "scope_id": "*"}):
            with pytest.raises(Invalid):
                freezes.freeze(session, **bad, reason="r", actor=ANN, at=NOON)
        with pytest.raises(Invalid, match="reason"):
            freezes.freeze(session, scope_type="global", reason="", actor=ANN, at=NOON)
        assert session.scalars(select(Freeze.id)).all() == [model.id]


@pytest.mark.parametrize("period", ["daily", "total"])
def test_what_limits_a_key_limits_its_successor(people: Engine, period: str) -> None:
    money = {"threshold": None, "threshold_usd": "7.5", "webhook": "https://hooks.example.com/x"}
    with transaction(people) as session:
        old = keys.create(session, user="ann", created_by="ann", at=NOON, name="mine")[0].id
        of_key: Any = {"scope_type": "key", "scope_id": old, "actor": ANN, "at": NOON}
        about: Any = {"period": period, "model": "gpt-4o", "timezone": "Europe/Berlin", "clamp": "always"}
        named: Any = {"name": "of mine", "limit_usd": "10.5", "alerts": [ALERT, money]}
        budgets.save(session, **of_key, **about, **named, action="downgrade", downgrade_model="mini")
        rate_limits.save(session, **of_key, unit="concurrent", limit=3, on_store_error="deny")
        rate_limits.save(session, **of_key, period="minute", limit=60)
        freezes.freeze(session, **of_key, reason="a runaway agent")
        budgets.save(session, **DAILY, actor=ANN, at=NOON)  # everybody's: not once more
    with transaction(people) as session:
        new = keys.rotate(session, key_id=old, overlap_s=60, created_by="ann", at=NOON)[0].id
        key_rules.hand_on(session, key_id=old, successor_id=new, actor=ANN, at=NOON + timedelta(hours=1))
    with reading(people) as session:
        first, second = (_limits_of(session, key) for key in (old, new))
        assert session.query(Budget).count() == 3
    assert [name for name, _ in first] == ["Budget", "Freeze", "RateLimit", "RateLimit"]
    assert [(name, said.replace(old, new)) for name, said in first] == second


def _limits_of(session: Session, key: str) -> list[tuple[str, str]]:
    said: list[tuple[str, str]] = []
    for budget in session.scalars(select(Budget).where(Budget.scope_id == key)):
        public = budget_fields.public(budget) | {"webhooks": [alert.webhook for alert in budget.alerts]}
        if budget.period != "total":  # no other counts from its start
            del public["starts_at"]
        said.append(("Budget", str(public)))
    for limit in session.scalars(select(RateLimit).where(RateLimit.scope_id == key)):
        said.append(("RateLimit", str(rate_limit_fields.public(limit))))
    for frozen in session.scalars(select(Freeze).where(Freeze.scope_id == key)):
        said.append(("Freeze", str(freezes.public(frozen))))
    return sorted(said)
