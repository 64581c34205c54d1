"""A certificate for all tests of this room, and what the fault matrices count, told at the end of the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter

from tests.notifications.matrix import Cell, Matrix
from tests.notifications.servers import certificate

_MATRIX = pytest.StashKey[Matrix]()


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Callable[[Cell], None]:
    """Puts what came of one run into the matrix."""
    return request.config.stash.setdefault(_MATRIX, Matrix()).add


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    matrix = config.stash.get(_MATRIX, None)
    if matrix is not None:
        terminalreporter.section("kills and faults: crossings, messages, doubled, lost")
        for line in matrix.lines():
            terminalreporter.write_line(line)
