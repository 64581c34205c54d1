"""Which of pytest-xdist's processes gets which tests: a file's tests stay together, also when a process dies.

pytest-xdist 3.8 may give the process that takes a dead one's place a file of one test, which it then never starts, and
tries the test that killed its process again and again.
"""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController


class FilesTogether(LoadFileScheduling):
    """One file at a time for each process; what a dead one left goes to others, but for the test that it died of."""

    def schedule(self) -> None:
        super().schedule()
        if self.collection:
            for node in self.nodes:
                self._reschedule(node)  # a process starts its last test only when it knows that nothing follows

    def remove_node(self, node: WorkerController) -> str | None:
        """Takes away a process; the test that it died of, or None."""
        left = self.assigned_work.pop(node)
        waiting = [test for tests in left.values() for test, completed in tests.items() if not completed]
        if not waiting:
            return None
        for test in waiting[1:]:
            self._queue(test)
        for other in self.nodes:
            self._reschedule(other)
        return waiting[0]

    def mark_test_pending(self, item: str) -> None:  # type: ignore[override]
        """Of pytest-rerunfailures: the test is to be tried again."""
        self._queue(item)
        for node in self.nodes:
            self._reschedule(node)

    def _queue(self, test: str) -> None:
        self.workqueue.setdefault(self._split_scope(test), {})[test] = False
