"""The short chaos run: every fault once, under calls of both lanes and all dialects; `make chaos` runs on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.plan import FAULTS, calls, faults
from tests.chaos.run import campaign
from tests.functional.provider_books import FakeProvider

SEED = 20


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as running:
        yield running


@pytest.mark.skipif(sys.platform != "linux", reason="finding and holding processes needs Linux")
@pytest.mark.timeout(240)
def test_whatever_breaks_the_ledger_equals_the_providers_own_books(
    tmp_path: Path, database_url: str, provider: FakeProvider
) -> None:
    outcome = campaign(tmp_path, database_url, provider, seed=SEED, seconds=0, names=FAULTS)
    print(outcome.line())
    assert outcome.problems == []
    assert set(outcome.faults) == set(FAULTS)
    assert outcome.refused >= 1 and outcome.replayed_bytes > 0, "a fault met nothing: this proves nothing"
    assert outcome.verdict.served > 100 and outcome.verdict.proven > 50


def test_a_seed_says_which_calls_and_faults_come() -> None:
    def drawn(seed: int) -> list[object]:
        plan, order = calls(seed, "n", 3, is_translated=False), faults(seed)
        return [[next(plan) for _ in range(50)], [next(order)[0] for _ in range(50)]]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert set(drawn(1)[1][: len(FAULTS)]) == set(FAULTS)  # type: ignore[index]
