"""What the gate's script takes and gives, as the script's own shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from token_tracker.domain.holds import LARGEST_HOLD, PICO_PER_NANO, Ask
from token_tracker.domain.limits import LEASE_RETRY_S, LEASE_US, SlidingWindow, slice_us
from token_tracker.proxy.gate.places import BudgetPlace, Placed, Places, RatePlace
from token_tracker.proxy.gate.refusals import judged, no_room, rate_states, refused_by_rate
from token_tracker.proxy.gate.store import NOT_BOOKED, Base, Books, CounterState, Entry, Position, Refused, Verdict

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()
encode = _encoder.encode
decode = _decoder.decode
MOST_OF_ENTRY = 2**53  # amounts that the script adds up as they are
MOST_OF_BASE = 2**62


class Static(msgspec.Struct):
    """The part of an ask that is the same for all calls with the same rules, in the same window."""

    budgets: msgspec.Raw
    rates: msgspec.Raw
    is_hard: bool
    has_leases: bool


def static_of(placed: Placed) -> Static:
    if not isinstance(placed.resolved, Static):
        placed.resolved = Static(
            msgspec.Raw(encode([_budget(each) for each in (*placed.hard, *placed.soft)])),
            msgspec.Raw(encode([_rate(each) for each in placed.rates])),
            bool(placed.hard),
            any(each.rule.unit == "concurrent" for each in placed.rates),
        )
    return placed.resolved


def _budget(budget: BudgetPlace) -> dict[str, Any]:
    place, rule = budget.place, budget.rule
    shape: dict[str, Any] = {
        "counter": place.counter,
        "bucket": place.bucket,
        "hours": place.hours,
        "first": budget.first_bucket,
        "leaves": place.leaves_at_s,
        "measure": place.measure,
        "limit": budget.limit,
        "is_hard": rule.enforcement == "hard",
        "allow_unbounded": rule.allow_unbounded,
        "place": place,
    }
    if budget.member:
        shape["member_rule"] = rule.id
    if rule.action == "downgrade":
        shape["downgrade_at"] = rule.downgrade_at
    return shape


def _rate(rate: RatePlace) -> dict[str, Any]:
    rule = rate.rule
    shape: dict[str, Any] = {"counter": rate.counter, "limit": rule.limit, "is_tokens": rule.unit == "tokens"}
    shape["is_lease"] = rule.unit == "concurrent"
    shape["slice_us"] = 0 if rule.unit == "concurrent" else slice_us(rule.period)
    if rate.member:
        shape["member_rule"] = f"{rule.id}|{rule.unit}"
    return shape


def ask_shape(
    ask: Ask, static: Static, generation: str, incarnation: str, members_most: int, is_waiting: bool
) -> bytes:
    """`is_waiting`: some rule refuses already; the others say what they would, and take nothing."""
    whole, part = divmod(ask.usd_per_output_pico, PICO_PER_NANO)
    shape = {
        "generation": generation,
        "incarnation": incarnation,
        "id": ask.id,
        "now_us": ask.now_us,
        "tokens_per": ask.tokens_per_output,
        "usd_whole": whole,
        "usd_part": part,
        "output_min": ask.output_min,
        "output_max": ask.output_max,
        "is_own_maximum": ask.is_own_maximum,
        "may_downgrade": ask.may_downgrade,
        "rate_tokens": ask.rate_tokens,
        "lease_until_us": ask.now_us + LEASE_US,
        "largest": LARGEST_HOLD,
        "members_most": members_most,
        "is_hard": static.is_hard,
        "is_waiting": is_waiting,
        "budgets": static.budgets,
        "rates": static.rates,
    }
    if ask.usd_fixed_nano is not None:
        shape["usd_fixed"] = ask.usd_fixed_nano
    if ask.tokens_fixed is not None:
        shape["tokens_fixed"] = ask.tokens_fixed
    return encode(shape)


def admitted(ask: Ask, placed: Placed, answer: list[Any]) -> Verdict:
    _, output, usd, tokens, rates = answer
    verdict = Verdict((), None, output)
    if placed.hard:
        verdict.held_nano_usd, verdict.held_tokens = usd, tokens
    counted = [
        (rate.rule, amount, slice_us(rate.rule.period), number)
        for rate, (amount, number, *_) in zip(placed.rates, rates, strict=True)
        if rate.rule.unit != "concurrent"
    ]
    rate_states(verdict, counted, ask.now_us)
    return verdict


def refused(ask: Ask, placed: Placed, answer: list[Any], unasked: Sequence[Refused]) -> Verdict | None:
    """The rules' words on the numbers that the script saw; None if none of them refuses."""
    _, states, rates, slices = answer[:4]
    budgets: list[tuple[BudgetPlace, CounterState | None, int]] = []
    for budget, (spent, held, unproven, full, oldest) in zip((*placed.hard, *placed.soft), states, strict=True):
        state = CounterState(int(spent), int(held), int(unproven))
        leaves_s = budget.place.leaves_at_s
        resets_s = (oldest or budget.place.bucket) + leaves_s - budget.place.bucket
        budgets.append((budget, None if full else state, 0 if leaves_s >= 2**50 else resets_s))
    by_rates = [
        said
        for rate, (counted, newest, *full), fields in zip(placed.rates, rates, slices, strict=True)
        if (said := _refused_by_rate(ask, rate, counted, newest, bool(full), fields)) is not None
    ]
    return judged(ask, budgets, by_rates, unasked)


def _refused_by_rate(
    ask: Ask, rate: RatePlace, counted: int, newest: int, is_full: bool, fields: list[bytes]
) -> Refused | None:
    limit = rate.rule.limit
    if is_full:
        return no_room(rate)
    if rate.rule.unit == "concurrent":
        return refused_by_rate(rate, counted, LEASE_RETRY_S) if counted >= limit else None
    amount = min(ask.rate_tokens, limit) if rate.rule.unit == "tokens" else 1
    if counted + amount <= limit:
        return None
    named = dict(zip(fields[::2], fields[1::2], strict=True))
    amounts = {int(name): int(value) for name, value in named.items() if _text(name).isdigit()}
    window = SlidingWindow.of(rate.rule.period, newest, amounts)
    return refused_by_rate(rate, counted, window.retry_after_s(ask.now_us, amount, limit))


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()


def place_operation(entry: Entry, places: Places) -> dict[str, Any]:
    usd, tokens = min(entry.nano_usd, MOST_OF_ENTRY), min(entry.tokens, MOST_OF_ENTRY)
    if entry.position is None:
        counted = [[0, usd, 0], [0, tokens, 0]]
    else:
        unproven = min(entry.unproven_nano_usd, MOST_OF_ENTRY), min(entry.unproven_tokens, MOST_OF_ENTRY)
        counted = [[usd, 0, unproven[0]], [tokens, 0, unproven[1]]]
    return {
        "kind": "place",
        "incarnation": entry.incarnation,
        "id": entry.id,
        "position": "" if entry.position is None else position_text(entry.position),
        "places": places,
        "counted": counted,
    }


def books_shape(books: Books, generation: str, is_complete: bool, silence_s: float) -> bytes:
    return encode(
        {
            "generation": generation,
            "bases": [_base(*name, base) for name, base in books.bases.items()],
            "positions": [[incarnation, position_text(at)] for incarnation, at in books.positions.items()],
            "ready": sorted(books.ready),
            "left": [
                [incarnation, None if held is None else [list(each) for each in held]]
                for incarnation, held in books.left.items()
            ],
            "silence_s": silence_s,
            "is_complete": is_complete,
        }
    )


def _base(counter: str, bucket: int, base: Base) -> list[Any]:
    spent, unproven = (str(max(-MOST_OF_BASE, min(MOST_OF_BASE, amount))) for amount in (base.spent, base.unproven))
    return [counter, bucket, base.leaves_at_s, spent, unproven, base.version]


def position_text(position: Position) -> str:
    """Ordered as text as positions are; `END` is all nines."""
    segment, offset = position
    return "9" * 25 if segment > 9_999_999_999 else f"{segment:010d}{offset:015d}"


def position_of(text: str) -> Position:
    return (int(text[:10]), int(text[10:])) if text else NOT_BOOKED
