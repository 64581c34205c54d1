"""The judge of the chaos runs itself: doctored books must not pass."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.judge import Verdict, Witness, judge
from tests.functional.books import COUNTS

Books = dict[str, Any]
SUMMED = (*COUNTS, "cost_nano_usd")


def row(marker: str, number: int, **more: Any) -> Books:
    """A complete call of 3 tokens in and 9 out, at `house.RATES`."""
    made: Books = dict.fromkeys(COUNTS, 0) | {"input_tokens": 3, "output_tokens": 9, "cost_nano_usd": 144_000}
    made |= {"id": f"call-{number}", "call_id": f"call-{number}", "attempt": 1, "end_user": marker, "lane": "direct"}
    made |= {"end_reason": "complete", "usage_source": "provider", "status_code": 200}
    return made | {"upstream_id": f"chatcmpl-{number}", "upstream_request_id": f"req_{number}"} | more


def crash(marker: str, number: int) -> Books:
    nothing = {"end_reason": "crash", "usage_source": "none", "status_code": 0, "cost_nano_usd": None}
    return row(marker, number, input_tokens=0, output_tokens=0, upstream_id="", upstream_request_id="", **nothing)


def entry(marker: str, number: int) -> Books:
    ids = {"id": f"chatcmpl-{number}", "request_id": f"req_{number}"}
    return {"marker": marker, "status": 200, "billed": {"input_tokens": 3, "output_tokens": 9}, **ids}


def hours(rows: list[Books]) -> list[Books]:
    sums: Books = {name: sum(each[name] or 0 for each in rows) for name in SUMMED}
    errors = sum(each["end_reason"] != "complete" for each in rows)
    return [sums | {"attempts": len(rows), "calls": len(rows), "errors": errors}]


def judged(rows: list[Books], entries: list[Books], **witness: frozenset[str]) -> Verdict:
    return judge(rows, hours(rows), entries, Witness(**witness))


A, B = frozenset("a"), frozenset("b")
ROWS, ENTRIES = [row("a", 1), row("b", 2)], [entry("a", 1), entry("b", 2)]


def test_books_that_agree_pass() -> None:
    verdict = judged(ROWS, ENTRIES, complete=A | B)
    assert (verdict.problems, verdict.served, verdict.proven) == ([], 2, 2)


def test_a_served_call_without_a_row_is_lost() -> None:
    assert judged(ROWS[:1], ENTRIES).lost == ["b req_2"]


@pytest.mark.parametrize("second", [row("a", 1), row("a", 1, call_id="other", id="other")])
def test_a_call_with_two_rows_is_doubled_also_under_another_id(second: Books) -> None:
    assert judged([*ROWS, second], ENTRIES).doubled


def test_a_crash_row_beside_a_whole_one_of_the_same_attempt_is_doubled() -> None:
    second = crash("a", 1) | {"id": "another"}
    assert judged([*ROWS, second], ENTRIES, at_kill=A).doubled


def test_a_row_that_nobody_served_is_allowed_as_a_crash_at_a_kill_only() -> None:
    ghost = crash("c", 3)
    assert judged([*ROWS, ghost], ENTRIES).invented
    allowed = judged([*ROWS, ghost], ENTRIES, at_kill=frozenset("c"))
    assert (allowed.problems, allowed.extra_crashes) == ([], 1)
    assert judged([*ROWS, row("c", 3)], ENTRIES, at_kill=frozenset("c")).invented


def test_a_crash_row_of_a_call_that_its_client_saw_complete_is_a_broken_promise() -> None:
    rows = [crash("a", 1), ROWS[1]]
    assert judged(rows, ENTRIES, at_kill=A).problems == []
    assert judged(rows, ENTRIES, at_kill=A, complete=A).unequal


def test_a_served_call_booked_as_a_crash_without_a_kill_is_unequal() -> None:
    assert judged([crash("a", 1), ROWS[1]], ENTRIES, at_kill=B).unequal


def test_a_crash_that_claims_to_cost_nothing_is_wrong() -> None:
    assert judged([crash("a", 1) | {"cost_nano_usd": 0}, ROWS[1]], ENTRIES, at_kill=A).unequal


@pytest.mark.parametrize("wrong", [{"output_tokens": 8}, {"cost_nano_usd": 143_999}, {"cost_nano_usd": None}])
def test_other_tokens_or_another_cost_than_the_providers_are_unequal(wrong: Books) -> None:
    assert judged([ROWS[0] | wrong, ROWS[1]], ENTRIES).unequal


@pytest.mark.parametrize("name", [*SUMMED, "attempts", "calls", "errors"])
def test_an_hourly_sum_that_is_not_the_sum_of_the_rows_is_wrong(name: str) -> None:
    [hour] = hours(ROWS)
    assert judge(ROWS, [hour | {name: hour[name] + 1}], ENTRIES).sums


def test_an_attempt_that_reached_nobody_is_a_row_without_cost() -> None:
    nobody = row("c", 3, input_tokens=0, output_tokens=0, end_reason="upstream_error", usage_source="none")
    nobody |= {"upstream_id": "", "upstream_request_id": ""}
    assert judged([*ROWS, nobody | {"cost_nano_usd": 0}], ENTRIES).problems == []
    assert judged([*ROWS, nobody | {"cost_nano_usd": 5}], ENTRIES).invented


def test_a_cut_call_that_nobody_served_may_be_an_estimate_on_the_translated_lane_alone() -> None:
    cut = row("c", 3, end_reason="timeout", usage_source="estimated", upstream_id="", upstream_request_id="")
    assert judged([*ROWS, cut], ENTRIES).invented
    allowed = judged([*ROWS, cut | {"lane": "litellm"}], ENTRIES)
    assert (allowed.problems, allowed.uncertain) == ([], 1)
    assert judged([*ROWS, cut | {"lane": "litellm", "end_reason": "upstream_disconnect"}], ENTRIES).invented
