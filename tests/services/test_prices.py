"""The price file becomes dated rows: once, exactly, and never edited."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select

from token_tracker.database.models import ConfigVersion, PriceRow, SystemState
from token_tracker.database.session import reading, transaction
from token_tracker.domain.pricing import version_of
from token_tracker.services import prices

LATER = timedelta(days=1)


def write(path: Path, **models: Mapping[str, object]) -> Path:
    path.write_text(json.dumps({name: {"litellm_provider": "openai", **rates} for name, rates in models.items()}))
    return path


def load(engine: Engine, path: Path | None, at: datetime) -> int:
    with transaction(engine) as session:
        return prices.import_file(session, at=at, path=path)


def rows(engine: Engine, name: str) -> list[tuple[datetime, dict[str, str] | None]]:
    found = select(PriceRow.valid_from, PriceRow.rates).where(PriceRow.name == name).order_by(PriceRow.id)
    with reading(engine) as session:
        return [(row.valid_from, row.rates) for row in session.execute(found)]


def test_the_whole_file_of_the_locked_package_is_imported_once(engine: Engine, at: datetime) -> None:
    added = load(engine, None, at)
    assert added > 3000
    with reading(engine) as session:
        assert session.scalars(select(func.count()).select_from(PriceRow)).one() == added
        assert session.scalars(select(ConfigVersion.version)).one() == 2
        row = session.scalars(select(PriceRow).where(PriceRow.name == "gpt-4o")).one()
    # OpenAI's list price: 2.50 and 10 USD for a million tokens, 1.25 for cached ones.
    assert Decimal((row.rates or {})["input_cost_per_token"]) == Decimal("0.0000025")
    assert Decimal((row.rates or {})["output_cost_per_token"]) == Decimal("0.00001")
    assert Decimal((row.rates or {})["cache_read_input_token_cost"]) == Decimal("0.00000125")
    assert (row.source, row.version) == ("file", version_of("file", "gpt-4o", row.rates or {}))
    assert load(engine, None, at + LATER) == 0
    with reading(engine) as session:
        assert session.scalars(select(ConfigVersion.version)).one() == 2


def test_a_newer_file_adds_rows_for_changed_names_only(engine: Engine, at: datetime, tmp_path: Path) -> None:
    same, old, new = {"input_cost_per_token": 1}, {"input_cost_per_token": 2}, {"input_cost_per_token": 3}
    assert load(engine, write(tmp_path / "1.json", same=same, changed=old), at) == 2
    assert load(engine, write(tmp_path / "2.json", same=same, changed=new, added=new), at + LATER) == 2
    assert rows(engine, "same") == [(at, {"input_cost_per_token": "1"})]
    assert rows(engine, "changed") == [(at, {"input_cost_per_token": "2"}), (at + LATER, {"input_cost_per_token": "3"})]
    assert rows(engine, "added") == [(at + LATER, {"input_cost_per_token": "3"})]


def test_a_name_that_left_the_file_keeps_its_last_price(engine: Engine, at: datetime, tmp_path: Path) -> None:
    rates = {"input_cost_per_token": 1}
    load(engine, write(tmp_path / "1.json", gone=rates, kept=rates), at)
    assert load(engine, write(tmp_path / "2.json", kept=rates), at + LATER) == 0
    assert rows(engine, "gone") == [(at, {"input_cost_per_token": "1"})]


def test_a_price_that_goes_back_to_an_earlier_one_is_a_row_again(engine: Engine, at: datetime, tmp_path: Path) -> None:
    one, two = {"input_cost_per_token": 1}, {"input_cost_per_token": 2}
    for day, rates in enumerate((one, two, one)):
        assert load(engine, write(tmp_path / "file.json", m=rates), at + day * LATER) == 1
    assert [rate["input_cost_per_token"] for _, rate in rows(engine, "m") if rate] == ["1", "2", "1"]


def test_new_rates_of_tiers_and_units_are_new_rows_and_edit_none(engine: Engine, at: datetime, tmp_path: Path) -> None:
    plain = {"input_cost_per_token": 1}
    newer = {
        "priority": plain | {"input_cost_per_token_priority": 2},
        "image": plain | {"output_cost_per_image": 3},
        "searched": plain | {"search_context_cost_per_query": {"search_context_size_medium": 4}},
    }
    load(engine, write(tmp_path / "1.json", **dict.fromkeys(newer, plain)), at)
    assert load(engine, write(tmp_path / "2.json", **newer), at + LATER) == 3
    for name, field, rate in (
        ("priority", "input_cost_per_token_priority", "2"),
        ("image", "output_cost_per_image", "3"),
        ("searched", "search_context_cost_per_query_medium", "4"),
    ):
        old = {"input_cost_per_token": "1"}
        assert rows(engine, name) == [(at, old), (at + LATER, old | {field: rate})]


def test_a_file_that_is_read_in_a_new_way_is_imported_again_and_adds_what_changed(
    engine: Engine, at: datetime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "file.json", m={"input_cost_per_token": 1})
    monkeypatch.setattr(prices, "_READING", 1)
    assert load(engine, path, at) == 1
    monkeypatch.undo()
    assert load(engine, path, at + LATER) == 0
    with reading(engine) as session:
        state = session.scalars(select(SystemState.value).where(SystemState.name == "price_file")).one()
    assert not state.startswith("1:")
