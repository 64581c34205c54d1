"""What the supervisor does about a configuration that changes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.config.files import Files
from token_tracker.config.load import ConfigurationError
from token_tracker.config.paths import kept_config_path
from token_tracker.config.values import Configuration
from token_tracker.supervisor import core, following
from token_tracker.supervisor.core import Supervisor
from token_tracker.supervisor.following import LOOK_S, Following
from token_tracker.supervisor.preparation import EXIT_CONFIGURATION, Outcome


class Gateway:
    def __init__(self) -> None:
        self.sent: list[signal.Signals] = []

    def send(self, sent: signal.Signals) -> None:
        self.sent.append(sent)


class Rows:
    """In the place of database.init."""

    def __init__(self, _: Path) -> None:
        self.started = 0
        self.ended: Outcome | None = None
        self.restart_at_s: float | None = None

    def start(self) -> None:
        self.started += 1
        self.restart_at_s = None

    def kill(self) -> None:
        pass

    def outcome(self) -> Outcome | None:
        ended, self.ended = self.ended, None
        return ended

    def plan_retry(self, now_s: float) -> None:
        self.restart_at_s = now_s + 5


class Scene:
    def __init__(self, configuration: Configuration, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: Configuration | Exception = configuration
        self.path = configuration.settings.config_path
        self.gateway, self.said, self.needed, self.now_s = Gateway(), list[str](), list[str](), 100.0
        monkeypatch.setattr(following, "load", self.load)
        monkeypatch.setattr(following, "Preparation", Rows)
        children: Any = {"gateway": self.gateway}
        self.it = Following(configuration, children, self.need, self.path.parent, self.said.append)

    @property
    def rows(self) -> Rows:
        rows: Any = self.it._rows
        return rows

    def load(self) -> Configuration:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def need(self, name: str) -> Any:
        self.needed.append(name)
        return type("Child", (), {"start": lambda _, __: None})()

    def looks(self, count: int) -> None:
        for _ in range(count):
            self.now_s += LOOK_S
            self.it.look(self.now_s)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def scene(files: Files, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(files.load(), monkeypatch)


def change(path: Path, text: str) -> None:
    path.write_text(text)
    os.utime(path, ns=(1, path.stat().st_mtime_ns + len(text)))


def test_a_file_is_read_once_it_has_stood_still(scene: Scene) -> None:
    scene.looks(3)
    assert not scene.gateway.sent
    change(scene.path, "a")
    scene.looks(1)
    change(scene.path, "ab")
    scene.looks(1)
    assert not scene.gateway.sent
    scene.looks(1)
    assert (scene.gateway.sent, scene.rows.started) == ([signal.SIGHUP], 1)
    scene.looks(3)
    assert len(scene.gateway.sent) == 1


def test_who_asks_gets_it_at_once_and_new_helpers_are_started(scene: Scene, files: Files) -> None:
    change(
        files.directory / "config" / "proxy.yaml", "model_list: [{model_name: demo, litellm_params: {model: demo/x}}]"
    )
    scene.found = files.load()
    scene.it.ask()
    scene.it.look(scene.now_s)
    assert scene.needed == ["demo"] and scene.gateway.sent == [signal.SIGHUP]


def test_a_bad_file_is_told_to_the_gateway_and_rows_stay(scene: Scene) -> None:
    before = scene.it.configuration
    scene.found = ConfigurationError(["gateway.drains must be a whole number"])
    scene.it.ask()
    scene.it.look(scene.now_s)
    assert scene.gateway.sent == [signal.SIGHUP] and not scene.rows.started
    assert scene.it.configuration is before and "gateway.drains" in scene.said[0]


def test_rows_follow_when_the_database_is_back(scene: Scene) -> None:
    scene.it.ask()
    scene.it.look(scene.now_s)
    scene.rows.ended = Outcome(3, "it is away")
    scene.looks(1)
    assert "it is away" in scene.said[-1]
    scene.looks(3)
    assert scene.rows.started == 1
    scene.looks(3)
    assert scene.rows.started == 2


@pytest.mark.parametrize("is_good", [True, False])
def test_a_child_that_cannot_work_with_a_good_configuration_stops_everything(
    files: Files, monkeypatch: pytest.MonkeyPatch, is_good: bool
) -> None:
    configuration = files.load()
    configuration.settings.data_dir.mkdir(parents=True, exist_ok=True)

    def load() -> Configuration:
        if is_good:
            return configuration
        raise ConfigurationError(["broken"])

    monkeypatch.setattr(following, "load", load)
    said: list[str] = []
    say: Callable[[str], None] = said.append
    monkeypatch.setattr(core, "say", say)
    supervisor = Supervisor(configuration, ("gateway",), quick=True)
    supervisor._ended(supervisor._children["gateway"], EXIT_CONFIGURATION, 0.0)
    assert supervisor._exit_code == (EXIT_CONFIGURATION if is_good else None)
    assert ("everything stops" if is_good else "started again") in said[0]


def test_only_a_file_that_can_be_used_is_kept_for_gateways_that_die(scene: Scene, files: Files) -> None:
    kept = kept_config_path(scene.it.configuration.settings)
    first = scene.path.read_text()
    assert kept.read_text() == first and kept.stat().st_mode & 0o777 == 0o600
    change(scene.path, "model_lst: []")
    scene.found = ConfigurationError(["model_lst is not known"])
    scene.it.ask()
    scene.it.look(scene.now_s)
    assert kept.read_text() == first
    change(scene.path, "model_list: [{model_name: two, litellm_params: {model: demo/echo}}]")
    scene.found = files.load()
    scene.it.ask()
    scene.it.look(scene.now_s)
    assert "two" in kept.read_text()
