"""Answers at a terminal: tables, bars and JSON. Names come from clients: nothing in them moves the cursor."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import click
import msgspec

WIDEST = 44  # columns of a cell
_PARTS = " ▏▎▍▌▋▊▉█"
_BAR = 20


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Print rows below their headers; the columns `right` are numbers. None is an empty cell."""
    texts = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(headers, *texts, strict=True)]
    for line, row in enumerate([list(headers), *texts]):
        cells = [
            " " * (width - _width(text)) + text if header in right else text + " " * (width - _width(text))
            for text, width, header in zip(row, widths, headers, strict=True)
        ]
        click.secho("  ".join(cells).rstrip(), bold=line == 0 or None)


def columns(cells: Iterable[tuple[object, int]], *, bold: bool = False) -> None:
    """Print one line of a table that never ends: value and width of each column; a negative width is a number's."""
    parts = []
    for value, width in cells:
        text = _cut(_cell(value), abs(width))
        gap = " " * (abs(width) - _width(text))
        parts.append(gap + text if width < 0 else text + gap)
    click.secho("  ".join(parts).rstrip(), bold=bold or None)


def document(value: Any) -> None:
    """Print JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def listed(items: Sequence[Mapping[str, object]], columns: Sequence[str], as_json: bool) -> None:
    """Print a list: its `columns` as a table, or all of it as JSON."""
    document(items) if as_json else table(columns, ([item[name] for name in columns] for item in items))


def line(value: Any) -> None:
    """Print JSON on one line."""
    click.echo(msgspec.json.encode(value))


def bar(value: int, most: int, width: int = _BAR) -> str:
    """How much `value` is of `most`: at most `width` columns, at least a mark for what is not 0."""
    if most <= 0 or value <= 0:
        return ""
    if not _speaks_unicode():
        return "#" * max(1, min(width, value * width // most))
    eighths = max(1, min(8 * width, value * 8 * width // most))
    return "█" * (eighths // 8) + _PARTS[eighths % 8].strip()


def usd(nano_usd: int) -> str:
    """Six places, enough for one small call; nine where these would hide some of an amount below a tenth of a cent."""
    places = 9 if nano_usd % 1000 and abs(nano_usd) < 1_000_000 else 6
    return f"{Decimal(nano_usd).scaleb(-9):,.{places}f}"


def counted(number: int, noun: str) -> str:
    """'1 model', '1,204 models'."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def fields(shown: Mapping[str, object]) -> None:
    """Print one object, a field a line."""
    table(("field", "value"), shown.items())


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return _cut("".join(each if each.isprintable() else "\ufffd" for each in text), WIDEST)


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    while _width(text) >= width:
        text = text[:-1]
    return text + "…"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)


def _speaks_unicode() -> bool:
    return "utf" in (sys.stdout.encoding or "").lower()
