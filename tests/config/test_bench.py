"""The configuration that `make bench` runs with can be used."""

from __future__ import annotations

from pathlib import Path

from benchmarks.gateway import CONFIG, PARAMS, RULES
from tests.config.files import Files


def test_the_bench_can_start(tmp_path: Path) -> None:
    upstream = "http://127.0.0.1:9"
    loaded = Files(tmp_path).load(CONFIG.format(url=upstream, streams=upstream, params=PARAMS) + RULES)
    assert loaded.needs_litellm and len(loaded.budgets) == 2
