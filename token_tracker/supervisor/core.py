"""The supervisor's loop: start, prepare the database, announce, restart, stop."""

from __future__ import annotations

import secrets
import signal
import sys
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from token_tracker.config.paths import runtime_dir, snapshot_path
from token_tracker.config.values import Address, Configuration
from token_tracker.supervisor import ports
from token_tracker.supervisor.announcement import announcement, entrance
from token_tracker.supervisor.child import Child, describe
from token_tracker.supervisor.following import Following
from token_tracker.supervisor.lifeline import Lifeline
from token_tracker.supervisor.preparation import EXIT_CONFIGURATION, EXIT_DATABASE, SLOW, Outcome, Preparation
from token_tracker.supervisor.signals import Signals
from token_tracker.supervisor.stopping import Stop

AFTER_PREPARATION = frozenset({"recorder", "worker"})  # they need the tables before they can do anything
GATEWAY_FIRST_S = 1.5  # so long all others leave the processor to the gateway, if it does not answer before
PROBE_EVERY_S = 0.1
ANNOUNCE_WITHIN_S = 30.0
_AT_ONCE = frozenset({"gateway", "demo"})  # a first call needs both


class Supervisor:
    """Runs `names` (gateway, recorder, litellm, demo, api, dashboard, worker) until a signal. The exit code of `run`:

    0: stopped on request. 1: something had to be killed, or database.init failed. 2: the configuration cannot be used.
    3: the database cannot be reached and there is no snapshot to serve from. `quick`: SIGTERM, too, means within 5 s.
    """

    def __init__(self, configuration: Configuration, names: tuple[str, ...], *, quick: bool) -> None:
        self._configuration = configuration
        self._quick = quick
        lifeline, environment = Lifeline(), _plumbing(configuration, names)
        self._environment, self._lifeline = environment, lifeline
        self._children = {name: self._child(name) for name in names}
        self._preparation = Preparation(runtime_dir(configuration.settings))
        self._signals = Signals()
        self._following = Following(
            configuration, self._children, self._needed, runtime_dir(configuration.settings), say
        )
        self._made: Outcome | None = None
        self._announced = False
        self._is_database_away = False
        self._at_once = [name for name in names if kind_of(name) in _AT_ONCE]
        self._yielding = [name for name in names if name not in {*self._at_once, *AFTER_PREPARATION}]
        self._silent = _probes(configuration, names, environment)  # have not answered yet
        self._started_at_s = time.monotonic()
        self._exit_code: int | None = None

    def run(self) -> int:
        self._signals.install()
        self._preparation.start()
        for name in self._at_once:
            self._children[name].start(time.monotonic())
        while self._exit_code is None and not self._signals.came:
            self._signals.wait(self._until_next_s(time.monotonic()))
            self._look(time.monotonic())
        return self._stop()

    def _look(self, now_s: float) -> None:
        """Everything that may have happened since the last look."""
        if self._signals.hangups:
            self._signals.hangups = 0
            self._following.ask()
        self._following.look(now_s)
        outcome = self._preparation.outcome()
        if outcome is not None:
            self._prepared(outcome, now_s)
        elif self._preparation.is_slow(now_s):
            say(SLOW)
        if self._preparation.restart_at_s is not None and now_s >= self._preparation.restart_at_s:
            self._preparation.start()
        for child in self._children.values():
            code = child.ended()
            if code is not None:
                self._ended(child, code, now_s)
            if child.restart_at_s is not None and now_s >= child.restart_at_s:
                child.start(now_s)
        if self._yielding:
            self._start_others(now_s)
        elif not self._announced and self._exit_code is None:
            self._probe(now_s)

    def _needed(self, name: str) -> Child:
        """A helper that a changed configuration asks for."""
        child = self._children[name] = self._child(name)
        return child

    def _child(self, name: str) -> Child:
        return Child(name, _command(name), self._environment, self._lifeline)

    def _start_others(self, now_s: float) -> None:
        lives = ports.answers(self._configuration.settings.proxy, "/health/live")
        if lives or now_s - self._started_at_s > GATEWAY_FIRST_S:
            for name in self._yielding:
                self._children[name].start(now_s)
            self._yielding = []

    def _until_next_s(self, now_s: float) -> float | None:
        times = [child.restart_at_s for child in self._children.values()] + [self._preparation.restart_at_s]
        if not self._announced:
            times.append(now_s + PROBE_EVERY_S)
        times.append(self._following.next_at_s)
        planned = [at_s for at_s in times if at_s is not None]
        return max(0.0, min(planned) - now_s) if planned else None

    def _ended(self, child: Child, code: int, now_s: float) -> None:
        if code == EXIT_CONFIGURATION and not self._following.is_broken():
            say(f"{child.name} cannot work with this configuration (see above), so everything stops.")
            self._exit_code = EXIT_CONFIGURATION
            return
        say(f"{child.name} {describe(code)}; it is started again in {child.plan_restart(now_s):g} s.")

    def _prepared(self, outcome: Outcome, now_s: float) -> None:
        if outcome.code == 0:
            self._made = outcome
            for warning in outcome.warnings:
                if warning not in self._configuration.warnings:
                    say(f"warning: {warning}")
            for name in AFTER_PREPARATION & self._children.keys():
                self._children[name].start(now_s)
            if self._announced and outcome.first_key is not None:
                print("\n".join(entrance(self._configuration, outcome)), flush=True)
            return
        say(outcome.said or f"database.init {describe(outcome.code)}.")
        if outcome.code == EXIT_DATABASE and snapshot_path(self._configuration.settings).exists():
            self._preparation.plan_retry(now_s)
            self._is_database_away = True
            say("The gateway serves from its snapshot meanwhile; calls are kept in the journal and booked later.")
        else:
            known = (EXIT_CONFIGURATION, EXIT_DATABASE)
            self._exit_code = outcome.code if outcome.code in known else 1

    def _probe(self, now_s: float) -> None:
        """Announce as soon as everything answers; after a while say what does not, and announce all the same."""
        self._silent = {name: probe for name, probe in self._silent.items() if not ports.answers(*probe)}
        took_s = now_s - self._started_at_s
        missing = _AT_ONCE & self._silent.keys() if self._is_database_away else self._silent
        complete = not missing and (self._made is not None or self._is_database_away)
        if not complete and took_s < ANNOUNCE_WITHIN_S:
            return
        if self._silent:
            say(f"still waiting for an answer from: {', '.join(self._silent)}.")
        print(announcement(self._configuration, self._children.keys(), self._made, took_s), flush=True)
        self._announced = True

    def _stop(self) -> int:
        if self._made is not None and self._made.first_key is not None and not self._announced:
            print("\n".join(entrance(self._configuration, self._made)), flush=True)  # or nobody would ever see them
        self._preparation.kill()
        self._following.close()
        patient = not self._quick and signal.SIGTERM in self._signals.came
        stop = Stop(self._children, self._following.configuration.gateway.shutdown_s if patient else None)
        while not stop.done(time.monotonic()):
            self._signals.wait(stop.until_next_s(time.monotonic()))
            if len(self._signals.came) > 1:
                self._signals.came.pop()
                stop.hurry()
        if self._exit_code is not None:
            return self._exit_code
        return 1 if stop.killed else 0


def _command(name: str) -> list[str]:
    return [sys.executable, "-m", "token_tracker.run", kind_of(name), "--supervised"]


def kind_of(name: str) -> str:
    """What a child is: 'gateway' for 'gateway-2'."""
    return name.partition("-")[0]


def _plumbing(configuration: Configuration, names: tuple[str, ...]) -> Mapping[str, str]:
    """Addresses and secrets between the children: chosen once, so that a restart changes nothing for the others."""
    environment = {"TT_EVIDENCE_DIR": str(runtime_dir(configuration.settings))}
    if "gateway" in names:  # also where no model needs them yet: a changed configuration may
        environment["TT_DEMO_URL"] = f"http://127.0.0.1:{ports.reserve_loopback_port()}"
        environment["TT_LITELLM_URL"] = f"http://127.0.0.1:{ports.reserve_loopback_port()}"
        environment["TT_LITELLM_KEY"] = f"sk-{secrets.token_hex(24)}"
    return environment


def _probes(
    configuration: Configuration, names: tuple[str, ...], environment: Mapping[str, str]
) -> dict[str, tuple[Address, str]]:
    """Whom to ask for what to know that all is up. The gateway is ready once the recorder's snapshot is there."""
    settings = configuration.settings
    probes = {
        "gateway": (settings.proxy, "/health/ready"),
        "api": (settings.api, "/api/health"),
        "dashboard": (settings.dashboard, "/login"),
    }
    if "demo" in names:
        demo = urlsplit(environment["TT_DEMO_URL"])
        probes["demo"] = (Address(demo.hostname or "", demo.port or 0), "/v1/models")
    return {name: probe for name, probe in probes.items() if name in names}


def say(text: str) -> None:
    """To the people at the terminal, on stderr."""
    for line in text.splitlines():
        print(f"token-tracker: {line}", file=sys.stderr, flush=True)
