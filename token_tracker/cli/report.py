"""`report`: what was consumed and what it cost, by up to three groups."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import click

from token_tracker.cli import shown
from token_tracker.cli.context import books, say
from token_tracker.cli.options import AGO, Zone, as_json, filters, which_calls
from token_tracker.database.session import reading
from token_tracker.services import keys, usage
from token_tracker.services.usage import GROUPS, MAX_GROUPS_AT_ONCE, Summary, Sums
from token_tracker.services.usage_times import TIME_GROUPS

_NUMBERS = ("calls", "errors", "input", "output", "p95 ms", "USD")
_NO_NAME = "–"


@click.command()
@click.option("--by", "groups", type=click.Choice(GROUPS), multiple=True, help="Up to three; repeat. Default: day.")
@click.option("--since", type=AGO, default="30d", show_default=True, help="A day or time, or 24h, 7d ago.")
@click.option("--until", type=AGO, help="Up to then, not included.")
@click.option("--timezone", "zone", type=Zone(), default="UTC", show_default=True, help="Whose days and months.")
@click.option("--top", type=click.IntRange(1), help="Only so many rows of the table; the others are added up.")
@which_calls
@as_json
@click.option("--csv", "as_csv", is_flag=True, help="Answer with CSV.")
def report(
    groups: tuple[str, ...],
    since: datetime,
    until: datetime | None,
    zone: ZoneInfo,
    top: int | None,
    as_json: bool,
    as_csv: bool,
    **which: str | None,
) -> None:
    """Show usage and cost by day, model, user, agent, …, with a bar for the cost.

    The sums are those of /api/token-usage/summary. Groups of time come in their order, all others by cost.
    """
    groups = groups or ("day",)
    if len(groups) > MAX_GROUPS_AT_ONCE or len(set(groups)) < len(groups):
        raise click.UsageError(f"--by takes at most {MAX_GROUPS_AT_ONCE} different groups.")
    if as_json and as_csv:
        raise click.UsageError("--json or --csv, not both.")
    asked = filters(which, since, until, zone)
    with books(statement_timeout_ms=0) as engine, reading(engine) as session:
        found = usage.summarize(session, asked, groups=groups, zone=zone)
        names = keys.names(session) if "key" in groups else {}
        key_names = {id: f"{name} ({id[:10]})" for id, name in names.items()}  # two keys may have one name
    if as_json:
        shown.document(_document(groups, found))
    elif as_csv:
        click.echo(_csv(groups, found), nl=False)
    else:
        _table(groups, found, top, key_names)
    if found.missing_before is not None:
        say(f"Single calls before {usage.format_time(found.missing_before)} are no longer kept; the answer lacks them.")
    if found.totals.unpriced_calls:
        say(f"{found.totals.unpriced_calls} calls have no known price and no cost here: see token-tracker doctor.")


def _document(groups: Sequence[str], found: Summary) -> dict[str, Any]:
    """As the API answers."""
    items = [dict(zip(groups, item.groups, strict=True)) | usage.sums_document(item.sums) for item in found.items]
    missing = None if found.missing_before is None else usage.format_time(found.missing_before)
    return {"items": items, "totals": usage.sums_document(found.totals), "missing_before": missing}


def _csv(groups: Sequence[str], found: Summary) -> str:
    """A header, then a line for each item; no cell that a spreadsheet would compute."""
    text = io.StringIO()
    names = list(_flat(found.totals))
    writer = csv.writer(text)
    writer.writerow([*groups, *names])
    for item in found.items:
        writer.writerow([*map(usage.text_cell, item.groups), *_flat(item.sums).values()])
    return text.getvalue()


def _flat(sums: Sums) -> dict[str, Any]:
    document = usage.sums_document(sums)
    latencies = document.pop("latency_ms")
    return document | {f"latency_{name}_ms": value for name, value in latencies.items()}


def _table(groups: Sequence[str], found: Summary, top: int | None, key_names: Mapping[str, str]) -> None:
    items = [(item.groups, item.sums) for item in found.items]
    if groups[0] not in TIME_GROUPS:
        items.sort(key=lambda item: (-item[1].cost_nano_usd, -item[1].calls, item[0]))
    rest = items[top:] if top is not None else []
    most = max((sums.cost_nano_usd for _, sums in items), default=0)
    rows = [
        [*(key_names.get(name, name) or _NO_NAME for name in names), *_cells(sums, most)] for names, sums in items[:top]
    ]
    blank = [""] * (len(groups) - 1)
    if rest:
        others = Sums()
        for _, sums in rest:
            others.add(sums)
        rows.append([f"{len(rest)} others", *blank, *_cells(others, 0)])
    rows.append(["total", *blank, *_cells(found.totals, 0)])
    shown.table((*groups, *_NUMBERS, ""), rows, right=_NUMBERS)


def _cells(sums: Sums, most_nano_usd: int) -> list[str]:
    tokens = sums.usage
    counts = (sums.calls, sums.errors, tokens.prompt_tokens, tokens.completion_tokens, round(sums.latency_ms(0.95)))
    return [
        *(f"{count:,}" for count in counts),
        shown.usd(sums.cost_nano_usd),
        shown.bar(sums.cost_nano_usd, most_nano_usd),
    ]
