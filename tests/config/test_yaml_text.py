"""YAML: numbers by their text, nothing twice, errors with their place."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from token_tracker.config.yaml_text import YamlError, load_yaml


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12))
def test_a_decimal_is_read_exactly_as_written(number: Decimal) -> None:
    assert load_yaml(f"price: {number:f}") == {"price": number}


def test_numbers_are_decimals_and_whole_ones_ints() -> None:
    text = "[0.1, 1e-6, 2.5E-06, .5, 5., 1_000.5, 10, -3, 1_000, 10:30, 2026-01-01, 0.30000000000000000001]"
    expected = ["0.1", "1e-6", "2.5E-06", ".5", "5.", "1000.5"]
    loaded = load_yaml(text)
    assert isinstance(loaded, list)
    assert loaded[:6] == [Decimal(number) for number in expected]
    assert loaded[6:9] == [10, -3, 1000]
    assert loaded[9:11] == ["10:30", "2026-01-01"]
    assert loaded[11] == Decimal("0.30000000000000000001")


def test_names_that_only_begin_like_numbers_stay_text() -> None:
    assert load_yaml("[4o, 1.5-pro, gpt-4.1, '4.1', 1.2.3, .inf, e5]") == [
        "4o", "1.5-pro", "gpt-4.1", "4.1", "1.2.3", ".inf", "e5",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3, column 1: the key 'a' is there twice"),
        ("x:\n  - {b: 1, b: 2}\n", "line 2, column 12: the key 'b' is there twice"),
        ("a: [1, 2\nb: 3\n", "line 2, column 2"),
        ("a:\n\t- 1\n", "line 2, column 1"),
        ("&a [*a]\n", "line 1, column 1: this anchor contains itself"),
        ("a: !!python/object:os.system x\n", "line 1, column 4"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1"),
        ("a: \x01\n", "a character"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_place(text: str, place: str) -> None:
    with pytest.raises(YamlError, match=place.replace("(", r"\(")):
        load_yaml(text)


def test_merged_keys_may_be_overridden() -> None:
    text = "base: &base {a: 1, b: 2}\nmine: &mine {<<: *base, a: 3}\nlast: {<<: *mine, b: 4}\n"
    assert load_yaml(text) == {"base": {"a": 1, "b": 2}, "mine": {"a": 3, "b": 2}, "last": {"a": 3, "b": 4}}


def test_aliases_of_aliases_are_refused_before_they_fill_the_memory() -> None:
    lines = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 12)]
    with pytest.raises(YamlError, match=r"line 6, column 5: this stands for more than 300000 values"):
        load_yaml("\n".join(["a0: &a0 [" + ", ".join("x" * 9) + "]", *lines]))


def test_merges_of_merges_are_refused_before_they_fill_the_memory() -> None:
    lines = [f"m{level}: &m{level} {{<<: [{', '.join([f'*m{level - 1}'] * 9)}]}}" for level in range(1, 12)]
    with pytest.raises(YamlError, match="more than 300000 values"):
        load_yaml("\n".join(["m0: &m0 {k: 1}", *lines]))


def test_a_file_of_thousands_of_models_with_a_shared_anchor_is_read() -> None:
    lines = [f"- {{<<: *base, model_name: m{number}, price: 0.1, other: [1, 2]}}" for number in range(5_000)]
    loaded = load_yaml("\n".join(["- &base {a: 1, b: 2, c: 3}", *lines]))
    assert isinstance(loaded, list)
    assert len(loaded) == 5_001
