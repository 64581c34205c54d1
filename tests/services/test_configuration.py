"""The rules and prices of proxy.yaml become rows that follow the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from token_tracker.config.values import (
    Address,
    AlertEntry,
    AlertRuleEntry,
    AlertSettings,
    BudgetEntry,
    ChannelEntry,
    Configuration,
    Deployment,
    Hidden,
    ModelTable,
    PricingEntry,
    RateLimitEntry,
    Secret,
    Settings,
)
from token_tracker.database.models import (
    AlertRule,
    AuditEntry,
    Budget,
    BudgetAlert,
    ConfigVersion,
    OfferedModel,
    PriceRow,
    RateLimit,
    SystemState,
)
from token_tracker.database.session import make_engine, reading, transaction
from token_tracker.domain import alert_fields
from token_tracker.domain.pricing import PricingTable, make_price
from token_tracker.services import configuration as configured
from token_tracker.services.fingerprints import Fingerprints

HERE = Address("127.0.0.1", 0)
SETTINGS = Settings(Path("x"), Path("x"), Secret(""), HERE, HERE, HERE, None, None, 1, 1, None)
LATER = timedelta(hours=1)
TEN_A_MINUTE = RateLimitEntry("global", None, "gpt-3.5-turbo", "requests", 10, "minute")
ALERTS = (AlertEntry(Decimal("50"), email="a@example.com"), AlertEntry(Decimal("99.5"), webhook="http://w.example"))
DAILY = BudgetEntry("daily", 10_000_000_000, alerts=ALERTS)
TOTAL = BudgetEntry("total", 100_000_000_000)


def deployment(name: str, input_usd: str | None) -> Deployment:
    rates = {"input_cost_per_token": Decimal(input_usd)} if input_usd else None
    return Deployment(name, "openai", name, None, None, rates)


def configuration(
    *,
    exact: Mapping[str, tuple[Deployment, ...]] | None = None,
    wildcards: Mapping[str, tuple[Deployment, ...]] | None = None,
    pricing: tuple[PricingEntry, ...] = (),
    limits: tuple[RateLimitEntry, ...] = (),
    budgets: tuple[BudgetEntry, ...] = (),
) -> Configuration:
    models = ModelTable(exact or {}, {}, wildcards or {}, {})
    return Configuration(SETTINGS, models, pricing=pricing, rate_limits=limits, budgets=budgets)


EVERYTHING = configuration(
    exact={
        "mine": (deployment("mine", "0.000001"), deployment("mine", "0.000002")),
        "plain": (deployment("plain", None),),
    },
    wildcards={"openai/": (deployment("openai/*", "0.000003"),)},
    pricing=(
        PricingEntry("openai", "regex:gpt-.*", {"input_cost_per_token": Decimal("0.0000015")}),
        PricingEntry("openai", "*", {"output_cost_per_token": Decimal("3E-6")}),
    ),
    limits=(TEN_A_MINUTE, replace(TEN_A_MINUTE, model=None, unit="tokens")),
    budgets=(DAILY, TOTAL),
)


def apply(engine: Engine, file: Configuration, at: datetime) -> list[str]:
    with transaction(engine) as session:
        return configured.apply(session, file, at)


def everything(engine: Engine) -> list[object]:
    """All rows that configuration makes, and the version that gateways watch, as plain values."""
    with reading(engine) as session:
        return [
            [getattr(row, column.key) for column in model.__mapper__.column_attrs]
            for model in (RateLimit, Budget, BudgetAlert, PriceRow, OfferedModel, AuditEntry, ConfigVersion)
            for row in session.scalars(select(model).order_by(*model.__table__.primary_key))
        ]


def prices_at(engine: Engine, at: datetime) -> dict[str, Mapping[str, str]]:
    """Version → rates of what holds at a time, read as the row's own words say it is to be read."""
    held: dict[str, Mapping[str, str]] = {}
    with reading(engine) as session:
        for row in session.scalars(select(PriceRow).where(PriceRow.valid_from <= at).order_by(PriceRow.id)):
            held.pop(row.version, None)
            if row.rates is not None:
                held[row.version] = row.rates
    return held


def test_entries_become_rows_of_source_config(engine: Engine, at: datetime) -> None:
    assert apply(engine, EVERYTHING, at) == []
    with reading(engine) as session:
        limits = session.scalars(select(RateLimit).order_by(RateLimit.unit)).all()
        budgets = session.scalars(select(Budget).order_by(Budget.period)).all()
        alerts = [(a.threshold_percent, a.email, a.webhook) for a in budgets[0].alerts]
    assert [
        (row.scope_type, row.scope_id, row.model, row.unit, row.limit, row.period, row.source) for row in limits
    ] == [
        ("global", "", "gpt-3.5-turbo", "requests", 10, "minute", "config"),
        ("global", "", "", "tokens", 10, "minute", "config"),
    ]
    assert [(row.period, row.limit_nano_usd, row.enforcement, row.timezone, row.source) for row in budgets] == [
        ("daily", 10_000_000_000, "hard", "UTC", "config"),
        ("total", 100_000_000_000, "hard", "UTC", "config"),
    ]
    assert alerts == [(Decimal("50"), "a@example.com", None), (Decimal("99.5"), None, "http://w.example")]


def test_applying_the_same_file_again_changes_nothing_and_publishes_nothing(engine: Engine, at: datetime) -> None:
    apply(engine, EVERYTHING, at)
    before = everything(engine)
    apply(engine, EVERYTHING, at + LATER)
    assert everything(engine) == before


def test_a_changed_entry_changes_its_row_and_keeps_its_identity_and_start(engine: Engine, at: datetime) -> None:
    apply(engine, configuration(limits=(TEN_A_MINUTE,), budgets=(DAILY,)), at)
    with reading(engine) as session:
        before = [session.scalars(select(model.id)).one() for model in (RateLimit, Budget)]
    alerts = (ALERTS[0], AlertEntry(Decimal(80), slack_webhook="http://s.example"))
    changed = replace(DAILY, limit_nano_usd=5, enforcement="soft", timezone="Europe/Berlin", alerts=alerts)
    apply(engine, configuration(limits=(replace(TEN_A_MINUTE, limit=20),), budgets=(changed,)), at + LATER)
    with reading(engine) as session:
        limit, budget = session.scalars(select(RateLimit)).one(), session.scalars(select(Budget)).one()
        assert [limit.id, budget.id] == before
        assert limit.limit == 20
        assert (budget.limit_nano_usd, budget.enforcement, budget.timezone) == (5, "soft", "Europe/Berlin")
        assert budget.starts_at == at
        assert [(alert.threshold_percent, alert.slack_webhook) for alert in budget.alerts] == [
            (50, None),
            (80, "http://s.example"),
        ]


def test_an_entry_taken_out_of_the_file_takes_its_row_along(engine: Engine, at: datetime) -> None:
    apply(engine, EVERYTHING, at)
    apply(engine, configuration(budgets=(TOTAL,)), at + LATER)
    with reading(engine) as session:
        assert session.scalars(select(RateLimit)).all() == []
        assert session.scalars(select(Budget.period)).all() == ["total"]
        assert session.scalars(select(BudgetAlert)).all() == []


def test_rows_made_through_the_api_are_never_touched(engine: Engine, at: datetime) -> None:
    with transaction(engine) as session:
        made = {"source": "api", "created_at": at, "scope_type": "global", "scope_id": "", "period": "daily"}
        budget = Budget(
            id="b", name="ours", model="", timezone="UTC", limit_nano_usd=1, enforcement="soft", starts_at=at, **made
        )
        limit = RateLimit(id="l", model="other", unit="requests", limit=1, on_store_error="deny", **made)
        session.add_all([budget, limit])
    before = everything(engine)
    (warning,) = apply(engine, configuration(budgets=(DAILY,)), at + LATER)
    assert "'b'" in warning
    assert "API" in warning
    assert everything(engine) == before


def test_prices_of_the_file_have_the_versions_that_a_gateway_computes(engine: Engine, at: datetime) -> None:
    apply(engine, EVERYTHING, at)
    held = prices_at(engine, at)
    table = PricingTable((line.provider, line.pattern, line.rates) for line in EVERYTHING.pricing)
    gateway = [
        *(make_price("entry", "mine", each.rates or {}) for each in EVERYTHING.models.exact["mine"]),
        make_price("entry", "openai/*", {"input_cost_per_token": "0.000003"}),
        table.find("openai", ["gpt-9"]),
        table.find("openai", ["anything"]),
    ]
    assert {price.version: dict(price.rates) for price in gateway if price} == {
        version: {field: Decimal(rate) for field, rate in rates.items()} for version, rates in held.items()
    }
    assert len(held) == 5


def test_a_price_is_never_edited_but_ends_and_begins(engine: Engine, at: datetime) -> None:
    def priced(input_usd: str) -> Configuration:
        return configuration(exact={"mine": (deployment("mine", input_usd),)})

    apply(engine, priced("0.000001"), at)
    first = prices_at(engine, at)
    apply(engine, priced("0.000002"), at + LATER)
    apply(engine, configuration(), at + 2 * LATER)
    apply(engine, priced("0.000001"), at + 3 * LATER)
    assert [list(prices_at(engine, at + number * LATER).values()) for number in range(4)] == [
        [{"input_cost_per_token": "0.000001"}],
        [{"input_cost_per_token": "0.000002"}],
        [],
        [{"input_cost_per_token": "0.000001"}],
    ]
    assert prices_at(engine, at) == prices_at(engine, at + 3 * LATER) == first


def test_a_pattern_longer_than_the_column_is_stored_by_its_version(engine: Engine, at: datetime) -> None:
    rates = {"input_cost_per_token": Decimal(1)}
    lines = tuple(PricingEntry("openai", f"regex:{'x' * 400}{end}", rates) for end in "ab")
    apply(engine, configuration(pricing=lines), at)
    assert len(prices_at(engine, at)) == 2


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_an_exact_rate_stays_exact(engine: Engine, at: datetime) -> None:
    rate = Decimal("0.000000123456789012345678901234567890")
    apply(engine, configuration(pricing=(PricingEntry("openai", "*", {"input_cost_per_token": rate}),)), at)
    (rates,) = prices_at(engine, at).values()
    assert Decimal(rates["input_cost_per_token"]) == rate


def audited(engine: Engine) -> list[tuple[str, str, dict[str, Any] | None, dict[str, Any] | None]]:
    with reading(engine) as session:
        rows = session.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
    assert {row.actor for row in rows} <= {"config"}
    return [(row.action, row.object_id, row.before, row.after) for row in rows]


def test_the_audit_log_has_what_the_file_changed_and_nothing_else(engine: Engine, at: datetime) -> None:
    apply(engine, EVERYTHING, at)
    made = audited(engine)
    assert sorted(action for action, *_ in made) == sorted(
        ["model.create"] * 3 + ["price.create"] * 4 + ["rate_limit.create"] * 2 + ["budget.create"] * 2
    )
    apply(engine, EVERYTHING, at + LATER)
    assert audited(engine) == made, "what did not change is not in it"
    changed = replace(
        EVERYTHING,
        models=replace(EVERYTHING.models, exact={"mine": (deployment("mine", "0.000003"),)}),
        rate_limits=(replace(TEN_A_MINUTE, limit=20),),
        budgets=(replace(DAILY, limit_nano_usd=5_000_000_000), TOTAL),
    )
    apply(engine, changed, at + 2 * LATER)
    news = {(action, name): (before, after) for action, name, before, after in audited(engine)[len(made) :]}
    ids = dict(news.keys())
    usd = "input_cost_per_token"
    assert news["price.update", "mine"] == (
        {"rates": [{usd: "0.000001"}, {usd: "0.000002"}]},
        {"rates": [{usd: "0.000003"}]},
    )
    before, after = news["model.update", "mine"]
    assert before and after and [len(each["deployments"]) for each in (before, after)] == [2, 1]
    assert news["model.delete", "plain"][1] is None
    assert news["rate_limit.update", ids["rate_limit.update"]] == ({"limit": 10}, {"limit": 20})
    assert ("rate_limit.delete", ids["rate_limit.delete"]) in news
    assert news["budget.update", ids["budget.update"]] == (
        {"limit_usd": "10.000000000"},
        {"limit_usd": "5.000000000"},
    )
    assert len(news) == 6


def test_the_audit_log_and_the_models_rows_hold_no_secret_of_the_file(engine: Engine, at: datetime) -> None:
    secret = "hunter2-the-secret"
    params = Hidden({"aws_secret_access_key": secret, "extra_headers": {"x": secret}})
    mine = Deployment("mine", "bedrock", "m", "https://b.example/v1", Secret(secret), None, litellm_params=params)
    hook = f"https://hooks.example/services/{secret}"
    budget = replace(DAILY, alerts=(AlertEntry(Decimal(50), slack_webhook=hook), AlertEntry(Decimal(60), webhook=hook)))
    apply(engine, configuration(exact={"mine": (mine,)}, budgets=(budget,)), at)
    with reading(engine) as session:
        document = session.scalars(select(OfferedModel.document)).one()
    [shown] = document["deployments"]
    assert re.fullmatch("set [0-9a-f]{8}", shown["api_key"])
    assert shown["litellm_params"].keys() == {"aws_secret_access_key", "extra_headers"}
    assert secret not in str(document) + str(audited(engine))
    other = replace(budget, alerts=(AlertEntry(Decimal(50), slack_webhook=hook + "x"),))
    apply(engine, configuration(exact={"mine": (mine,)}, budgets=(other,)), at + LATER)
    (action, _, before, after) = audited(engine)[-1]
    assert action == "budget.update" and before != after and secret not in str((before, after))


def test_a_secret_of_the_file_that_changes_leaves_its_trace_in_the_audit_log(engine: Engine, at: datetime) -> None:
    def file(secret: str) -> Configuration:
        mine = Deployment("mine", "bedrock", "m", None, Secret(secret), litellm_params=Hidden(aws_session_token=secret))
        hook = ChannelEntry("chat", "webhook", f"https://hooks.example/{secret}")
        return replace(configuration(exact={"mine": (mine,)}), alerts=AlertSettings(channels=(hook,)))

    apply(engine, file("hunter2-the-first"), at)
    apply(engine, file("hunter2-the-first"), at)
    made = audited(engine)
    assert sorted(action for action, *_ in made) == ["alert_channel.create", "model.create"]
    apply(engine, file("hunter2-the-second"), at + LATER)
    apply(engine, replace(file("hunter2-the-second"), alerts=AlertSettings()), at + LATER)
    news = audited(engine)[2:]
    assert {(action, name) for action, name, *_ in news} == {
        ("model.update", "mine"),
        ("alert_channel.update", "chat"),
        ("alert_channel.delete", "chat"),
    }
    for action, _, before, after in news:
        if action == "model.update":
            assert before is not None and after is not None
            (old,), (new,) = before["deployments"], after["deployments"]
            assert old["api_key"] != new["api_key"] and old["litellm_params"] != new["litellm_params"]
        assert "hunter2" not in str((before, after))


def test_the_marks_of_secrets_are_others_in_another_installation(engine: Engine, at: datetime, tmp_path: Path) -> None:
    elsewhere = make_engine(f"sqlite:///{tmp_path / 'elsewhere.db'}")
    SystemState.__table__.create(elsewhere)  # type: ignore[attr-defined]
    found = []
    for each in (engine, engine, elsewhere):
        with transaction(each) as session:
            found.append(Fingerprints(session).of("hunter2"))
    elsewhere.dispose()
    assert found[0] == found[1] != found[2]


def test_models_follow_the_file_and_the_environment(engine: Engine, at: datetime) -> None:
    """Which providers the environment offers is in the audit log; each of their models would only hide the rest."""
    offers = {
        name: Deployment(name, "groq", name, None, Secret("k"), source="environment") for name in ("llama", "mine")
    }
    everywhere = {"groq/": (Deployment("groq/*", "groq", "*", None, Secret("k"), source="environment"),)}
    mine = {"mine": (replace(deployment("mine", None), credential="prod"),)}
    file = Configuration(SETTINGS, ModelTable(mine, {"nick": "mine"}, everywhere, offers), off=(("later", "X is off"),))
    (warning,) = apply(engine, file, at)
    assert "'prod' of mine does not exist" in warning
    with reading(engine) as session:
        rows = {row.name: (row.source, row.document) for row in session.scalars(select(OfferedModel))}
    assert {name: source for name, (source, _) in rows.items()} == {
        "mine": "config", "nick": "config", "later": "config", "groq/*": "environment", "llama": "environment"
    }  # fmt: skip
    assert (rows["nick"][1]["alias_of"], rows["later"][1]["off"]) == ("mine", ["X is off"])
    assert {name for _, name, *_ in audited(engine)} == {"mine", "nick", "later", "groq/*"}
    apply(engine, configuration(), at + LATER)
    with reading(engine) as session:
        assert session.scalars(select(OfferedModel)).all() == []


def test_alert_rules_follow_the_file_and_the_audit_log_says_so(engine: Engine, at: datetime) -> None:
    given = {"name": "Errors", "kind": "upstream.errors"}
    for fields in ({}, {}, {"severity": "info"}, None):
        entries = () if fields is None else (AlertRuleEntry(**alert_fields.completed({**given, **fields})[0]),)
        with transaction(engine) as session:
            configured.apply(session, replace(configuration(), alerts=AlertSettings(entries)), at)
            rules = [(rule.source, rule.severity) for rule in session.scalars(select(AlertRule))]
        assert rules == ([] if fields is None else [("config", fields.get("severity", "critical"))])
    assert [action for action, *_ in audited(engine) if action.startswith("alert_rule")] == [
        "alert_rule.create",
        "alert_rule.update",
        "alert_rule.delete",
    ]
