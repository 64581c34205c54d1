"""Calls with several attempts, on real processes: what clients get, what the provider served, one row for each."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.functional.books import Ledger
from tests.functional.house import RATES, House, marker, model
from tests.functional.installation import Installation, wait_until
from tests.functional.provider_books import FakeProvider

SAID = [{"role": "user", "content": "one two three"}]
PLAIN = "0.000144000"  # 3 × 3 + 9 × 15 USD per million


def check_attempts(house: House, name: str, call_id: str, statuses: list[int]) -> list[dict[str, Any]]:
    """The call's rows are the provider's own entries, one for one, with cost on the one that was served."""
    rows = sorted(house.wait_for_rows(len(statuses), end_user=name), key=lambda row: row["attempt"])
    entries = house.provider.books(name)
    assert [row["status_code"] for row in rows] == [entry["status"] for entry in entries] == statuses
    assert [row["upstream_request_id"] for row in rows] == [entry["request_id"] for entry in entries]
    assert [row["attempt"] for row in rows] == list(range(1, len(rows) + 1))
    assert {(row["call_id"], row["attempts"]) for row in rows} == {(call_id, len(rows))}
    assert len({row["id"] for row in rows}) == len(rows) and rows[-1]["id"] == call_id
    for row, entry in zip(rows, entries, strict=True):
        served = row["status_code"] == 200
        assert (row["end_reason"], row["usage_source"]) == (
            ("complete", "provider") if served else ("upstream_error", "none")
        )
        assert row["total_tokens"] == sum((entry["billed"] or {}).values())
        assert row["cost_usd"] == (PLAIN if served else "0.000000000")
    return rows


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("name", "status"), [("retried", 500), ("retried-429", 429)])
def test_an_openai_client_never_notices_a_deployment_that_fails(
    house: House, name: str, status: int, is_stream: bool
) -> None:
    user = marker(name)
    raw = house.openai().chat.completions.with_raw_response.create(
        model=name, user=user, messages=SAID, stream=is_stream
    )  # type: ignore[call-overload]
    if is_stream:
        assert "".join(chunk.choices[0].delta.content or "" for chunk in raw.parse()).endswith("one two three")
    else:
        assert raw.parse().choices[0].message.content.endswith("one two three")
    check_attempts(house, user, raw.headers["x-tt-request-id"], [status, 200])
    summary = house.summary(end_user=user)["totals"]
    assert (summary["calls"], summary["attempts"], summary["errors"], summary["cost_usd"]) == (1, 2, 0, PLAIN)


@pytest.mark.parametrize("is_stream", [False, True])
def test_nor_does_an_anthropic_client(house: House, is_stream: bool) -> None:
    user = marker("claude")
    raw = house.anthropic().messages.with_raw_response.create(
        model="claude_retried", max_tokens=100, metadata={"user_id": user}, messages=SAID, stream=is_stream
    )  # type: ignore[call-overload]
    if is_stream:
        assert [event.type for event in raw.parse()][-1] == "message_stop"
    check_attempts(house, user, raw.headers["x-tt-request-id"], [529, 200])


def test_where_every_deployment_fails_the_client_gets_the_last_ones_error(house: House) -> None:
    user = marker("all")
    with pytest.raises(openai.InternalServerError) as failure:
        house.openai().chat.completions.create(model="all-fail", user=user, messages=SAID)  # type: ignore[arg-type]
    rows = house.wait_for_rows(3, end_user=user)  # both, and the first of them again
    last = next(row for row in rows if row["id"] == row["call_id"])
    assert failure.value.status_code == last["status_code"] == 500
    assert failure.value.response.headers["x-tt-request-id"] == last["id"]
    assert len(house.provider.books(user)) == 3


def test_a_model_with_one_deployment_shows_each_429_to_its_client(house: House) -> None:
    user = marker("one")
    for _ in range(6):
        with pytest.raises(openai.RateLimitError) as failure:
            house.openai().chat.completions.create(model="one", user=user, messages=SAID)  # type: ignore[arg-type]
        assert failure.value.response.headers["retry-after"] == "7"
    rows = house.wait_for_rows(6, end_user=user)
    assert all((row["attempts"], row["id"]) == (1, row["call_id"]) for row in rows)
    assert len(house.provider.books(user)) == 6


def test_a_fallback_answers_and_says_so(house: House) -> None:
    user = marker("fallback")
    raw = house.openai().chat.completions.with_raw_response.create(
        model="falls-back",
        user=user,
        messages=SAID,  # type: ignore[arg-type]
    )
    assert raw.headers["x-tt-model"] == "alias-of-plain"
    rows = sorted(house.wait_for_rows(3, end_user=user), key=lambda row: row["attempt"])
    assert [(row["model"], row["status_code"]) for row in rows] == [
        ("fake-503", 503), ("nobody-listens", 502), ("fake-plain", 200)
    ]  # fmt: skip
    assert {row["requested_model"] for row in rows} == {"falls-back"}
    assert rows[-1]["cost_usd"] == PLAIN


def test_a_key_that_may_not_use_the_fallback_gets_the_models_own_error(house: House) -> None:
    key = house.api("POST", "/api/keys", {"name": marker("key"), "models": ["falls-back"]}, status=201)["key"]
    user = marker("forbidden")

    def is_known() -> bool:
        try:
            return bool(house.openai(api_key=key).models.list().data)
        except openai.AuthenticationError:
            return False

    wait_until(is_known, 5, "the new key")
    with pytest.raises(openai.InternalServerError) as failure:
        house.openai(api_key=key).chat.completions.create(model="falls-back", user=user, messages=SAID)  # type: ignore[arg-type]
    assert failure.value.status_code == 503 and "x-tt-model" not in failure.value.response.headers
    assert [entry["status"] for entry in house.provider.books(user)] == [503]


@pytest.mark.parametrize("second", ["hang-before-headers", "500"])
def test_a_gateway_killed_in_the_middle_of_a_calls_attempts_leaves_one_row_for_each(
    tmp_path: Path, database_url: str, fake_provider: FakeProvider, second: str
) -> None:
    """During the second attempt, and during the long wait before a third one."""
    first, last = (
        model("gpt", f"openai/fake-{manner}", fake_provider.openai_base, order=order, **RATES)
        for order, manner in enumerate(("500", second), start=1)
    )
    config = {"model_list": [first, last], "router_settings": {"num_retries": 3, "retry_after": 8}}
    installation, ledger, user = Installation(tmp_path, config, database_url), Ledger(database_url), marker("killed")

    def call() -> None:
        try:
            installation.chat("gpt", user=user)
        except OSError:
            return  # the connection broke, as it had to

    with installation.start("proxy"):
        caller = threading.Thread(target=call)
        caller.start()
        served = fake_provider.wait_for(lambda entries: len(entries) == 2, marker=user)
        if second == "500":
            fake_provider.wait_for(lambda entries: not any(entry["is_open"] for entry in entries), marker=user)
        [pid] = installation.child_pids("gateway")
        os.kill(pid, signal.SIGKILL)
        caller.join(10)
        wait_until(lambda: len(ledger.rows(user)) == len(served), 20, "both rows")
        rows = sorted(ledger.rows(user), key=lambda row: int(row["attempt"]))
        assert [(row["attempt"], row["end_reason"]) for row in rows] == [(1, "upstream_error"), (2, "crash")]
        assert rows[1]["id"] == rows[1]["call_id"] == rows[0]["call_id"] != rows[0]["id"]
        hours = ledger.table("usage_hourly")
        assert (sum(hour["calls"] for hour in hours), sum(hour["attempts"] for hour in hours)) == (1, 2)
