"""A configuration that changes under running calls."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.proxy.conftest import MakeHouse
from tests.proxy.house import KEY, House, wait_until
from tests.proxy.permits.rules import rate, under
from tests.proxy.upstream import Out, Seen, Upstream
from token_tracker.config.load import ConfigurationError
from token_tracker.config.values import Configuration, GatewayOptions, ModelTable
from token_tracker.proxy import server

DEAR = {"input_cost_per_token": Decimal("0.001"), "output_cost_per_token": Decimal("0.001")}
EVENT = b'data: {"id": "1", "choices": [{"index": 0, "delta": {"content": "word"}}]}\n\n'
USAGE = b'data: {"id": "1", "choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 1}}\n\ndata: [DONE]\n\n'


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What reading the configuration gives next: the last one of the list."""
    found: list[Any] = []

    def load() -> Configuration:
        if isinstance(found[-1], Exception):
            raise found[-1]
        configuration: Configuration = found[-1]
        return configuration

    monkeypatch.setattr(server, "load", load)
    return found


def reload(house: House, is_used: bool = True) -> None:
    assert house.app is not None and house._loop is not None
    app, before = house.app, house.app.admission
    house._loop.call_soon_threadsafe(app.begin_reload)
    wait_until(lambda: app.admission is not before if is_used else app.health.config_problems, "the reload")


def with_models(house: House, **more: Any) -> Configuration:
    exact = {name: (house.deployment(name, **fields),) for name, fields in more.items()}
    return replace(house.configuration, models=ModelTable(exact, {}, {}, {}))


def reasons(house: House) -> dict[str, str]:
    ready = house.call(path="/health/ready", method="GET", key=None)
    assert ready.status == 200
    return {each["code"]: each["message"] for each in ready.json["reasons"]}


def test_new_models_and_prices_act_on_the_next_call_and_old_names_go(make_house: MakeHouse, there: list[Any]) -> None:
    house = make_house()
    assert house.chat("new").status == 404
    first = house.row() if house.chat().status == 200 else None
    there.append(with_models(house, new={"rates": DEAR}))
    reload(house)
    assert house.chat("new").status == 200 and house.chat().status == 404
    second = house.rows()[-1]
    assert first is not None and first.cost_nano_usd is not None and second.cost_nano_usd is not None
    assert second.cost_nano_usd > 100 * first.cost_nano_usd


def test_a_stream_goes_on_over_a_reload_and_is_booked_with_what_it_began_with(
    make_house: MakeHouse, upstream: Upstream, there: list[Any]
) -> None:
    open_it, wait = upstream.gate()

    async def slow(seen: Seen, out: Out) -> None:
        await out.begin_stream()
        await out.chunk(EVENT)
        await wait()
        await out.chunk(EVENT + USAGE)
        await out.end()

    upstream.answer = slow
    house = make_house()
    connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=20)
    body = json.dumps({"model": "gpt", "stream": True, "messages": []})
    connection.request("POST", "/v1/chat/completions", body, {"authorization": f"Bearer {KEY}"})
    answer = connection.getresponse()
    assert answer.read(10)
    there.append(replace(with_models(house, gpt={"rates": DEAR}), gateway=GatewayOptions(idle_timeout_s=0.001)))
    reload(house)
    assert house.app is not None and len(house.app.floor.in_flight) == 1
    open_it()
    assert answer.read().endswith(b"data: [DONE]\n\n")
    connection.close()
    row = house.row()
    assert (row.end_reason, row.usage_source) == ("complete", "provider")
    assert row.cost_nano_usd == 10 * 1000 + 1 * 2000


def test_options_of_the_gateway_act_on_the_next_call(
    make_house: MakeHouse, upstream: Upstream, there: list[Any]
) -> None:
    open_it, wait = upstream.gate()

    async def silent(seen: Seen, out: Out) -> None:
        await wait()

    upstream.answer = silent
    house = make_house()
    there.append(replace(house.configuration, gateway=GatewayOptions(first_byte_timeout_s=0.1)))
    reload(house)
    assert house.chat().status == 504
    open_it()


def test_limits_go_on_counting_over_a_reload(make_house: MakeHouse, there: list[Any]) -> None:
    house = under(make_house, rates=[rate(2)])
    assert house.chat().status == 200
    there.append(house.configuration)
    reload(house)
    assert [house.chat().status for _ in range(2)] == [200, 429]


def test_a_bad_file_changes_nothing_and_says_what_is_wrong_until_it_is_good(
    make_house: MakeHouse, there: list[Any]
) -> None:
    house = make_house()
    there.append(ConfigurationError(["model_list[0]: no model"]))
    reload(house, is_used=False)
    assert house.chat().status == 200
    assert "model_list[0]: no model" in reasons(house)["configuration"]
    there.append(house.configuration)
    reload(house)
    wait_until(lambda: "configuration" not in reasons(house), "the reason's end")


def test_settings_that_need_a_restart_are_named_and_stay(make_house: MakeHouse, there: list[Any]) -> None:
    house = make_house()
    there.append(replace(house.configuration, settings=replace(house.settings, max_body_bytes=10)))
    reload(house)
    wait_until(lambda: "max_body_bytes" in reasons(house).get("restart", ""), "the reason")
    assert house.chat().status == 200


def test_no_call_fails_while_configurations_come_and_go(make_house: MakeHouse, there: list[Any]) -> None:
    house = make_house()
    there.append(house.configuration)
    assert house._loop is not None and house.app is not None
    begin: Callable[[], None] = house.app.begin_reload
    statuses = []
    for number in range(60):
        if number % 3 == 0:
            house._loop.call_soon_threadsafe(begin)
        statuses.append(house.chat().status)
    assert statuses == [200] * 60
    assert len(house.rows()) == 60
