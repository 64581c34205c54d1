"""What answers say beside their tokens: service tier, searches, seconds, the provider's own bill."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from tests.proxy.dialects.streams import DONE, data, event
from token_tracker.domain.extras import NO_EXTRAS, Extras, ServiceTier
from token_tracker.proxy.dialects import ROUTES
from token_tracker.proxy.dialects.extras import extras_of

CHAT = ROUTES["/v1/chat/completions"].dialect
RESPONSES = ROUTES["/v1/responses"].dialect
MESSAGES = ROUTES["/v1/messages"].dialect
COUNTED = {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10}
PRIORITY = Extras(tier=ServiceTier.PRIORITY)


@pytest.mark.parametrize(
    ("usage", "cost_usd"),
    [
        ({"cost": 0.95}, "0.95"),
        ({"cost": 0}, "0"),
        ({"cost": 1.5e-07}, "0.00000015"),
        # With the user's own key OpenRouter charges its fee; the provider behind it charges the rest.
        ({"cost": 0.001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.019}}, "0.020"),
        ({"cost": 0.02, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.019}}, "0.02"),
        ({"cost_in_usd_ticks": 37756000}, "0.0037756"),
        ({"cost_in_usd_ticks": 37756000, "cost": 5}, "0.0037756"),
        ({"cost": {"total_cost": 0.0061, "request_cost": 0.005}}, "0.0061"),
        *(({"cost": odd}, None) for odd in (-1, True, "0.5", None, [], {}, 1e300, float("inf"), float("nan"))),
        ({"cost_in_usd_ticks": -1}, None),
    ],
)
def test_a_bill_is_read_exactly_and_what_is_no_amount_is_none(usage: dict[str, Any], cost_usd: str | None) -> None:
    assert extras_of(usage).cost_usd == (None if cost_usd is None else Decimal(cost_usd))


@pytest.mark.parametrize("odd", [None, 5, "cost", [], {}, {"service_tier": 7}, {"server_tool_use": {"x": 1}}])
def test_an_answer_that_says_nothing_has_no_extras(odd: Any) -> None:
    assert extras_of(odd, odd) is NO_EXTRAS


@pytest.mark.parametrize(
    ("usage", "tier"),
    [
        ({"service_tier": "standard", "speed": "fast", "inference_geo": "global"}, ServiceTier.FAST),
        ({"service_tier": "standard", "speed": "standard", "inference_geo": "us"}, ServiceTier.US),
        ({"speed": "fast", "inference_geo": "us"}, ServiceTier.US_FAST),
        ({"service_tier": "batch", "inference_geo": "us"}, ServiceTier.BATCH),
        ({"speed": None, "inference_geo": "not_available"}, ServiceTier.STANDARD),
    ],
)
def test_anthropics_speed_and_region_are_read_from_its_usage(usage: dict[str, Any], tier: ServiceTier) -> None:
    counted = {"input_tokens": 8, "output_tokens": 2, **usage}
    assert MESSAGES.read_body(json.dumps({"id": "m", "usage": counted}).encode()).extras == Extras(tier=tier)
    observer = MESSAGES.observer(MESSAGES.read(b'{"model":"m","stream":true,"messages":[]}'))
    observer.feed(data({"type": "message_start", "message": {"id": "m", "usage": counted}}))
    observer.feed(data({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 2}}))
    assert observer.reading.extras == Extras(tier=tier)


def test_seconds_and_search_units_are_read_where_a_provider_counts_in_them() -> None:
    assert extras_of({"type": "duration", "seconds": 27}) == Extras(seconds=Decimal(27))
    assert extras_of({"type": "tokens", "seconds": 27}) is NO_EXTRAS
    assert extras_of({"search_units": 3}) == Extras(queries=3)


def test_a_chat_answer_names_its_tier_and_its_cost() -> None:
    body = json.dumps({"id": "c", "service_tier": "priority", "usage": {**COUNTED, "cost": 0.25}}).encode()
    assert CHAT.read_body(body).extras == Extras(tier=ServiceTier.PRIORITY, cost_usd=Decimal("0.25"))


def test_a_chat_stream_names_its_tier_before_its_usage_and_its_cost_with_it() -> None:
    request = CHAT.read(b'{"model":"m","stream":true,"messages":[]}')
    events = [
        data({"id": "c", "service_tier": "flex", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}),
        data({"id": "c", "choices": [], "usage": {**COUNTED, "cost_in_usd_ticks": 20_000}}),
    ]
    observer = CHAT.observer(request)
    for each in [*events, DONE]:
        observer.feed(each)
    observer.close()
    assert observer.reading.extras == Extras(tier=ServiceTier.FLEX, cost_usd=Decimal("0.000002"))


SEARCHED: dict[str, Any] = {
    "id": "resp_1",
    "service_tier": "priority",
    "tools": [{"type": "web_search", "search_context_size": "high"}],
    "output": [
        {"type": "web_search_call", "action": {"type": "search"}},
        {"type": "web_search_call", "action": {"type": "open_page"}},
        {"type": "web_search_call"},
        {"type": "message", "content": []},
    ],
    "usage": {"input_tokens": 5, "output_tokens": 1, "total_tokens": 6},
}


def test_a_responses_answer_names_its_searches_and_the_size_of_their_context() -> None:
    wanted = Extras(tier=ServiceTier.PRIORITY, searches=2, search_size="high")
    assert RESPONSES.read_body(json.dumps(SEARCHED).encode()).extras == wanted
    observer = RESPONSES.observer(RESPONSES.read(b'{"model":"m","stream":true,"input":"x"}'))
    observer.feed(event("response.completed", response=SEARCHED))
    assert observer.reading.extras == wanted


def test_searches_that_a_response_reports_are_not_counted_by_its_calls() -> None:
    reported = {**SEARCHED, "tool_usage": {"web_search": {"num_requests": 5}}}
    assert RESPONSES.read_body(json.dumps(reported).encode()).extras.searches == 5


def test_a_response_that_only_speaks_of_searches_made_none() -> None:
    said = {
        **SEARCHED,
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "web_search_call"}]}],
    }
    assert RESPONSES.read_body(json.dumps(said).encode()).extras == PRIORITY


def test_anthropics_tier_and_searches_are_in_its_usage_at_both_ends_of_a_stream() -> None:
    usage = {"input_tokens": 5, "output_tokens": 1, "service_tier": "priority"}
    searched = {**usage, "server_tool_use": {"web_search_requests": 3}}
    wanted = Extras(tier=ServiceTier.PRIORITY, searches=3)
    assert MESSAGES.read_body(json.dumps({"id": "m", "usage": searched}).encode()).extras == wanted
    observer = MESSAGES.observer(MESSAGES.read(b'{"model":"m","stream":true,"messages":[]}'))
    observer.feed(event("message_start", message={"id": "m", "usage": usage}))
    assert observer.reading.extras == PRIORITY
    final = {"output_tokens": 9, "server_tool_use": {"web_search_requests": 3}}
    observer.feed(event("message_delta", delta={}, usage=final))
    assert observer.reading.extras == wanted


def test_a_speech_request_tells_its_characters_and_an_images_answer_its_images() -> None:
    speech = ROUTES["/v1/audio/speech"].dialect.read('{"model":"tts-1","input":"Grüße \\u2764"}'.encode())
    assert speech.characters == len("Grüße ❤")
    assert CHAT.read(b'{"model":"m","input":"x"}').characters == 0
    images = ROUTES["/v1/images/generations"].dialect
    assert images.read_body(b'{"created":1,"data":[{"b64_json":"AAAA"},{"url":"u"}]}').extras == Extras(images=2)
    assert images.read_body(b'{"data":"none"}').extras == NO_EXTRAS
