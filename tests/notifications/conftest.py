"""A certificate for all tests of this room, and what the fault matrices count, told at the end of the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter

from tests.notifications.matrix import Cell, lines
from tests.notifications.servers import certificate

_CELL = "what became of messages"  # with its test's report, from whichever process ran it


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Callable[[Cell], None]:
    """Puts what came of one run into the matrix."""
    return lambda cell: request.node.user_properties.append((_CELL, astuple(cell)))


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)]
    told = [
        Cell(*value)
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, value in report.user_properties
        if name == _CELL
    ]
    if told:
        terminalreporter.section("kills and faults: crossings, messages, doubled, lost")
        for line in lines(told):
            terminalreporter.write_line(line)
