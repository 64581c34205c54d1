"""One line a call: what it tells, what it never tells, and what happens when nobody reads it."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from pathlib import Path

import pytest

from tests.proxy.conftest import MakeHouse
from tests.proxy.house import KEY, UPSTREAM_KEY, wait_until
from token_tracker.config.logs import JsonLines
from token_tracker.proxy.watch import call_log
from token_tracker.proxy.watch.call_log import REFUSALS_A_SECOND, CallLog


def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []
    monkeypatch.setattr(call_log, "_to_stderr", texts.append)
    return texts


def lines(texts: list[str]) -> list[str]:
    return "".join(texts).splitlines()


def test_a_call_is_one_json_line_without_its_content(make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = logged(monkeypatch)
    house = make_house(settings={"log_calls": True, "log_format": "json"})
    reply = house.chat(user="somebody")
    wait_until(lambda: texts, "the line")
    (line,) = lines(texts)
    told, row = json.loads(line), house.row()
    assert (told["request_id"], told["key_id"], told["user"], told["team"]) == (reply.id, "key-1", "ada", "core")
    assert (told["requested_model"], told["model"], told["provider"]) == ("gpt", "upstream-name", "openai")
    assert (told["lane"], told["status"], told["end_reason"]) == ("direct", 200, "complete")
    assert told["input_tokens"] == row.tokens[0] and told["latency_ms"] >= 0 and float(told["cost_usd"]) > 0
    assert told["logger"] == "token_tracker.calls" and told["time"].endswith("Z")
    for secret in (KEY, UPSTREAM_KEY, "Say hello", reply.json["choices"][0]["message"]["content"]):
        assert secret not in line


def test_a_refusal_is_a_line_and_control_characters_are_escaped(
    make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = logged(monkeypatch)
    house = make_house(settings={"log_calls": True})
    house.call({}, path="/v1/%0a%1b[31mevil", key="sk-tt-secret-guess")
    house.call({"model": "gpt", "messages": []}, key="sk-tt-secret-guess")
    wait_until(lambda: len(lines(texts)) == 2, "two lines")
    first, second = lines(texts)
    assert "code=route_not_found" in first and "\x1b" not in first
    assert "status=401 code=invalid_api_key" in second
    assert "secret-guess" not in first + second


def test_values_that_are_not_plain_are_quoted() -> None:
    assert call_log._value('a b="c"\n\u2028') == '"a b=\\"c\\"\\n\\u2028"'
    assert call_log._value("openai/gpt-4o:x") == "openai/gpt-4o:x"


def test_switched_off_no_line_is_written(make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = logged(monkeypatch)
    house = make_house(settings={"log_calls": False})
    assert house.chat().status == 200
    house.row()
    house.stop()
    assert not texts


def test_a_log_that_nobody_reads_costs_lines_and_never_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_log, "WAITING_MAX", 10)
    release, written = threading.Event(), io.StringIO()

    def stuck(text: str) -> None:
        release.wait(10)
        written.write(text)

    calls = CallLog("json", stuck)
    began = time.monotonic()
    for number in range(100):
        calls.put({"number": number})
    assert time.monotonic() - began < 1
    release.set()
    calls.close()
    kept = [json.loads(line)["number"] for line in written.getvalue().splitlines()]
    assert calls.dropped == 100 - len(kept) > 0
    assert kept == sorted(kept) and kept[0] == 0


def test_every_line_of_the_log_is_an_object_where_that_is_asked_for() -> None:
    record = logging.LogRecord("a.b", logging.WARNING, __file__, 1, "two\nlines %s", (Path("x"),), None)
    told = json.loads(JsonLines().format(record))
    assert (told["level"], told["logger"], told["message"]) == ("WARNING", "a.b", "two\nlines x")


def test_a_flood_of_refusals_is_told_as_a_number(caplog: pytest.LogCaptureFixture) -> None:
    texts: list[str] = []
    calls = CallLog("text", texts.append)
    count = 10 * REFUSALS_A_SECOND
    for _ in range(count):
        calls.put_refusal({"status": 401, "code": "invalid_api_key"})
    calls.close()
    more = sum(int(record.args[0]) for record in caplog.records if isinstance(record.args, tuple))  # type: ignore[arg-type]
    written = lines(texts)
    assert len(written) + more == count and len(written) <= 2 * REFUSALS_A_SECOND
    assert "more requests were refused within a second" in caplog.text


def test_a_flood_is_told_though_no_refusal_comes_after_it(caplog: pytest.LogCaptureFixture) -> None:
    calls = CallLog("text", lambda _: None)
    for _ in range(3 * REFUSALS_A_SECOND):
        calls.put_refusal({"status": 429, "code": "rate_limit_exceeded"})
    wait_until(lambda: "more requests were refused within a second" in caplog.text, "the number")
    calls.close()


def test_a_refusal_says_whose_key_it_was_and_what_it_asked_for(
    make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = logged(monkeypatch)
    house = make_house(settings={"log_calls": True})
    house.chat("unknown")
    wait_until(lambda: texts, "the line")
    assert "code=model_not_found key_id=key-1 user=ada team=core model=other" in lines(texts)[0]
