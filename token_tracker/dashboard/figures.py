"""Rows in, figure out: pure functions, tested without a browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go

from token_tracker.dashboard.data import ModelSums, Point

# Okabe and Ito's palette: told apart by people with any colour vision.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
OTHER_COLOUR = "#9AA5B1"
OTHER = "other models"
TOKEN_COLOURS: Mapping[str, tuple[str, str]] = {
    "input": ("Input", "#0072B2"),
    "cache_read": ("Cache read", "#56B4E9"),
    "cache_write": ("Cache write", "#CC79A7"),
    "output": ("Output", "#E69F00"),
    "reasoning": ("Reasoning", "#D55E00"),
}
NANO = 1_000_000_000
_MODELS_SHOWN = len(COLOURS)
_NAME_SHOWN = 32  # characters of a model's name on an axis; the rest shows on hover
_ROOM_FOR_TEXT = 1.35  # the axis is so many times the longest bar
# 0.0002 and 12,000, not 200μ and 12k.
_PLAIN_AMOUNTS = {"exponentformat": "none", "separatethousands": True, "automargin": True}
_TICKS_SHOWN = 6  # as many as fit beside each other on a narrow page


def _layout(*, y_title: str, hour_ticks: bool = True, **extra: object) -> go.Layout:
    return go.Layout(
        margin={"l": 64, "r": 16, "t": 12, "b": 40},
        barmode="stack",
        bargap=0.25,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12, "color": "#3E4C59"},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
        hovermode="x unified" if hour_ticks else "closest",
        hoverlabel={"namelength": -1},
        xaxis={"gridcolor": "#EEF1F4", "showgrid": False},
        yaxis={"gridcolor": "#EEF1F4", "rangemode": "tozero", "title": {"text": y_title}, "zerolinecolor": "#CBD2D9"},
        uirevision="kept",  # a refresh keeps zoom and legend choices
        **extra,
    )


def _over_time(y_title: str, times: Sequence[str]) -> go.Figure:
    """A figure without data yet. Its axis names a few slots, the newest always, and a day only where it changes."""
    shown = times[:: -max(1, -(-len(times) // _TICKS_SHOWN))][::-1]
    axis = {"type": "category", "tickvals": list(shown), "ticktext": _tick_texts(shown), "tickangle": 0}
    return go.Figure(layout=_layout(y_title=y_title)).update_xaxes(axis)


def _tick_texts(times: Sequence[str]) -> list[str]:
    """'20 Nov 04:00' in two lines, the day below; '2026-11-20' as it is, in one."""
    texts, day_before = [], ""
    for time in times:
        words = time.split(" ", 2)
        day = " ".join(words[:2])
        texts.append(time if len(words) < 3 else words[2] if day == day_before else f"{words[2]}<br>{day}")
        day_before = day
    return texts


def _empty(figure: go.Figure) -> go.Figure:
    figure.add_annotation(
        text="No calls in this selection", showarrow=False, xref="paper", yref="paper", x=0.5, y=0.5, font={"size": 14}
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure


def leading_models(models: Sequence[ModelSums]) -> list[str]:
    """The models that get a colour of their own: those with the highest cost, then the most calls."""
    ranked = sorted(models, key=lambda m: (-m.cost_nano_usd, -m.calls, m.model))
    return [m.model for m in ranked[:_MODELS_SHOWN]]


def _by_model(points: Sequence[Point], leading: Sequence[str], times: Sequence[str]) -> dict[str, list[int]]:
    series: dict[str, list[int]] = {}
    index = {time: i for i, time in enumerate(times)}
    for point in points:
        name = point.model if point.model in leading else OTHER
        series.setdefault(name, [0] * len(times))[index[point.time]] += point.cost_nano_usd
    return series


def spend_over_time(points: Sequence[Point], models: Sequence[ModelSums], times: Sequence[str]) -> go.Figure:
    """Stacked bars of USD by time, one colour a model; `times` are all slots of the range, so gaps show as gaps.

    The colours are those of `spend_by_model`, which stands beside it in place of a legend.
    """
    figure = _over_time("USD", times)
    if not points:
        return _empty(figure)
    leading = leading_models(models)
    series = _by_model(points, leading, times)
    for name in [*leading, OTHER]:
        if name in series:
            colour = COLOURS[leading.index(name)] if name in leading else OTHER_COLOUR
            usd = [nano / NANO for nano in series[name]]
            figure.add_bar(x=list(times), y=usd, name=_plain(name), marker_color=colour, hovertemplate="$%{y:.6f}")
    return figure.update_yaxes(_PLAIN_AMOUNTS).update_layout(showlegend=False)


def tokens_over_time(points: Sequence[Point], times: Sequence[str]) -> go.Figure:
    """Stacked bars of tokens by time, one colour a class; the classes are disjoint, so the bars add up."""
    figure = _over_time("tokens", times)
    if not points:
        return _empty(figure)
    index = {time: i for i, time in enumerate(times)}
    for token_class, (label, colour) in TOKEN_COLOURS.items():
        values = [0] * len(times)
        for point in points:
            values[index[point.time]] += point.tokens[token_class]
        if any(values):
            figure.add_bar(x=list(times), y=values, name=label, marker_color=colour, hovertemplate="%{y:,}")
    return figure.update_layout(showlegend=True)


def calls_over_time(points: Sequence[Point], times: Sequence[str]) -> go.Figure:
    """Stacked bars of calls by time: those that went well, and errors on top in red."""
    figure = _over_time("calls", times)
    if not points:
        return _empty(figure)
    index = {time: i for i, time in enumerate(times)}
    good, bad = [0] * len(times), [0] * len(times)
    for point in points:
        good[index[point.time]] += point.calls - point.errors
        bad[index[point.time]] += point.errors
    figure.add_bar(x=list(times), y=good, name="answered", marker_color="#009E73", hovertemplate="%{y:,}")
    figure.add_bar(x=list(times), y=bad, name="errors", marker_color="#C0392B", hovertemplate="%{y:,}")
    return figure.update_layout(showlegend=True)


def spend_by_model(models: Sequence[ModelSums]) -> go.Figure:
    """Horizontal bars, dearest on top, the sum of those without a colour of their own below; models without a price
    are named as such, not shown as 0."""
    figure = go.Figure(layout=_layout(y_title="", hour_ticks=False))
    if not models:
        return _empty(figure)
    leading = leading_models(models)
    shown = [m for name in leading for m in models if m.model == name]
    colours = list(COLOURS[: len(shown)])
    if others := [m for m in models if m.model not in leading]:
        shown.append(_sum_of_others(others))
        colours.append(OTHER_COLOUR)
    shown.reverse()  # the axis grows upwards
    names, usd = [_plain(m.model) for m in shown], [m.cost_nano_usd / NANO for m in shown]
    hover = "%{y}: $%{x:.6f}<extra></extra>"
    figure.add_bar(orientation="h", y=names, x=usd, marker_color=colours[::-1], hovertemplate=hover)
    # A trace of its own, as a bar of 0 would not show its text: that nothing is known of a price, say.
    texts = ["\N{NO-BREAK SPACE}" + _bar_text(m) for m in shown]
    figure.add_scatter(y=names, x=usd, mode="text", text=texts, textposition="middle right", hoverinfo="skip")
    figure.update_xaxes(_PLAIN_AMOUNTS, title="USD", showgrid=True, range=[0, max(usd) * _ROOM_FOR_TEXT or 1])
    short = [name if len(name) <= _NAME_SHOWN else name[: _NAME_SHOWN - 1] + "…" for name in (m.model for m in shown)]
    axis = {"type": "category", "tickvals": names, "ticktext": [_plain(name) for name in short], "automargin": True}
    return figure.update_yaxes(axis, title=None).update_layout(showlegend=False)


def _plain(name: str) -> str:
    """A name that callers chose: Plotly takes some tags in texts for markup, links among them."""
    return escape(name, quote=False)


def _sum_of_others(others: Sequence[ModelSums]) -> ModelSums:
    calls, unpriced = sum(m.calls for m in others), sum(m.unpriced_calls for m in others)
    return ModelSums(OTHER, calls, unpriced, sum(m.cost_nano_usd for m in others))


def _bar_text(model: ModelSums) -> str:
    unpriced = f", {model.unpriced_calls:,} unpriced" if model.unpriced_calls else ""
    return f"{model.calls:,} call{'' if model.calls == 1 else 's'}{unpriced}"
