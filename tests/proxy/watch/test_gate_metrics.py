"""What /metrics tells of hard budgets, their counters and the store that they are counted in."""

from __future__ import annotations

import json
import time
from decimal import Decimal

from tests.proxy.conftest import MakeHouse
from tests.proxy.permits.rules import budget, under
from tests.proxy.upstream import Out, Seen, Upstream, delta
from tests.proxy.watch.test_metrics import scrape, with_scraper
from token_tracker.proxy.books.status import CounterFigures, RecorderStatus, status_path, write_recorder_status
from token_tracker.proxy.gate.store import StoreFigures, StoreState, admission_waits
from token_tracker.proxy.watch.exposition import State, _counted

LABEL = '{model="gpt",provider="openai",lane="direct"}'


def nano_usd(text: str) -> int:
    return int(Decimal(text).scaleb(9))


def test_what_a_provider_bills_beyond_the_bound_is_told(make_house: MakeHouse, upstream: Upstream) -> None:
    async def answer(seen: Seen, out: Out) -> None:
        usage = {"prompt_tokens": 10, "completion_tokens": 10_000}
        await out.whole(json.dumps({"id": "x", "choices": [], "usage": usage}).encode())

    upstream.answer = answer
    house = under(make_house, budget(1.0), keys=with_scraper())
    house.chat(max_tokens=10)
    overrun, samples = house.row().overrun_nano_usd, scrape(house)
    assert overrun > 0
    assert nano_usd(samples[f"token_tracker_overrun_usd_total{LABEL}"]) == overrun
    assert samples[f"token_tracker_overrun_calls_total{LABEL}"] == "1"
    assert not [name for name in samples if "unproven" in name]


def test_what_a_call_leaves_unproven_is_told(make_house: MakeHouse, upstream: Upstream) -> None:
    async def answer(seen: Seen, out: Out) -> None:
        await out.begin_stream()
        await out.chunk(delta("Hello"))
        out.reset()

    upstream.answer = answer
    house = under(make_house, budget(1.0), keys=with_scraper())
    house.chat(stream=True, max_tokens=100)
    unproven, samples = house.row().unproven_nano_usd, scrape(house)
    assert unproven > 0
    assert nano_usd(samples[f"token_tracker_unproven_usd_total{LABEL}"]) == unproven
    assert samples[f"token_tracker_unproven_calls_total{LABEL}"] == "1"
    assert samples["token_tracker_gate_unbooked_calls"] == "1"
    assert samples['token_tracker_gate_store_state{store="memory",state="ready"}'] == "1"


def test_drift_that_the_recorder_found_and_healed_is_told(make_house: MakeHouse) -> None:
    house = make_house(keys=with_scraper())
    now_us = time.time_ns() // 1000
    counters = CounterFigures(building=2, checked_at_us=now_us, drifts=3, drift_nano_usd=1_500, drift_tokens=70)
    write_recorder_status(status_path(house.settings), RecorderStatus(1, now_us, now_us, 0, True, "", counters))
    samples = scrape(house)
    assert samples["token_tracker_counter_drifts_total"] == "3"
    assert nano_usd(samples['token_tracker_counter_drift_total{measure="usd"}']) == 1_500
    assert samples['token_tracker_counter_drift_total{measure="tokens"}'] == "70"
    assert samples["token_tracker_counters_building"] == "2"


def test_the_store_says_its_state_and_how_long_admissions_waited() -> None:
    waits = admission_waits()
    for wait_ms in (0.2, 60.0):
        waits.add(wait_ms)
    store = StoreFigures("redis", StoreState.AWAY, 7, waits)
    lines = list(_counted(State(0, 0, None, True, True, None, store=store, unbooked=4)))
    assert 'token_tracker_gate_store_state{store="redis",state="away"} 1' in lines
    assert 'token_tracker_gate_store_state{store="redis",state="ready"} 0' in lines
    assert "token_tracker_gate_store_queued 7" in lines and "token_tracker_gate_unbooked_calls 4" in lines
    assert 'token_tracker_gate_wait_seconds_bucket{le="0.05"} 1' in lines
    assert "token_tracker_gate_wait_seconds_count 2" in lines
