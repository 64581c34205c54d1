"""On which evidence an attempt is booked."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.proxy.house import key_record
from tests.proxy.test_upstreams import deployment, upstreams
from token_tracker.domain.extras import Extras, ServiceTier
from token_tracker.domain.pricing import Choice, CostSource, make_price
from token_tracker.domain.providers import WireFormat
from token_tracker.domain.usage import EndReason, Usage, UsageSource
from token_tracker.proxy.call import Attempt, CallIds, open_record
from token_tracker.proxy.dialects import ROUTES
from token_tracker.proxy.dialects.base import Reading
from token_tracker.proxy.subject import subject_of

PRICED = Choice(
    CostSource.PRICED,
    make_price(
        "entry", "m", {"input_cost_per_token": Decimal("0.000001"), "output_cost_per_token": Decimal("0.000002")}
    ),
)
UNPRICED = Choice(CostSource.UNPRICED)
FILE_PRICED = Choice(
    CostSource.PRICED,
    make_price(
        "file",
        "m",
        {
            "input_cost_per_token": "0.000001",
            "input_cost_per_token_priority": "0.000002",
            "output_cost_per_token": "0.000002",
        },
    ),
)
BILL = Extras(cost_usd=Decimal("0.5"))
BODY = b'{"model":"m","messages":[{"role":"user","content":"12345678901234567890"}]}'


def attempt(price: Choice = PRICED, **more: Any) -> Attempt:
    dialect = ROUTES["/v1/chat/completions"].dialect
    request = dialect.read(BODY)
    choice = upstreams(exact={"m": (deployment(),)}).choice("m", WireFormat.CHAT)
    assert choice is not None and choice.only is not None
    target, subject = choice.only, subject_of(key_record(), {}, request)
    endpoint = "/v1/chat/completions"
    opened = open_record(
        call_id="c", attempt=1, now_us=1, endpoint=endpoint, target=target, request=request, subject=subject
    )
    made = Attempt(opened, dialect, request, target, price, was_sent=True, status=200)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def test_the_providers_complete_count_is_booked_as_it_is() -> None:
    row = attempt(reading=Reading(Usage(10, output_tokens=7), is_final=True)).end_record(EndReason.COMPLETE, 200)
    assert (row.usage_source, row.tokens[0], row.tokens[6]) == ("provider", 10, 7)
    assert (row.cost_nano_usd, row.cost_source) == (24_000, "priced")
    assert row.price_version.startswith("entry:m@")


def test_what_the_provider_counted_so_far_is_kept_and_only_the_rest_estimated() -> None:
    reading = Reading(Usage(10, cache_read_tokens=5, output_tokens=1), output_bytes=41)
    usage, source = attempt(reading=reading).evidence()
    assert source is UsageSource.PROVIDER_PARTIAL
    assert (usage.input_tokens, usage.cache_read_tokens, usage.output_tokens) == (10, 5, 11)


def test_a_partial_count_above_the_bytes_seen_is_never_lowered() -> None:
    reading = Reading(Usage(10, reasoning_tokens=90, output_tokens=1), output_bytes=4)
    assert attempt(reading=reading).evidence()[0].completion_tokens == 91


def test_where_nobody_counted_the_row_says_that_it_is_a_guess() -> None:
    usage, source = attempt(reading=Reading(output_bytes=9)).evidence()
    assert source is UsageSource.ESTIMATED
    assert usage.input_tokens > 0
    assert usage.output_tokens == 3


@pytest.mark.parametrize("price", [PRICED, UNPRICED])
@pytest.mark.parametrize(
    "nothing",
    [
        {"was_sent": False, "status": 0},
        {"status": 429},
        {"status": 500, "reading": Reading(output_bytes=99)},
        {"reading": Reading(error=True)},
    ],
)
def test_what_consumed_nothing_costs_nothing_whatever_the_price(price: Choice, nothing: dict[str, Any]) -> None:
    row = attempt(price, **nothing).end_record(EndReason.UPSTREAM_ERROR, 502)
    assert (row.usage_source, sum(row.tokens)) == ("none", 0)
    assert row.cost_nano_usd == 0
    assert row.cost_source != "unpriced"  # an amount stands there, and it is known


def test_an_unknown_price_is_never_silently_0() -> None:
    row = attempt(UNPRICED, reading=Reading(Usage(10), is_final=True)).end_record(EndReason.COMPLETE, 200)
    assert (row.cost_nano_usd, row.cost_source, row.price_version) == (None, "unpriced", "")


def test_a_local_model_costs_0() -> None:
    row = attempt(Choice(CostSource.LOCAL), reading=Reading(Usage(10), is_final=True)).end_record(
        EndReason.COMPLETE, 200
    )
    assert (row.cost_nano_usd, row.cost_source) == (0, "local")


def test_call_ids_sort_by_time_never_repeat_and_name_their_worker() -> None:
    ids = CallIds("0123abcd")
    made = [ids.next(now_us) for now_us in (1_000_000, 1_000_000, 2_000_000)]
    assert len(set(made)) == 3
    assert made == sorted(made)
    assert all(len(each) == 32 and each.endswith("0123abcd") for each in made)
    assert int(made[0][:12], 16) == 1000


def test_ids_from_upstreams_are_bounded_and_clean() -> None:
    row = attempt(reading=Reading(Usage(1), is_final=True, upstream_id="a\x00b" * 200)).end_record(
        EndReason.COMPLETE, 200
    )
    assert len(row.upstream_id) == 255
    assert "\x00" not in row.upstream_id


@pytest.mark.parametrize(
    ("provider", "is_final", "booked"),
    [
        ("openrouter", True, (500_000_000, "provider")),
        ("xai", True, (500_000_000, "provider")),
        # An unknown server's `cost` may be in any currency; a bill before the end is not the bill.
        ("openai", True, (10_000, "priced")),
        ("openrouter", False, (10_000, "priced")),
    ],
)
def test_a_bill_counts_with_the_last_count_of_a_provider_that_is_known_to_send_one(
    provider: str, is_final: bool, booked: tuple[int, str]
) -> None:
    made = attempt(FILE_PRICED, reading=Reading(Usage(10), is_final=is_final, extras=BILL))
    made.target = replace(made.target, deployment=replace(made.target.deployment, provider=provider))
    row = made.end_record(EndReason.COMPLETE, 200)
    assert (row.cost_nano_usd, row.cost_source) == booked
    assert row.price_version.startswith("file:m@" if booked[1] == "priced" else "")


def test_the_service_tier_of_an_answer_decides_its_rates() -> None:
    reading = Reading(Usage(10), is_final=True, extras=Extras(tier=ServiceTier.PRIORITY))
    assert attempt(FILE_PRICED, reading=reading).end_record(EndReason.COMPLETE, 200).cost_nano_usd == 20_000
