"""The shipped dashboard shows what /metrics tells: metrics, and their labels, that exist."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

from tests.deploy.compose import ROOT
from tests.proxy.watch.test_metrics import row
from token_tracker.proxy.watch.comparison import Comparison
from token_tracker.proxy.watch.exposition import State, exposition
from token_tracker.proxy.watch.figures import Figures

DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/token-tracker.json").read_text())
ADDED_BY_PROMETHEUS = {"instance", "job"}


def told() -> dict[str, set[str]]:
    """Every metric of a gateway that has seen one of each thing, with its labels."""
    figures = Figures(frozenset())
    figures.add(row(ttft_ms=5.0, cost_nano_usd=None))
    figures.refused("invalid_api_key", 401)
    text = asyncio.run(exposition(figures, Comparison(), State(1, 1, 1.0, True, True, 1))).decode()
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, labels = line.rpartition(" ")[0].partition("{")
            found[name] = set(re.findall(r'(\w+)="', labels))
    return found


def expressions(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (value for name, value in node.items() if name in ("expr", "query") and isinstance(value, str))
        node = list(node.values())
    if isinstance(node, list):
        for each in node:
            yield from expressions(each)


def test_every_metric_and_label_in_the_dashboard_exists() -> None:
    metrics, used = told(), set[str]()
    for text in expressions(DASHBOARD):
        names = set(re.findall(r"token_tracker_\w+", text))
        assert names <= metrics.keys(), text
        labels = set[str]().union(*(metrics[name] for name in names)) | ADDED_BY_PROMETHEUS
        asked = re.findall(r"(\w+)(?:=~|!=|=)\"", text) + re.findall(
            r"\w+", " ".join(re.findall(r"by \((.*?)\)", text))
        )
        assert set(asked) <= labels, text
        used |= names
    assert len(used) > 15


def test_every_panel_has_a_place_and_a_query() -> None:
    places = set[tuple[int, int]]()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & places, panel["title"]
        places |= cells
        assert panel["type"] == "row" or all(target["expr"] for target in panel["targets"])
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
