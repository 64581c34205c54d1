"""The figures as text that Prometheus reads (exposition format 0.0.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain, islice

from token_tracker.domain.usage import TOKEN_CLASSES
from token_tracker.proxy.watch.comparison import Comparison
from token_tracker.proxy.watch.figures import LATENCY_BOUNDS_MS, Figures, Histogram, Label

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
PREFIX = "token_tracker_"
LINES_AT_ONCE = 16  # between two turns of the event loop: some 80 µs
_NAMES = ("model", "provider", "lane")
_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
Sample = tuple[Mapping[str, str], str]


@dataclass(frozen=True, slots=True)
class State:
    """What is read at the moment of asking. None: not known, and then not told."""

    in_flight: int
    drains: int
    snapshot_age_s: float | None
    is_recorder_alive: bool
    is_database_ok: bool
    backlog_bytes: int | None
    config_reloads: int = 0
    config_ok: bool = True
    log_lines_dropped: int = 0


async def exposition(figures: Figures, comparison: Comparison, state: State) -> bytes:
    """All of it, in UTF-8. Calls take their turns meanwhile, and may be counted in what is told last."""
    lines = chain(_calls(figures), _compared(comparison), _state(state))
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
    latency = [(label, each.latency) for label, each in totals]
    yield from _histogram("call_duration_seconds", "Attempts from admission to their end.", latency)
    first = [(label, each.first_token) for label, each in totals]
    yield from _histogram("first_token_seconds", "Streams from admission to their first token.", first)
    refusals = (
        ({"code": code, "status": str(status)}, str(count))
        for (code, status), count in sorted(figures.refusals.items())
    )
    yield from _family("refusals_total", "counter", "Calls that were refused before anything was sent.", refusals)


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


def _histogram(name: str, help_text: str, series: Iterable[tuple[Label, Histogram]]) -> Iterator[str]:
    yield f"# HELP {PREFIX}{name} {help_text}"
    yield f"# TYPE {PREFIX}{name} histogram"
    for label, histogram in series:
        counts, sum_ms = list(histogram.counts), histogram.sum_ms  # calls go on between two lines
        count = sum(counts)
        if not count:
            continue
        labels, below = _label(label), 0
        for bound_ms, number in zip(LATENCY_BOUNDS_MS, counts, strict=False):
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
