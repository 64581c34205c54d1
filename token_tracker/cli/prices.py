"""`prices`: what models cost, overrides, and a newer price file after a look at what it changes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from token_tracker.cli import shown
from token_tracker.cli.app import EXIT_REFUSED
from token_tracker.cli.context import actor, books, now, say
from token_tracker.cli.options import AHEAD, as_json, placed
from token_tracker.database.session import reading, transaction
from token_tracker.services import audit, price_list
from token_tracker.services import prices as service
from token_tracker.services.prices import Difference

PER_MILLION = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "reasoning": "output_cost_per_reasoning_token",
}
_COLUMNS = ("id", "source", "valid_from", "rate", "USD")
_SHOWN = 40


class Usd(click.ParamType[Decimal]):
    name = "usd"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        try:
            amount = Decimal(str(value))
        except ArithmeticError:
            amount = Decimal("NaN")
        if not amount.is_finite():
            self.fail(f"'{value}' is no amount such as 2.50.", param, ctx)
        return amount


@click.group(no_args_is_help=True)
def prices() -> None:
    """Prices: show, set, end, import."""


@prices.command()
@click.argument("name")
@as_json
def show(name: str, as_json: bool) -> int:
    """Show every price that a NAME ever had, the newest first: gpt-4o, openai/gpt-4o."""
    with books() as engine, reading(engine) as session:
        items = [price_list.public(row) for row in price_list.list_prices(session, name=name, limit=1000).items]
    if as_json:
        shown.document(items)
        return 0
    if not items:
        say(f"Nobody knows a price of '{name}': token-tracker prices set {name} --input … --output …")
        return EXIT_REFUSED
    rows = [
        (item["id"], item["source"], item["valid_from"], _short(field), _per_million(field, rate))
        for item in items
        for field, rate in (item["rates"] or {"ended": None}).items()
    ]
    shown.table(_COLUMNS, rows, right=("USD",))
    return 0


@prices.command("set")
@click.argument("name")
@click.option("--input", "input_", type=Usd(), help="USD for a million fresh input tokens.")
@click.option("--output", type=Usd(), help="USD for a million output tokens.")
@click.option("--cache-read", type=Usd(), help="USD for a million tokens read from a cache.")
@click.option("--cache-write", type=Usd(), help="USD for a million tokens written into a cache.")
@click.option("--reasoning", type=Usd(), help="USD for a million reasoning tokens; default: as output.")
@click.option("--rate", "rates", multiple=True, help="Any other of LiteLLM's fields, USD a unit: FIELD=0.04; repeat.")
@click.option("--from", "valid_from", type=AHEAD, help="From then on; default: from now on.")
@as_json
def set_(
    name: str,
    input_: Decimal | None,
    rates: tuple[str, ...],
    valid_from: datetime | None,
    as_json: bool,
    **more: Decimal,
) -> None:
    """Override the price of a model from now on; what was booked stays as it is.

    NAME: a price name of its entry: base_model, provider/model or model.
    """
    given = {"input": input_, **more}
    fields = {PER_MILLION[each]: format(usd / 1_000_000, "f") for each, usd in given.items() if usd is not None}
    for rate in rates:
        field, separator, usd = rate.partition("=")
        if not separator:
            raise click.UsageError(f"--rate '{rate}' is not like output_cost_per_image=0.04.")
        fields[field] = usd
    at = now()
    with books() as engine, transaction(engine) as session:
        row = price_list.override(session, name=name, rates=fields, valid_from=placed(valid_from), at=at)
        document = price_list.public(row)
        audit.record(session, actor(), "price.override", row.name, at=at, after=document)
    shown.document(document) if as_json else say(
        f"{name}: {_rates(document['rates'])}, from {document['valid_from']} on."
    )


@prices.command()
@click.argument("price_id", type=int)
def end(price_id: int) -> None:
    """End an override; from now on the next source prices the model."""
    at = now()
    with books() as engine, transaction(engine) as session:
        row = price_list.end_override(session, price_id=price_id, at=at)
        audit.record(session, actor(), "price.end_override", row.name, at=at, after=price_list.public(row))
        name = row.name
    say(f"The override of '{name}' has ended.")


@prices.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--apply", "is_applied", is_flag=True, help="Take it over; without, only what it would change is shown.")
@as_json
def import_(file: Path, is_applied: bool, as_json: bool) -> None:
    """Compare a newer price FILE of LiteLLM with the prices that hold, and with --apply take it over.

    New prices hold from now on; what was booked stays as it is. Names that the file lacks keep their price.
    """
    rates, at = service.read_upload(file.read_bytes()), now()
    if not is_applied:
        with books() as engine, reading(engine) as session:
            difference = service.preview(session, rates)
    else:
        with books() as engine, transaction(engine) as session:
            difference = service.import_rates(session, rates, at=at)
            audit.record(
                session, actor(), "price.import", "file", at=at, after=_counts(difference) | {"dry_run": False}
            )
    if as_json:
        changed = {name: {"before": dict(old), "after": dict(new)} for name, (old, new) in difference.changed.items()}
        added = {name: {"before": None, "after": dict(new)} for name, new in difference.added.items()}
        shown.document(_counts(difference) | {"dry_run": not is_applied, "changes": changed | added})
        return
    _show(difference)
    said = "Taken over." if is_applied else "Nothing was changed; --apply takes it over."
    say(", ".join(f"{count} {what}" for what, count in _counts(difference).items()) + f". {said}")


def _counts(difference: Difference) -> dict[str, int]:
    return {
        "added": len(difference.added),
        "changed": len(difference.changed),
        "unchanged": difference.unchanged,
        "missing": len(difference.missing),
    }


def _show(difference: Difference) -> None:
    """The first ones: what changed, then what is new."""
    rows = [
        (name, field, _per_million(field, old.get(field)), _per_million(field, new.get(field)))
        for name, (old, new) in difference.changed.items()
        for field in sorted(old.keys() | new.keys())
        if old.get(field) != new.get(field)
    ]
    rows += [(name, "new", None, _rates(new)) for name, new in difference.added.items()]
    if rows:
        shown.table(("name", "rate", "until now", "from now on"), rows[:_SHOWN])
    if len(rows) > _SHOWN:
        say(f"… and {len(rows) - _SHOWN} more; --json has all.")


def _rates(rates: Mapping[str, str] | None) -> str:
    if rates is None:
        return "ended"
    return ", ".join(f"{_short(field)} {_per_million(field, rate)}" for field, rate in rates.items())


def _short(field: str) -> str:
    return next((name for name, each in PER_MILLION.items() if each == field), field)


def _per_million(field: str, rate: str | None) -> str | None:
    """USD for a million tokens, or for one of anything else."""
    if rate is None or "token" not in field:
        return rate
    return format((Decimal(rate) * 1_000_000).normalize(), "f") + "/M"
