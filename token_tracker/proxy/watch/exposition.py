"""The figures as text that Prometheus reads (exposition format 0.0.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain, islice

from token_tracker.domain.usage import TOKEN_CLASSES
from token_tracker.proxy.books.status import CounterFigures
from token_tracker.proxy.gate.store import StoreFigures, StoreState
from token_tracker.proxy.histogram import Histogram
from token_tracker.proxy.watch.comparison import Comparison
from token_tracker.proxy.watch.figures import Figures, Label

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
PREFIX = "token_tracker_"
LINES_AT_ONCE = 16  # between two turns of the event loop: some 80 µs
_NAMES = ("model", "provider", "lane")
_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
Sample = tuple[Mapping[str, str], str]


@dataclass(frozen=True, slots=True)
class State:
    """What is read at the moment of asking. None: not known, and then not told. `unbooked`: calls that the gate counts
    and the ledger does not hold yet; `counters`: as the recorder last said."""

    in_flight: int
    drains: int
    snapshot_age_s: float | None
    is_recorder_alive: bool
    is_database_ok: bool
    backlog_bytes: int | None
    config_reloads: int = 0
    config_ok: bool = True
    log_lines_dropped: int = 0
    store: StoreFigures | None = None
    unbooked: int = 0
    counters: CounterFigures | None = None


async def exposition(figures: Figures, comparison: Comparison, state: State) -> bytes:
    """All of it, in UTF-8. Calls take their turns meanwhile, and may be counted in what is told last."""
    lines = chain(_calls(figures), _compared(comparison), _state(state), _counted(state))
    pieces = []
    while some := [f"{line}\n" for line in islice(lines, LINES_AT_ONCE)]:
        pieces.append("".join(some).encode())
        await asyncio.sleep(0)
    return b"".join(pieces)


def _calls(figures: Figures) -> Iterator[str]:
    totals = list(figures.totals.items())
    ends = (
        ({**_label(label), "endpoint": endpoint, "end_reason": reason, "status": status}, str(count))
        for label, each in totals
        for (endpoint, reason, status), count in sorted(each.ends.items())
    )
    yield from _family("calls_total", "counter", "Attempts at an upstream, each of them one row of the ledger.", ends)
    tokens = (
        ({**_label(label), "class": name.removesuffix("_tokens")}, str(count))
        for label, each in totals
        for name, count in zip(TOKEN_CLASSES, each.tokens, strict=True)
        if count
    )
    yield from _family("tokens_total", "counter", "Tokens by class; the classes are disjoint.", tokens)
    costs = ((_label(label), _usd(each.cost_nano_usd)) for label, each in totals)
    yield from _family("cost_usd_total", "counter", "Booked cost in US dollars.", costs)
    unpriced = ((_label(label), str(each.unpriced)) for label, each in totals if each.unpriced)
    yield from _family("unpriced_calls_total", "counter", "Attempts whose cost nobody knows.", unpriced)
    yield from _gated(figures)
    latency = [(_label(label), each.latency) for label, each in totals]
    yield from _histogram("call_duration_seconds", "Attempts from admission to their end.", latency)
    first = [(_label(label), each.first_token) for label, each in totals]
    yield from _histogram("first_token_seconds", "Streams from admission to their first token.", first)
    refusals = (
        ({"code": code, "status": str(status)}, str(count))
        for (code, status), count in sorted(figures.refusals.items())
    )
    yield from _family("refusals_total", "counter", "Calls that were refused before anything was sent.", refusals)


def _gated(figures: Figures) -> Iterator[str]:
    """What calls left beside their cost under hard budgets."""
    totals = list(figures.totals.items())
    told = (
        ("overrun_calls_total", "Attempts billed beyond what was held.", "overruns", str),
        ("overrun_usd_total", "US dollars billed beyond what was held.", "overrun_nano_usd", _usd),
        ("unproven_calls_total", "Attempts whose end nobody proved.", "unproven", str),
        ("unproven_usd_total", "US dollars that such attempts may have cost beyond booked.", "unproven_nano_usd", _usd),
    )
    for name, help_text, field, shown in told:
        samples = ((_label(label), shown(amount)) for label, each in totals if (amount := getattr(each, field)))
        yield from _family(name, "counter", help_text, samples)


def _compared(comparison: Comparison) -> Iterator[str]:
    counted = (
        ({"what": what, "result": result}, str(counter[result]))
        for what, counter in (("usage", comparison.usage), ("cost", comparison.cost))
        for result in ("equal", "differs", "unknown")
    )
    help_text = "Translated calls: what LiteLLM's callback reported beside what was booked."
    yield from _family("litellm_comparisons_total", "counter", help_text, counted)
    amounts = (
        ({"litellm_says": "more"}, _usd(comparison.more_nano_usd)),
        ({"litellm_says": "less"}, _usd(comparison.less_nano_usd)),
    )
    help_text = "Sum of the differences between LiteLLM's amounts and the booked ones, in US dollars."
    yield from _family("litellm_cost_difference_usd_total", "counter", help_text, amounts)


def _counted(state: State) -> Iterator[str]:
    """The gate's store, and the counters that the recorder compares with the ledger."""
    if state.store is not None:
        kind, now, queued, waits, leaks = state.store
        states = (({"store": kind, "state": each.value}, str(int(each is now))) for each in StoreState)
        yield from _family("gate_store_state", "gauge", "1: the state that the gate's store is in.", states)
        told = (
            ("gate_store_queued", "Operations it has not taken.", queued),
            ("gate_unbooked_calls", "Calls that the gate counts and the ledger does not hold yet.", state.unbooked),
        )
        for name, help_text, value in told:
            yield from _family(name, "gauge", help_text, [({}, str(value))])
        leaked: list[Sample] = [({}, str(leaks))]
        yield from _family("gate_leaks_total", "counter", "Holds of calls that nobody knew, given back.", leaked)
        yield from _histogram("gate_wait_seconds", "Admissions that asked Redis, until it answered.", [({}, waits)])
    if (counters := state.counters) is None:
        return
    measured = (("usd", _usd(counters.drift_nano_usd)), ("tokens", str(counters.drift_tokens)))
    yield from _family("counters_building", "gauge", "Budgets that are still added up.", [({}, str(counters.building))])
    drifts: list[Sample] = [({}, str(counters.drifts))]
    yield from _family("counter_drifts_total", "counter", "Budgets found off the ledger, and healed.", drifts)
    yield from _family(
        "counter_drift_total", "counter", "How far off, in all.", (({"measure": name}, text) for name, text in measured)
    )


def _state(state: State) -> Iterator[str]:
    told: tuple[tuple[str, str, str, float | None], ...] = (
        ("calls_in_flight", "gauge", "Attempts that run now.", state.in_flight),
        ("drains", "gauge", "Answers that are read on for clients that left.", state.drains),
        ("snapshot_age_seconds", "gauge", "Since the recorder published keys and prices last.", state.snapshot_age_s),
        ("recorder_up", "gauge", "1: the recorder has reported within 5 s.", state.is_recorder_alive),
        ("database_up", "gauge", "1: the recorder reaches the database.", state.is_database_ok),
        ("journal_backlog_bytes", "gauge", "Bytes of the journal that are not booked yet.", state.backlog_bytes),
        ("config_reloads_total", "counter", "Configurations taken over since the start.", state.config_reloads),
        ("config_ok", "gauge", "0: the last change of the configuration could not be used.", state.config_ok),
        ("log_lines_dropped_total", "counter", "Lines of calls that the log had no room for.", state.log_lines_dropped),
    )
    for name, kind, help_text, value in told:
        if value is not None:
            yield from _family(name, kind, help_text, [({}, f"{float(value):.15g}")])


def _family(name: str, kind: str, help_text: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP {PREFIX}{name} {help_text}"
    yield f"# TYPE {PREFIX}{name} {kind}"
    for labels, value in samples:
        yield f"{PREFIX}{name}{_braces(labels)} {value}"


def _histogram(name: str, help_text: str, series: Iterable[tuple[Mapping[str, str], Histogram]]) -> Iterator[str]:
    yield f"# HELP {PREFIX}{name} {help_text}"
    yield f"# TYPE {PREFIX}{name} histogram"
    for labels, histogram in series:
        counts, sum_ms = list(histogram.counts), histogram.sum_ms  # calls go on between two lines
        count = sum(counts)
        if not count:
            continue
        below = 0
        for bound_ms, number in zip(histogram.bounds_ms, counts, strict=False):
            below += number
            yield f"{PREFIX}{name}_bucket{_braces({**labels, 'le': f'{bound_ms / 1000:g}'})} {below}"
        yield f"{PREFIX}{name}_bucket{_braces({**labels, 'le': '+Inf'})} {count}"
        yield f"{PREFIX}{name}_sum{_braces(labels)} {sum_ms / 1000:.6f}"
        yield f"{PREFIX}{name}_count{_braces(labels)} {count}"


def _label(label: Label) -> Mapping[str, str]:
    return dict(zip(_NAMES, label, strict=True))


def _braces(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{value.translate(_ESCAPED)}"' for name, value in labels.items()) + "}"


def _usd(nano_usd: int) -> str:
    return f"{Decimal(nano_usd).scaleb(-9):f}"
