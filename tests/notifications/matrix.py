"""What became of messages over all kills and faults, in numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cell:
    """One run. `crossings`: messages that there had to be; `messages`: that arrived, repeats included."""

    way: str
    killed: str
    fault: str
    crossings: int
    messages: int
    doubled: int
    lost: int


def lines(told: Sequence[Cell]) -> list[str]:
    """A line for each way and kill over all faults and databases, and one for all."""
    rows: defaultdict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in told:
        rows[cell.way, cell.killed].append(cell)
    width = max(len(f"{way}, killed {killed}") for way, killed in rows)
    each = [_line(f"{way}, killed {killed}".ljust(width), cells) for (way, killed), cells in rows.items()]
    return [*each, _line("all".ljust(width), told)]


def _line(name: str, cells: Sequence[Cell]) -> str:
    crossings, messages, doubled, lost = (
        sum(getattr(cell, field) for cell in cells) for field in ("crossings", "messages", "doubled", "lost")
    )
    return (
        f"{name}  {len(cells):3} runs: crossings {crossings:4}, messages {messages:4}, doubled {doubled:3}, lost {lost}"
    )
