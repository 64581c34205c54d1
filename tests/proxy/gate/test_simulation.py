"""The simulation finds nothing, and finds what is planted."""

from __future__ import annotations

import random

import pytest

from tests.proxy.gate.simulation import Broken, simulate


def test_minutes_of_traffic_with_faults_keep_every_cap_hard(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    figures = simulate(kind, random.SystemRandom().getrandbits(32))
    with capsys.disabled():
        print(f"\n{kind}, {figures}")
    assert figures.counts["calls"] > 1000
    assert figures.counts["budget_exceeded"] > 0, "the caps were never reached"


@pytest.mark.parametrize("plant", ["short hold", "crash forgiven"])
def test_a_planted_bug_is_found(kind: str, plant: str) -> None:
    with pytest.raises(Broken):
        for seed in range(5):
            simulate(kind, seed, plant=plant, full_share=1)
