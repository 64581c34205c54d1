"""`tail`: calls as they are booked."""

from __future__ import annotations

import time
from collections.abc import Iterable

import click

from token_tracker.cli import shown
from token_tracker.cli.context import books, interruptible_after, now
from token_tracker.cli.options import filters, which_calls
from token_tracker.database.session import reading
from token_tracker.services import usage
from token_tracker.services.usage import Newcomers, UsageRow

POLL_S = 0.5
# Name and width of each column; negative: a number.
_COLUMNS = (
    ("time", 8),
    ("model", 28),
    ("user", 14),
    ("agent", 14),
    ("status", -6),
    ("end", 17),
    ("input", -9),
    ("output", -9),
    ("latency", -11),
    ("USD", -12),
)
_WIDTHS = tuple(width for _, width in _COLUMNS)


@click.command()
@click.option(
    "-n", "last", type=click.IntRange(0, usage.MAX_LIMIT), default=10, show_default=True, help="Earlier calls first."
)
@click.option("--no-follow", is_flag=True, help="Only those.")
@which_calls
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def tail(last: int, no_follow: bool, as_json: bool, **which: str | None) -> None:
    """Show the last calls, then each as it is booked, until Ctrl-C.

    A call is booked a moment after its end; one that took longer than an hour is not shown.
    """
    asked = filters(which, None, None)
    with books() as engine:
        with interruptible_after(), reading(engine) as session:
            newcomers = Newcomers(session, asked, now())
            found = usage.page(session, asked, limit=last).items if last else []
        if not as_json:
            shown.columns(_COLUMNS, bold=True)
        _show(reversed(found), as_json)
        while not no_follow:
            time.sleep(POLL_S)
            with interruptible_after(), reading(engine) as session:
                _show(newcomers.look(session, now()), as_json)


def _show(rows: Iterable[UsageRow], as_json: bool) -> None:
    for row in rows:
        if as_json:
            shown.line(usage.document(row))
        else:
            shown.columns(zip(_cells(row), _WIDTHS, strict=True))


def _cells(row: UsageRow) -> tuple[object, ...]:
    return (
        row.timestamp.astimezone().strftime("%H:%M:%S"),
        row.model,
        row.user,
        row.agent,
        row.status_code,
        "" if row.end_reason == "complete" else row.end_reason,
        f"{row.usage.prompt_tokens:,}",
        f"{row.usage.completion_tokens:,}",
        f"{row.latency_ms:,.0f} ms",
        "unpriced" if row.cost_nano_usd is None else shown.usd(row.cost_nano_usd),
    )
