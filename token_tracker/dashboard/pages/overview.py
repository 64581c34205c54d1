"""The overview: spend, tokens, models, errors, refusals, newest calls, for one range and filter; refreshes itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from dash import Dash, Input, Output, State, dcc, html, no_update
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from token_tracker.dashboard import alerts, budgets, figures, refused
from token_tracker.dashboard.data import DEFAULT_RANGE, NewestCall, Overview, Selection, load_overview, zone_or_utc
from token_tracker.dashboard.ranges import RANGES
from token_tracker.dashboard.sessions import csrf_token, current_viewer
from token_tracker.database.session import reading
from token_tracker.domain.money import format_usd

REFRESH_MS = 3_000
FILTERS = ("model", "user", "team", "key")
GRAPHS = ("spend", "models", "tokens", "calls")
AWAY = "The database cannot be reached; what you see is from before. Calls go on and will appear when it is back."
_TITLES = {"spend": "Spend", "tokens": "Tokens", "models": "Spend by model", "calls": "Calls and errors"}
_CONFIG = {"displayModeBar": False, "responsive": True}


def layout(who: str) -> html.Div:
    """The page as it is before the first data comes."""
    return html.Div(
        [
            dcc.Store(id="zone"),
            dcc.Interval(id="tick", interval=REFRESH_MS),
            _top(who),
            html.Main(
                [
                    _filters(),
                    html.P("Loading …", id="state", className="state", role="status"),
                    html.Div(id="cards", className="cards"),
                    html.Div(id="budgets"),
                    html.Div([_panel(name) for name in GRAPHS], className="panels"),
                    html.Div(id="refused"),
                    html.Section(
                        [html.H2("Newest calls"), html.Div(id="newest", className="scroll")], className="panel"
                    ),
                ],
                className="page",
            ),
        ]
    )


def _top(who: str) -> html.Header:
    log_out = html.Form(
        [
            dcc.Input(type="hidden", name="csrf_token", value=csrf_token()),
            html.Button("Log out", type="submit", id="logout"),
        ],
        method="post",
        action="/logout",
    )
    return html.Header([html.H1("Token Tracker"), html.Span(who, className="who"), log_out], className="top")


def _filters() -> html.Div:
    ranges = dcc.Dropdown(
        id="range",
        options=[{"label": r.label, "value": name} for name, r in RANGES.items()],
        value=DEFAULT_RANGE,
        clearable=False,
        persistence=True,
        persistence_type="session",
    )
    choices = [
        html.Label([name.capitalize(), dcc.Dropdown(id=f"filter-{name}", options=[], placeholder="all")])
        for name in FILTERS
    ]
    return html.Div([html.Label(["Range", ranges]), *choices], className="filters")


def _panel(name: str) -> html.Section:
    graph = html.Div(dcc.Graph(id=f"graph-{name}", config=_CONFIG), className="graph")  # a graph fills its parent
    return html.Section([html.H2(_TITLES[name]), graph], className="panel")


def cards(overview: Overview) -> list[html.Div]:
    """The totals of the selection; they equal `/api/token-usage/summary` for the same filter."""
    totals = overview.totals
    error_note = f"{totals.errors / totals.calls:.1%} of calls" if totals.calls else ""
    unpriced = totals.unpriced_calls
    latency = (
        ("–", "") if not totals.calls else (f"{totals.latency_p50_ms:,.0f} ms", f"p95 {totals.latency_p95_ms:,.0f} ms")
    )
    return [
        _card(
            "Spend",
            "spend",
            f"${format_usd(totals.cost_nano_usd)}",
            f"without the {unpriced:,} unpriced" if unpriced else "",
        ),
        _card("Calls", "calls", f"{totals.calls:,}", f"{totals.attempts:,} attempt{'s' * (totals.attempts != 1)}"),
        _card(
            "Tokens",
            "tokens",
            f"{totals.total_tokens:,}",
            f"{totals.prompt_tokens:,} in, {totals.completion_tokens:,} out",
        ),
        _card("Errors", "errors", f"{totals.errors:,}", error_note, "bad" if totals.errors else ""),
        _card(
            "Unpriced calls",
            "unpriced",
            f"{unpriced:,}",
            "no price is known" if unpriced else "",
            "warn" if unpriced else "",
        ),
        _card("Latency p50", "latency", *latency),
    ]


def _card(label: str, name: str, value: str, note: str = "", style: str = "") -> html.Div:
    return html.Div(
        [
            html.Div(label, className="label"),
            html.Div(value, id=f"card-{name}", className="value"),
            html.Div(note, className="note"),
        ],
        className=f"card {style}".strip(),
    )


_COLUMNS = ("Time", "Model", "User", "Key", "Tokens in", "Tokens out", "Cost (USD)", "Evidence", "Latency", "End")
_NUMBERS = {"Tokens in", "Tokens out", "Cost (USD)", "Latency"}


def newest_table(calls: Sequence[NewestCall]) -> html.Table | html.P:
    """One line a call, newest first, with what its cost rests on."""
    if not calls:
        return html.P("No calls in this selection.", className="state")
    head = html.Tr([html.Th(name, className="number" if name in _NUMBERS else None) for name in _COLUMNS])
    return html.Table([html.Thead(head), html.Tbody([_row(call) for call in calls])], className="calls")


def _row(call: NewestCall) -> html.Tr:
    end_style = "tag plain" if call.end_reason == "complete" else "tag bad" if call.is_error else "tag warn"
    end = call.end_reason if call.status_code in (0, 200) else f"{call.end_reason} {call.status_code}"
    evidence = [_evidence(call.usage_source, "provider"), _evidence(call.cost_source, "priced", "provider", "local")]
    cost = "unknown" if call.cost_nano_usd is None else format_usd(call.cost_nano_usd)
    cells: list[Any] = [
        call.time,
        call.model,
        call.user,
        call.key_name,
        f"{call.prompt_tokens:,}",
        f"{call.completion_tokens:,}",
        cost,
        evidence,
        f"{call.latency_ms:,.0f} ms",
        html.Span(end, className=end_style),
    ]
    return html.Tr([_cell(name, value) for name, value in zip(_COLUMNS, cells, strict=True)], title=call.id)


def _cell(column: str, value: Any) -> html.Td:
    """A narrow page shows a call as a card, each value beside its column's name."""
    label: dict[str, Any] = {"data-label": column}
    return html.Td(value, className="number" if column in _NUMBERS else None, **label)


def _evidence(value: str, *proven: str) -> html.Span:
    return html.Span(value, className="tag" if value in proven else "tag warn")


def register(app: Dash, engine: Engine) -> None:
    """The page's callbacks: load, draw, return."""
    app.clientside_callback(
        "function(n) { return Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC'; }",
        Output("zone", "data"),
        Input("range", "value"),
    )

    @app.callback(  # type: ignore[untyped-decorator]
        Output("state", "children"),
        Output("state", "className"),
        Output("cards", "children"),
        Output("budgets", "children"),
        Output("refused", "children"),
        *(Output(f"graph-{name}", "figure") for name in GRAPHS),
        Output("newest", "children"),
        *(Output(f"filter-{name}", "options") for name in FILTERS),
        Input("tick", "n_intervals"),
        Input("zone", "data"),
        Input("range", "value"),
        *(Input(f"filter-{name}", "value") for name in FILTERS),
        State("state", "className"),
    )
    def refresh(_tick: object, zone: object, range_name: object, *chosen: object) -> tuple[Any, ...]:
        if zone is None:  # the browser has not told its zone yet; it does at once
            return (no_update,) * (5 + len(GRAPHS) + 1 + len(FILTERS))
        selection = Selection.from_browser(range_name, zone, *chosen[: len(FILTERS)])
        try:
            viewer = current_viewer(engine)
            if viewer is None:
                return _only_state("Your session has ended. Reload the page to log in again.")
            with reading(engine) as database:
                at, zone = datetime.now(UTC), zone_or_utc(selection.zone)
                overview = load_overview(database, viewer, selection, at=at)
                bars = budgets.load_bars(database, viewer, zone=zone, at=at)
                told = alerts.load(database, viewer, zone=zone)
                turned_away = refused.load(database, viewer, selection, zone=zone, at=at)
        except SQLAlchemyError:
            return _only_state(AWAY)
        panels = [*alerts.panel(told), *budgets.panel(*bars)]
        return _drawn(overview, panels, refused.panel(turned_away))


def _only_state(message: str) -> tuple[Any, ...]:
    return (message, "state bad", *(no_update,) * (3 + len(GRAPHS) + 1 + len(FILTERS)))


def _drawn(overview: Overview, panels: list[html.Section], turned_away: list[html.Section]) -> tuple[Any, ...]:
    times = overview.times
    return (
        f"{overview.range_text} · updated {overview.updated_text}",
        "state",
        cards(overview),
        panels,
        turned_away,
        figures.spend_over_time(overview.points, overview.models, times),
        figures.spend_by_model(overview.models),
        figures.tokens_over_time(overview.points, times),
        figures.calls_over_time(overview.points, times),
        newest_table(overview.newest),
        *overview.choices,
    )
