"""Children: started in a session of their own, restarted with back-off, ended with all that they started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.supervisor.scripts import alive, notes, script, wait_for
from token_tracker.supervisor.child import BACK_OFF_MOST_S, describe


def test_the_end_of_a_child_is_told_once_with_its_code(tmp_path: Path) -> None:
    child = script(tmp_path, "a", "sys.exit(7)")
    child.start(0)
    codes: list[int | None] = []
    wait_for(lambda: codes.append(child.ended()) or codes[-1] is not None, "the end")
    assert codes[-1] == 7
    assert child.ended() is None


def test_restarts_wait_longer_after_each_short_life_and_a_long_one_forgives(tmp_path: Path) -> None:
    child = script(tmp_path, "a", "")
    waits = []
    for now_s in range(100, 107):
        child.start(now_s)
        child.kill()
        waits.append(child.plan_restart(now_s + 1))
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, BACK_OFF_MOST_S, BACK_OFF_MOST_S]
    child.start(200)
    child.kill()
    assert child.plan_restart(205) == 0.2
    assert child.restart_at_s == 205.2


def test_a_terminals_interrupt_does_not_reach_the_child(tmp_path: Path) -> None:
    child = script(tmp_path, "a", "note('up'); time.sleep(60)")
    child.start(0)
    assert child.process is not None
    wait_for(lambda: notes(tmp_path) == ["a up"], "start")
    assert os.getsid(child.process.pid) == os.getpgid(child.process.pid) == child.process.pid
    child.kill()


def test_what_a_child_started_ends_with_it(tmp_path: Path) -> None:
    code = (
        "grandchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "note(grandchild.pid)\n"
        "time.sleep(60)"
    )
    child = script(tmp_path, "a", code)
    child.start(0)
    wait_for(lambda: len(notes(tmp_path)) == 1, "the grandchild")
    grandchild = int(notes(tmp_path)[0].split()[1])
    assert child.process is not None
    child.process.kill()
    wait_for(lambda: child.ended() is not None, "the end")
    wait_for(lambda: not alive(grandchild), "the grandchild's end")


@pytest.mark.parametrize(
    ("code", "text"), [(1, "ended with code 1"), (-9, "was ended by SIGKILL"), (-200, "was ended by signal 200")]
)
def test_the_end_of_a_child_is_described(code: int, text: str) -> None:
    assert describe(code) == text


HOLDER = """
import sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.supervisor.scripts import script
code = "from token_tracker.supervisor.lifeline import hold\\n" + {code!r}
child = script(Path({directory!r}), "child", code)
child.start(0)
time.sleep(60)
"""


def test_children_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    code = (
        "signal.signal(15, lambda *_: (note('ended in order'), sys.exit(0)))\n"
        "hold(); note(os.getpid()); note('TT_LIFELINE' in os.environ)\n"
        "time.sleep(60)"
    )
    root = Path(__file__).resolve().parents[2]
    holder = HOLDER.format(root=str(root), code=code, directory=str(tmp_path))
    supervisor = subprocess.Popen([sys.executable, "-c", holder], cwd=root)
    wait_for(lambda: len(notes(tmp_path)) == 2, "the child")
    child = int(notes(tmp_path)[0].split()[1])
    assert notes(tmp_path)[1] == "child False"
    supervisor.send_signal(signal.SIGKILL)
    supervisor.wait()
    wait_for(lambda: notes(tmp_path)[2:] == ["child ended in order"], "the child's own end")
    wait_for(lambda: not alive(child), "the child's end")


def test_a_child_that_is_asked_to_reload_before_it_can_does_not_die_of_it(tmp_path: Path) -> None:
    child = script(tmp_path, "a", "note('up'); time.sleep(60)")
    child.start(0)
    child.send(signal.SIGHUP)  # its interpreter has just begun
    wait_for(lambda: notes(tmp_path) == ["a up"], "start")
    child.send(signal.SIGHUP)
    assert child.ended() is None
    child.kill()
