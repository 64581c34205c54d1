"""`export`: single calls as CSV or JSON lines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

import click
from sqlalchemy import Engine

from token_tracker.cli.context import books, progress_bar, say
from token_tracker.cli.options import AGO, filters, which_calls
from token_tracker.database.session import reading
from token_tracker.services import usage
from token_tracker.services.usage import Filters, UsageRow

_FORMATS = {"csv": usage.csv_lines, "jsonl": usage.json_lines}


@click.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--format", "form", type=click.Choice(list(_FORMATS)), help="Default: as FILE ends, else csv.")
@click.option("--since", type=AGO, help="A day or time, or 24h, 7d ago; default: from the first call.")
@click.option("--until", type=AGO, help="Up to then, not included.")
@click.option("--force", is_flag=True, help="Write over a FILE that is there.")
@which_calls
def export(
    file: Path | None,
    form: str | None,
    since: datetime | None,
    until: datetime | None,
    force: bool,
    **which: str | None,
) -> None:
    """Write single calls into FILE, or to stdout, newest first, as /api/token-usage does."""
    asked = filters(which, since, until)
    lines = _FORMATS[form or ("jsonl" if file is not None and file.suffix == ".jsonl" else "csv")]
    if file is None:
        with books(statement_timeout_ms=0) as engine:
            for piece in lines(usage.every_row(partial(reading, engine), asked)):
                sys.stdout.buffer.write(piece)
            sys.stdout.flush()
        return
    if file.exists() and not force:
        raise click.UsageError(f"{file} is there already: name another file, or say --force.")
    with (
        books(statement_timeout_ms=0) as engine,
        progress_bar("Exporting", _count(engine, asked)) as told,
        _whole(file) as unfinished,
        unfinished.open("wb") as target,
    ):
        for piece in lines(_counted(usage.every_row(partial(reading, engine), asked), told)):
            target.write(piece)
    say(f"{file}: {file.stat().st_size:,} bytes.")


def _count(engine: Engine, asked: Filters) -> int:
    with reading(engine) as session:
        return usage.summarize(session, asked).totals.attempts


def _counted(rows: Iterator[UsageRow], told: Callable[[int], object]) -> Iterator[UsageRow]:
    for row in rows:
        told(1)
        yield row


@contextmanager
def _whole(file: Path) -> Iterator[Path]:
    """A place that becomes `file` once everything is written, readable by its owner alone."""
    unfinished = file.with_name(f".{file.name}.unfinished")
    unfinished.touch(mode=0o600)
    try:
        yield unfinished
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
