"""The translated lane as a test runs it: a gateway, the LiteLLM child, and a provider that keeps its own books."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai

from tests.functional.provider_books import FakeProvider
from tests.proxy.house import KEY, House, wait_until
from tests.proxy.litellm.running import KEY as CHILD_KEY
from tests.proxy.litellm.running import Child
from token_tracker.config import paths
from token_tracker.config.values import Deployment, Routing
from token_tracker.domain.usage import TOKEN_CLASSES
from token_tracker.proxy.books.publication import RulesRecord
from token_tracker.proxy.books.records import Awaiting, End


class Lane:
    """A gateway whose models live at one fake provider, and the child that both share."""

    def __init__(self, house: House, provider: FakeProvider, child: Child) -> None:
        self.house, self.provider, self.child = house, provider, child
        base = f"http://127.0.0.1:{house.port}"
        self.openai = openai.OpenAI(api_key=KEY, base_url=base + "/v1", max_retries=0)
        self.anthropic = anthropic.Anthropic(api_key=KEY, base_url=base, max_retries=0)

    def row(self, call_id: str) -> End:
        """The one row of a call, once it is there."""

        def found() -> list[End]:
            return [row for row in self.house.rows() if row.opened.id == call_id]

        rows: list[End] = wait_until(found, f"a row of {call_id}")
        assert len(rows) == 1
        assert rows[0].opened.lane == "litellm"
        return rows[0]

    def was_awaited(self, call_id: str) -> bool:
        return any(isinstance(r, Awaiting) and r.end.opened.id == call_id for r in self.house.records())


@contextmanager
def running_lane(
    models: Callable[[FakeProvider], dict[str, tuple[Deployment, ...]]],
    routing: Routing | None = None,
    rules: RulesRecord | None = None,
) -> Iterator[Lane]:
    """`models`: what the gateway offers, by the provider's address."""
    directory = Path(tempfile.mkdtemp(prefix="tt-"))  # short: Unix sockets live in it
    with FakeProvider() as provider:
        none: Any = None  # no scripted upstream here
        more: dict[str, Any] = {"routing": routing} if routing else {}
        house = House(directory, none, exact=models(provider), rules=rules or RulesRecord(), **more)
        with Child(paths.runtime_dir(house.settings)) as child:
            os.environ |= {"TT_LITELLM_URL": child.url, "TT_LITELLM_KEY": CHILD_KEY}
            try:
                lane = Lane(house.start(), provider, child)
                with lane.openai, lane.anthropic:
                    yield lane
            finally:
                house.stop()
                del os.environ["TT_LITELLM_URL"], os.environ["TT_LITELLM_KEY"]
    shutil.rmtree(directory)


def tokens(row: End) -> dict[str, int]:
    return {name: count for name, count in zip(TOKEN_CLASSES, row.tokens, strict=True) if count}
