"""What /metrics tells, to whom, and that its labels are bounded."""

from __future__ import annotations

import asyncio
import http.client
import re
import time
from decimal import Decimal

from msgspec import structs

from tests.ports import free_port
from tests.proxy.conftest import MakeHouse
from tests.proxy.house import KEY, House, key_record, wait_until
from tests.proxy.upstream import Out, Seen, Upstream
from token_tracker.config.values import Address
from token_tracker.domain.usage import TOKEN_CLASSES, Usage
from token_tracker.proxy.books.records import End, Open, Subject
from token_tracker.proxy.books.status import RecorderStatus, status_path, write_recorder_status
from token_tracker.proxy.litellm.report import Evidence
from token_tracker.proxy.watch.comparison import REMEMBERED, Comparison
from token_tracker.proxy.watch.exposition import LINES_AT_ONCE, State, exposition
from token_tracker.proxy.watch.figures import LATENCY_BOUNDS_MS, OTHER, SERIES_MAX, Figures

SCRAPER = "sk-tt-the-scraper"
LINE = re.compile(r'[a-z_]+(\{[a-z_]+="(?:[^"\\\n]|\\.)*"(,[a-z_]+="(?:[^"\\\n]|\\.)*")*\})? [0-9.e+-]+')


def scrape(house: House) -> dict[str, str]:
    """Samples by name and labels, every line checked."""
    reply = house.call(path="/metrics", method="GET", key=SCRAPER)
    assert reply.status == 200 and reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = [line for line in reply.body.decode().splitlines() if not line.startswith("#")]
    assert all(LINE.fullmatch(line) for line in lines), lines
    return dict(line.rsplit(" ", 1) for line in lines)


def with_scraper() -> dict[str, object]:
    return {KEY: key_record(), SCRAPER: key_record(id="key-2", permissions=("metrics",))}


def row(**more: object) -> End:
    opened = Open(
        id="1" * 32, call_id="1" * 32, attempt=1, timestamp_us=0, endpoint="/v1/chat/completions", lane="litellm",
        stream=False, requested_model="m", model="m", provider="p", subject=Subject("", "", "", "", "", "", (), ""),
        model_group="m",
    )  # fmt: skip
    end = End(
        opened=opened, end_reason="complete", status_code=200, tokens=Usage(input_tokens=3, output_tokens=2),
        usage_source="provider", cost_nano_usd=7000, cost_source="priced", price_version="", latency_ms=12.0,
        ttft_ms=None, upstream_id="", upstream_request_id="",
    )  # fmt: skip
    names = {each: value for each, value in more.items() if each in Open.__struct_fields__}
    rest = {each: value for each, value in more.items() if each not in names}
    return structs.replace(end, opened=structs.replace(opened, **names), **rest)


def test_a_call_is_counted_with_its_tokens_cost_and_duration(make_house: MakeHouse) -> None:
    house = make_house(keys=with_scraper())
    assert house.chat().status == 200
    end, samples = house.row(), scrape(house)
    label = 'model="gpt",provider="openai",lane="direct"'
    ended = f'{{{label},endpoint="/v1/chat/completions",end_reason="complete",status="2xx"}}'
    assert samples[f"token_tracker_calls_total{ended}"] == "1"
    tokens = dict(zip(TOKEN_CLASSES, end.tokens, strict=True))
    assert tokens["input_tokens"]
    assert samples[f'token_tracker_tokens_total{{{label},class="input"}}'] == str(tokens["input_tokens"])
    assert end.cost_nano_usd
    assert Decimal(samples[f"token_tracker_cost_usd_total{{{label}}}"]) == Decimal(end.cost_nano_usd).scaleb(-9)
    assert samples[f"token_tracker_call_duration_seconds_count{{{label}}}"] == "1"
    assert samples[f'token_tracker_call_duration_seconds_bucket{{{label},le="600"}}'] == "1"
    assert samples["token_tracker_calls_in_flight"] == "0"


def test_a_call_in_flight_is_told_while_it_runs(make_house: MakeHouse, upstream: Upstream) -> None:
    open_it, wait = upstream.gate()

    async def slow(seen: Seen, out: Out) -> None:
        await wait()
        await out.whole(b"{}")

    upstream.answer = slow
    house = make_house(keys=with_scraper())
    connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=10)
    connection.request(
        "POST", "/v1/chat/completions", b'{"model": "gpt", "messages": []}', {"authorization": f"Bearer {KEY}"}
    )
    wait_until(lambda: scrape(house)["token_tracker_calls_in_flight"] == "1", "the call in flight")
    open_it()
    connection.getresponse().read()
    connection.close()
    wait_until(lambda: scrape(house)["token_tracker_calls_in_flight"] == "0", "its end")


def test_refusals_are_counted_by_code_and_names_that_clients_make_up_never_become_labels(
    make_house: MakeHouse,
) -> None:
    house = make_house(keys=with_scraper())
    assert house.chat('evil"name').status == 404
    assert house.call({}, key="sk-tt-wrong").status == 401
    reply = house.call(path="/metrics", method="GET", key=SCRAPER).body
    samples = scrape(house)
    assert samples['token_tracker_refusals_total{code="model_not_found",status="404"}'] == "1"
    assert samples['token_tracker_refusals_total{code="invalid_api_key",status="401"}'] == "1"
    assert b"evil" not in reply


def test_metrics_want_a_key_with_the_permission(house: House) -> None:
    assert house.call(path="/metrics", method="GET", key=None).status == 401
    refused = house.call(path="/metrics", method="GET")
    assert (refused.status, refused.headers["x-tt-code"]) == (403, "permission_required")
    assert house.call({}, path="/metrics").status == 405


def test_what_the_recorder_says_is_told(make_house: MakeHouse) -> None:
    house = make_house(keys=with_scraper())
    assert scrape(house)["token_tracker_recorder_up"] == "0"
    now_us = time.time_ns() // 1000
    write_recorder_status(status_path(house.settings), RecorderStatus(1, now_us, now_us, 4711, False, "away"))
    samples = scrape(house)
    assert samples["token_tracker_recorder_up"] == "1" and samples["token_tracker_database_up"] == "0"
    assert samples["token_tracker_journal_backlog_bytes"] == "4711"
    assert 0 <= float(samples["token_tracker_snapshot_age_seconds"]) < 60


def test_a_port_of_their_own_tells_them_without_a_key_and_nothing_else(make_house: MakeHouse) -> None:
    port = free_port()
    house = make_house(settings={"metrics": Address("127.0.0.1", port)})
    assert house.chat().status == 200
    own = replace_port(house, port)
    reply = own.call(path="/metrics", method="GET", key=None)
    assert reply.status == 200 and b"token_tracker_calls_total{" in reply.body
    assert own.call(path="/v1/models", method="GET", key=None).status == 404
    assert own.call({}, path="/metrics").status == 405


def replace_port(house: House, port: int) -> House:
    other = House(house.directory, house.upstream)
    other.port = port
    return other


def test_more_combinations_than_there_is_room_for_are_counted_as_other() -> None:
    figures = Figures(frozenset())
    for number in range(SERIES_MAX + 50):
        figures.add(row(model_group=f"m{number}", endpoint=f"/pass/{number}"))
    assert len(figures.totals) == SERIES_MAX + 1
    assert sum(figures.totals[OTHER, OTHER, OTHER].ends.values()) == 50
    assert {endpoint for each in figures.totals.values() for endpoint, _, _ in each.ends} == {OTHER}


def test_a_bucket_holds_what_is_not_above_its_bound() -> None:
    figures = Figures(frozenset())
    for latency_ms in (LATENCY_BOUNDS_MS[0], LATENCY_BOUNDS_MS[0] + 0.1, LATENCY_BOUNDS_MS[-1] + 1):
        figures.add(row(latency_ms=latency_ms))
    counts = figures.totals["m", "p", "litellm"].latency.counts
    assert (counts[0], counts[1], counts[-1], sum(counts)) == (1, 1, 1, 3)


def test_what_litellm_reports_is_compared_whichever_comes_first() -> None:
    comparison = Comparison()
    usage = Usage(input_tokens=3, output_tokens=2)
    comparison.booked(row())
    comparison.reported(Evidence(call_id="1" * 32, usage=usage, cost_usd=Decimal("0.000007")))
    comparison.reported(Evidence(call_id="2" * 32, usage=usage._replace(output_tokens=9), cost_usd=Decimal("0.00001")))
    comparison.booked(row(call_id="2" * 32))
    assert comparison.usage == {"equal": 1, "differs": 1} and comparison.cost == {"equal": 1, "differs": 1}
    assert (comparison.more_nano_usd, comparison.less_nano_usd) == (3000, 0)


def test_reports_and_rows_without_a_counterpart_do_not_pile_up_and_direct_calls_are_not_kept() -> None:
    comparison = Comparison()
    comparison.booked(row(lane="direct"))
    assert not comparison._ends
    for number in range(REMEMBERED + 10):
        comparison.booked(row(call_id=f"{number:032x}"))
    assert len(comparison._ends) == REMEMBERED


def test_calls_have_their_turns_while_many_series_are_told() -> None:
    figures = Figures(frozenset(("/v1/chat/completions",)))
    for number in range(300):
        figures.add(row(model_group=f"m{number}"))

    async def scraped_beside_calls() -> tuple[int, str]:
        scrape = asyncio.create_task(exposition(figures, Comparison(), State(0, 0, None, True, True, None)))
        turns = 0
        while not scrape.done():
            turns += 1
            figures.add(row(model_group="m299"))
            await asyncio.sleep(0)
        return turns, scrape.result().decode()

    turns, text = asyncio.run(scraped_beside_calls())
    lines = text.splitlines()
    assert turns > len(lines) // (2 * LINES_AT_ONCE)
    last = [line.rsplit(" ", 1)[1] for line in lines if "duration_seconds" in line and 'model="m299"' in line]
    counts = [int(each) for each in last[:-2]]
    assert counts == sorted(counts) and counts[-1] == int(last[-1]), "one state of the histogram"
