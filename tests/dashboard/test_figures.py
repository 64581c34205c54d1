"""Figures are drawn from rows alone: every amount is on the chart once, and nothing is invented."""

from __future__ import annotations

from token_tracker.dashboard import figures
from token_tracker.dashboard.data import ModelSums, Point

TIMES = ("01", "02", "03")


def point(time: str, model: str, cost: int, calls: int = 1, errors: int = 0, **tokens: int) -> Point:
    classes = {"input": 0, "cache_read": 0, "cache_write": 0, "output": 0, "reasoning": 0}
    return Point(time, model, calls, errors, cost, {**classes, **tokens})


def test_spend_stacks_every_models_cost_at_its_time_and_leaves_gaps_empty() -> None:
    points = [point("01", "a", 2_000_000_000), point("03", "a", 1), point("03", "b", 500_000_000)]
    models = [ModelSums("a", 2, 0, 2_000_000_001), ModelSums("b", 1, 0, 500_000_000)]
    figure = figures.spend_over_time(points, models, TIMES)
    assert {bar.name: tuple(bar.y) for bar in figure.data} == {"a": (2.0, 0, 1e-9), "b": (0, 0, 0.5)}
    assert all(tuple(bar.x) == TIMES for bar in figure.data)


def test_amounts_on_an_axis_are_plain_numbers() -> None:
    models = [ModelSums("a", 1, 0, 88_000)]
    over_time = figures.spend_over_time([point("01", "a", 88_000)], models, TIMES).layout.yaxis
    by_model = figures.spend_by_model(models).layout.xaxis
    assert [axis.exponentformat for axis in (over_time, by_model)] == ["none", "none"]


def test_models_beyond_the_colours_are_summed_as_others_and_none_is_dropped() -> None:
    models = [ModelSums(f"m{n:02d}", 1, 0, (20 - n) * 1_000_000_000) for n in range(20)]
    points = [point("02", model.model, model.cost_nano_usd) for model in models]
    figure = figures.spend_over_time(points, models, TIMES)
    assert len(figure.data) == len(figures.COLOURS) + 1
    assert figure.data[-1].name == figures.OTHER
    assert sum(bar.y[1] for bar in figure.data) == sum(range(1, 21))


def test_tokens_show_each_class_that_occurs_and_no_other() -> None:
    points = [point("01", "a", 0, input=5, output=7), point("01", "b", 0, input=1, cache_read=9)]
    figure = figures.tokens_over_time(points, TIMES)
    assert {bar.name: bar.y[0] for bar in figure.data} == {"Input": 6, "Cache read": 9, "Output": 7}


def test_errors_are_part_of_the_calls_not_added_to_them() -> None:
    figure = figures.calls_over_time([point("02", "a", 0, calls=5, errors=2)], TIMES)
    assert {bar.name: bar.y[1] for bar in figure.data} == {"answered": 3, "errors": 2}


def test_a_model_without_a_price_says_so_instead_of_looking_free() -> None:
    figure = figures.spend_by_model([ModelSums("a", 3, 2, 0)])
    assert [text.strip() for text in figure.data[1].text] == ["3 calls, 2 unpriced"]


def test_an_empty_selection_says_so() -> None:
    for figure in (
        figures.spend_over_time([], [], TIMES),
        figures.spend_by_model([]),
        figures.calls_over_time([], TIMES),
    ):
        assert figure.layout.annotations[0].text == "No calls in this selection"


def test_models_without_a_colour_of_their_own_are_one_bar_so_that_the_bars_add_up() -> None:
    models = [ModelSums(f"m{n}", 2, 1, (20 - n) * 1_000_000_000) for n in range(20)]
    bars, texts = figures.spend_by_model(models).data
    assert bars.y[0] == figures.OTHER and len(bars.y) == len(figures.COLOURS) + 1
    assert sum(bars.x) == sum(range(1, 21))
    assert texts.text[0].strip() == "26 calls, 13 unpriced"


def test_the_time_axis_names_a_few_slots_and_a_day_only_where_it_changes() -> None:
    times = [f"20 Nov {hour:02d}:00" for hour in range(23, 24)] + [f"21 Nov {hour:02d}:00" for hour in range(23)]
    axis = figures.calls_over_time([], times).layout.xaxis
    assert axis.tickvals[-1] == "21 Nov 22:00" and len(axis.tickvals) == 6
    assert axis.ticktext[:3] == ("02:00<br>21 Nov", "06:00", "10:00")
    assert figures.calls_over_time([], ["2026-11-20"]).layout.xaxis.ticktext == ("2026-11-20",)


def test_a_models_name_is_text_and_never_markup() -> None:
    name = '<a href="https://elsewhere.example">gpt</a>'
    models, points = [ModelSums(name, 1, 0, 5)], [point("01", name, 5)]
    shown = [*figures.spend_by_model(models).data[0].y, figures.spend_over_time(points, models, TIMES).data[0].name]
    assert shown == ['&lt;a href="https://elsewhere.example"&gt;gpt&lt;/a&gt;'] * 2
