"""A changed configuration, taken over by a running gateway: calls that come later live by it, those in flight by what
they began with."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import fields, replace
from types import FrameType

from token_tracker.config.load import ConfigurationError
from token_tracker.config.values import Configuration, Settings
from token_tracker.proxy.app import Gateway

log = logging.getLogger("token_tracker.gateway")


class Hangups:
    """SIGHUP asks for a reload; one that came too early, while the gateway started, is not lost."""

    def __init__(self) -> None:
        self._came = False

    def note(self, _signal: int, _frame: FrameType | None) -> None:
        self._came = True

    def hand_to(self, reload: Callable[[], None]) -> None:
        """From now on each asks `reload`, in the event loop's thread."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
        if self._came:
            reload()


class Reloading:
    """`build` makes a gateway from a configuration, on the same journal, keys and connections; `load` reads what is
    there now, in a thread, and raises ConfigurationError. Without a database: rows are the supervisor's business."""

    def __init__(
        self,
        app: Gateway,
        configuration: Configuration,
        build: Callable[[Configuration], Gateway],
        load: Callable[[], Configuration],
    ) -> None:
        self.count = 0
        self._app, self._build, self._load = app, build, load
        self._configuration = configuration
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[bool]] = set()

    def begin(self) -> None:
        """Reload beside the calls; for the event loop's thread."""
        task = asyncio.get_running_loop().create_task(self.reload())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def reload(self) -> bool:
        """True if the configuration that is there now is in use. A bad one is reported, and changes nothing."""
        async with self._turn:
            health = self._app.health
            try:
                found = await asyncio.to_thread(self._load)
                settings = self._configuration.settings
                fresh = replace(found, settings=settings)
                self._app.take_over(self._build(fresh))
            except ConfigurationError as error:
                health.config_problems = tuple(error.problems)
                log.error("the configuration stays as it was; the changed one cannot be used: %s", error)
                return False
            except Exception as error:  # a fault of ours must not end what works
                health.config_problems = (f"it could not be taken over ({type(error).__name__})",)
                log.exception("the configuration stays as it was; the changed one could not be taken over")
                return False
            self._configuration = fresh
            self.count += 1
            health.config_problems, health.needs_restart = (), changed(settings, found.settings)
            log.info("the configuration was read again; calls from now on live by it")
            if health.needs_restart:
                log.warning("these settings act only after a restart: %s", ", ".join(health.needs_restart))
            return True


def changed(old: Settings, new: Settings) -> tuple[str, ...]:
    """The names of settings that differ."""
    return tuple(each.name for each in fields(Settings) if getattr(old, each.name) != getattr(new, each.name))
