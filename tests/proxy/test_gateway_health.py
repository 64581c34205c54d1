"""What the health routes say, and how the gateway lives from its snapshot."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.proxy.conftest import MakeHouse
from tests.proxy.house import KEY, House, key_record, wait_until
from tests.proxy.upstream import Upstream
from token_tracker.proxy.books.segments import WrittenSegment
from token_tracker.proxy.books.status import RecorderStatus, status_path, write_recorder_status


def codes(house: House) -> set[str]:
    return {reason["code"] for reason in house.call(path="/health/ready", method="GET", key=None).json["reasons"]}


def test_health_is_open_and_live_whatever_happens(house: House) -> None:
    live = house.call(path="/health/live", method="GET", key=None)
    assert (live.status, live.json) == (200, {"status": "alive"})
    assert house.call(path="/health", method="GET", key=None).json["version"]
    assert house.call(path="/health/live", method="HEAD", key=None).status == 200


def test_without_a_snapshot_calls_are_asked_to_come_again_and_ready_says_why(
    tmp_path: Path, upstream: Upstream
) -> None:
    house = House(tmp_path, upstream).start(publish_first=False)
    try:
        ready = house.call(path="/health/ready", method="GET", key=None)
        assert ready.status == 503 and "no_snapshot" in codes(house)
        reply = house.chat()
        assert (reply.status, reply.headers["x-tt-code"], reply.headers["retry-after"]) == (
            503,
            "snapshot_unavailable",
            "2",
        )
        house.publish()
        wait_until(lambda: house.chat().status == 200, "the first snapshot", 2)
        assert house.call(path="/health/ready", method="GET", key=None).status == 200
    finally:
        house.stop()


def test_a_new_or_revoked_key_acts_within_two_seconds(house: House) -> None:
    assert house.call({"model": "gpt", "messages": []}, key="sk-tt-second").status == 401
    house.keys = {"sk-tt-second": key_record(id="key-2")}
    house.publish(version=2)
    wait_until(lambda: house.call({"model": "gpt", "messages": []}, key="sk-tt-second").status == 200, "the new key", 2)
    assert house.call({"model": "gpt", "messages": []}, key=KEY).status == 401


def test_ready_repeats_what_the_recorder_says_and_calls_go_on(house: House) -> None:
    now_us = time.time_ns() // 1000
    fine = RecorderStatus(1, now_us, now_us, 0, True, "")
    write_recorder_status(status_path(house.settings), fine)
    assert "recorder" not in codes(house)
    away = RecorderStatus(1, now_us, 0, 9, False, "the database does not answer")
    write_recorder_status(status_path(house.settings), away)
    ready = house.call(path="/health/ready", method="GET", key=None)
    assert ready.status == 200
    assert any("the database does not answer" in reason["message"] for reason in ready.json["reasons"])
    assert house.chat().status == 200


def test_entries_that_are_off_are_named_with_their_reason(make_house: MakeHouse) -> None:
    house = make_house(off=(("gpt-9", "GPT9_API_KEY is not set"),))
    ready = house.call(path="/health/ready", method="GET", key=None)
    assert ready.status == 200
    assert {"code": "switched_off", "message": "gpt-9: GPT9_API_KEY is not set"} in ready.json["reasons"]


def test_a_missing_litellm_process_is_named_and_direct_calls_never_notice(
    make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TT_LITELLM_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("TT_LITELLM_KEY", "sk-child")
    house = make_house()
    forced = house.deployment("forced", lane="litellm")
    house.configuration.models.exact["forced"] = (forced,)  # type: ignore[index]
    assert house.app is not None
    house.app.health.child.needed = True
    assert "litellm" in codes(house)
    reply = house.chat("forced")
    assert (reply.status, reply.headers["x-tt-code"], reply.headers["retry-after"]) == (503, "lane_unavailable", "5")
    assert (house.row().end_reason, house.row().usage_source, house.row().cost_nano_usd) == (
        "upstream_error",
        "none",
        0,
    )
    assert house.chat().status == 200


def test_a_litellm_process_that_starts_is_told_apart_from_one_that_is_gone(
    make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TT_LITELLM_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("TT_LITELLM_KEY", "sk-child")
    house = make_house()
    assert house.app is not None
    child = house.app.health.child

    def told() -> str:
        child._checked_at_s = float("-inf")
        ready = house.call(path="/health/ready", method="GET", key=None)
        return next((each["message"] for each in ready.json["reasons"] if each["code"] == "litellm"), "")

    assert "still starting" in told()
    child.since_s -= 100
    assert "does not answer; it has not since the start 100 s ago" in told()
    monkeypatch.setattr(type(child), "_ask", _answers)
    assert told() == ""
    monkeypatch.undo()
    assert "until it is back" in told()


async def _answers(_: object) -> bool:
    return True


def test_calls_that_are_booked_more_slowly_than_they_come_are_a_reason(house: House) -> None:
    now_us = time.time_ns() // 1000
    write_recorder_status(status_path(house.settings), RecorderStatus(1, now_us, now_us, 10**9, True, ""))
    ready = house.call(path="/health/ready", method="GET", key=None).json["reasons"]
    assert any("booked more slowly than they come (1000000000 bytes" in reason["message"] for reason in ready)


def test_a_journal_that_takes_nothing_means_not_ready_until_it_does_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(WrittenSegment, "reserve", full)
        assert house.chat().headers["x-tt-code"] == "journal_unavailable"
        ready = house.call(path="/health/ready", method="GET", key=None)
        assert ready.status == 503 and "journal_unavailable" in codes(house)
        assert str(house.settings.data_dir) not in ready.body.decode(), "who asks without a key learns no path"
    assert "journal_unavailable" not in codes(house), "it is asked anew, also while no call comes"
    assert house.chat().status == 200
