"""A configuration that changes while everything runs: noticed, checked, and passed on to those whom it concerns."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from token_tracker.config.load import ConfigurationError, load
from token_tracker.config.paths import keep_config
from token_tracker.config.values import Configuration
from token_tracker.supervisor.child import Child
from token_tracker.supervisor.preparation import EXIT_DATABASE, Preparation

LOOK_S = 1.0
Stamp = tuple[int, int, int]


class Following:
    """Looks at the file every second. A change that stood still for one look, or a request (`ask`), is read:

    what is newly needed is started (`need` gives a helper's process), the rows in the database follow by a child of
    their own, and the gateway is told by SIGHUP, also of a bad file, which it reports and does not use.
    """

    def __init__(
        self,
        configuration: Configuration,
        children: Mapping[str, Child],
        need: Callable[[str], Child],
        directory: Path,
        say: Callable[[str], None],
    ) -> None:
        self.configuration = configuration
        self.next_at_s: float = 0.0
        self._children, self._need, self._say = children, need, say
        self._rows = Preparation(directory)
        self._path = configuration.settings.config_path
        self._read_stamp = self._seen_stamp = stamp_of(self._path)
        self._is_asked = False
        self._keep()

    def ask(self) -> None:
        """Read the configuration at the next look, changed or not."""
        self._is_asked = True

    def look(self, now_s: float) -> None:
        """Everything that may have happened since the last look."""
        self._look_at_rows(now_s)
        if now_s < self.next_at_s and not self._is_asked:
            return
        self.next_at_s = now_s + LOOK_S
        stamp, before = stamp_of(self._path), self._seen_stamp
        self._seen_stamp = stamp
        if self._is_asked or (stamp != self._read_stamp and stamp == before):
            self._is_asked, self._read_stamp = False, stamp
            self._read(now_s)

    def is_broken(self) -> bool:
        """Whether what is there now cannot be used: it was good at the start, so somebody is at work on it."""
        try:
            load()
        except ConfigurationError:
            return True
        return False

    def close(self) -> None:
        self._rows.kill()

    def _read(self, now_s: float) -> None:
        try:
            configuration = load()
        except ConfigurationError as error:
            self._say(f"The changed configuration cannot be used; the one before it stays in use.\n{error}")
        else:
            self._take(configuration, now_s)
        for name, child in self._children.items():
            if name.partition("-")[0] == "gateway":  # there may be several
                child.send(signal.SIGHUP)

    def _take(self, configuration: Configuration, now_s: float) -> None:
        before, self.configuration = self.configuration, configuration
        self._keep()
        self._say("The configuration was read again.")
        for warning in set(configuration.warnings) - set(before.warnings):
            self._say(f"warning: {warning}")
        for name, reason in set(configuration.off) - set(before.off):
            self._say(f"warning: the model '{name}' is switched off: {reason}.")
        needed = {"demo": configuration.needs_demo, "litellm": configuration.needs_litellm}
        for name in (name for name, is_needed in needed.items() if is_needed and name not in self._children):
            self._need(name).start(now_s)
        self._rows.kill()  # of an older file; it works in one transaction
        self._rows.start()

    def _keep(self) -> None:
        """So that a gateway that dies while somebody is at work on the file starts again with what was good."""
        try:
            keep_config(self.configuration.settings)
        except OSError as error:
            self._say(f"warning: no copy of the configuration file can be kept ({error.strerror}).")

    def _look_at_rows(self, now_s: float) -> None:
        outcome = self._rows.outcome()
        if outcome is not None and outcome.code:
            self._say(f"Prices and rules of the changed configuration are not in the database yet. {outcome.said}")
            if outcome.code == EXIT_DATABASE:
                self._rows.plan_retry(now_s)
        elif outcome is not None:
            for warning in outcome.warnings:
                if warning not in self.configuration.warnings:
                    self._say(f"warning: {warning}")
        if self._rows.restart_at_s is not None and now_s >= self._rows.restart_at_s:
            self._rows.start()


def stamp_of(path: Path) -> Stamp | None:
    """What changes whenever a file does; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
