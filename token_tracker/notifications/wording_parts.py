"""A letter in plain values, and the forms of names and amounts in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

NAME_CHARACTERS = 120


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a name and what is said of it, at least one. `percents`: a bar for each row, None for no bars."""

    title: str
    rows: Sequence[tuple[str, ...]]
    percents: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """`png` in the size of `width_px` or finer; `description` for who does not see it."""

    png: bytes
    description: str
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class Wording:
    """`percent` None: there is no bar."""

    subject: str
    headline: str
    sentence: str
    color: str
    percent: float | None = None
    lines: list[tuple[str, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    picture: Picture | None = None


def plain(value: object) -> str:
    """One line of printable text: what a name holds may come from anybody."""
    text = "".join(character if character.isprintable() else " " for character in str(value))
    text = " ".join(text.split())
    return text if len(text) <= NAME_CHARACTERS else text[: NAME_CHARACTERS - 1] + "…"


def money(text: str) -> str:
    """Cents; all that is needed to tell from 0 below one cent."""
    amount = Decimal(text)
    return f"{amount:,.2f}" if abs(amount) >= Decimal("0.01") or not amount else f"{amount.normalize():f}"
