"""A provider that rejects the usage option is not sent it, and is metered by what it says unasked."""

from __future__ import annotations

import json

from tests.proxy.conftest import MakeHouse
from tests.proxy.house import RATES
from tests.proxy.upstream import Out, Seen, Upstream
from token_tracker.config.values import Deployment

LAST = {
    "id": "c-1",
    "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17},
}


def test_mistral_streams_without_the_usage_option_that_it_rejects(make_house: MakeHouse, upstream: Upstream) -> None:
    body = b"data: " + json.dumps(LAST).encode() + b"\n\ndata: [DONE]\n\n"

    async def answer(seen: Seen, out: Out) -> None:
        await out.begin_stream()
        await out.chunk(body)
        await out.end()

    upstream.answer = answer
    deployment = Deployment("small", "mistral", "mistral-small", upstream.url, None, RATES)
    house = make_house(exact={"small": (deployment,)})
    reply = house.chat("small", stream=True)
    assert reply.body == body
    assert "stream_options" not in json.loads(upstream.seen[0].body)
    row = house.row()
    assert (row.usage_source, row.tokens[0], row.tokens[6]) == ("provider", 10, 7)
