"""Stopping: the gateway first, its helpers after it, nobody for longer than the bounds."""

from __future__ import annotations

import select
import time
from pathlib import Path

import pytest

from tests.supervisor.scripts import STUBBORN, notes, script, wait_for
from token_tracker.supervisor import stopping
from token_tracker.supervisor.child import Child
from token_tracker.supervisor.stopping import Stop

ORDERLY = """
def end(number, frame):
    note(signal.Signals(number).name)
    time.sleep({takes_s})
    note('ended')
    sys.exit(0)
signal.signal(2, end); signal.signal(15, end)
note('up')
while True: time.sleep(60)
"""


def started(directory: Path, **codes: str) -> dict[str, Child]:
    children = {name: script(directory, name, code) for name, code in codes.items()}
    for child in children.values():
        child.start(0)
    wait_for(lambda: len(notes(directory)) == len(children), "all up")
    (directory / "notes").unlink()
    return children


def finish(stop: Stop, timeout_s: float = 10) -> float:
    """Seconds until all have ended."""
    began_s = time.monotonic()
    while not stop.done(time.monotonic()):
        assert time.monotonic() - began_s < timeout_s
        select.select([], [], [], min(0.01, stop.until_next_s(time.monotonic())))
    return time.monotonic() - began_s


def test_the_recorder_is_told_only_when_the_gateway_has_finished(tmp_path: Path) -> None:
    quick = ORDERLY.format(takes_s=0)
    children = started(tmp_path, gateway=ORDERLY.format(takes_s=0.3), recorder=quick, litellm=quick, api=quick)
    stop = Stop(children, None)
    finish(stop)
    told = notes(tmp_path)
    assert told.index("gateway ended") < min(told.index("recorder SIGTERM"), told.index("litellm SIGTERM"))
    assert told.index("api ended") < told.index("gateway ended")
    assert stop.killed == []


@pytest.mark.parametrize(("shutdown_s", "told"), [(None, "gateway SIGINT"), (30.0, "gateway SIGTERM")])
def test_ctrl_c_is_short_for_the_gateway_and_a_patient_stop_is_not(
    tmp_path: Path, shutdown_s: float | None, told: str
) -> None:
    children = started(tmp_path, gateway=ORDERLY.format(takes_s=0))
    finish(Stop(children, shutdown_s))
    assert notes(tmp_path) == [told, "gateway ended"]


def test_a_second_ctrl_c_reaches_the_gateway(tmp_path: Path) -> None:
    code = (
        "signal.signal(15, lambda *_: note('patient'))\nnote('up')\n"
        "try: time.sleep(60)\nexcept KeyboardInterrupt: note('now')"
    )
    children = started(tmp_path, gateway=code)
    stop = Stop(children, 30.0)
    wait_for(lambda: notes(tmp_path) == ["gateway patient"], "the first signal")
    stop.hurry()
    finish(stop)
    assert notes(tmp_path) == ["gateway patient", "gateway now"]


def test_who_does_not_end_is_killed_and_named_and_the_recorder_still_has_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "_GATEWAY_S", 0.4)
    monkeypatch.setattr(stopping, "_ALL_S", 1.5)
    stubborn = f"{STUBBORN}; note('up'); time.sleep(60)"
    children = started(tmp_path, gateway=stubborn, recorder=ORDERLY.format(takes_s=0), dashboard=stubborn)
    stop = Stop(children, None)
    assert finish(stop) < 5
    assert stop.killed == ["gateway", "dashboard"]
    assert notes(tmp_path) == ["recorder SIGTERM", "recorder ended"]
