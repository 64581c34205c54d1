"""Tables and bars."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from token_tracker.cli import shown


def test_no_name_moves_the_cursor_and_columns_stay_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    shown.table(("name", "n"), [("a\x1b[2Jb\r\n", 1), ("日本", 22), ("x" * 100, None)], right=("n",))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert "\x1b" not in "".join(lines) and "\r" not in "".join(lines)
    assert lines[1].startswith("a\ufffd[2Jb\ufffd\ufffd ") and lines[1].endswith("   1")
    assert lines[2] == "日本" + " " * 40 + "  22", "each of these is two columns wide"
    assert lines[3] == "x" * 43 + "…"


def test_one_is_one_and_more_are_many() -> None:
    assert [shown.counted(number, "call") for number in (0, 1, 2, 1204)] == [
        "0 calls",
        "1 call",
        "2 calls",
        "1,204 calls",
    ]


@given(value=st.integers(0, 10**15), most=st.integers(1, 10**15))
def test_a_bar_is_never_longer_than_its_room_and_never_hides_what_is_there(value: int, most: int) -> None:
    made = shown.bar(min(value, most), most)
    assert len(made) <= 20
    assert bool(made) == (value > 0)
    assert (made in ("█" * 20, "#" * 20)) >= (value >= most)


@pytest.mark.parametrize(
    ("nano_usd", "text"),
    [
        (0, "0.000000"),
        (1, "0.000000001"),
        (1_500, "0.000001500"),
        (2_000, "0.000002"),
        (999_999, "0.000999999"),
        (1_000_001, "0.001000"),
        (12_904_210_000_000, "12,904.210000"),
        (-5, "-0.000000005"),
    ],
)
def test_a_small_amount_is_never_shown_as_nothing(nano_usd: int, text: str) -> None:
    assert shown.usd(nano_usd) == text
