"""`token-tracker …` and `python -m token_tracker.run …`: the processes, together or alone, and all other commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from token_tracker.config.load import load, load_settings
from token_tracker.config.paths import prepare_data_dir, runtime_dir
from token_tracker.config.problems import ConfigurationError
from token_tracker.config.values import Address, Configuration, Settings

EXIT_CONFIGURATION = 2
EXIT_INTERRUPTED = 130  # as shells count it
SUPERVISED = "--supervised"  # said to a child of the supervisor


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of a command (`cli.app.main`) or of a process; see `Supervisor` for what that tells."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[1:] == [SUPERVISED] and words[0] in PROCESSES:  # a child: it loads nothing for people
        from token_tracker.supervisor.lifeline import hold

        hold()
        return _run(words[0], is_supervised=True)
    from token_tracker.cli.app import main as command_line

    return command_line(words, {name: _typed(name) for name in PROCESSES})


def _typed(name: str) -> Callable[[], int]:
    def process() -> int:
        return _run(name, is_supervised=False)

    process.__doc__ = PROCESSES[name].__doc__
    return process


def _run(name: str, *, is_supervised: bool) -> int:
    try:
        return PROCESSES[name](is_supervised)
    except ConfigurationError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return EXIT_CONFIGURATION
    except KeyboardInterrupt:  # once it runs, Ctrl-C ends it in order
        print("Ended by Ctrl-C before the start was complete.", file=sys.stderr)
        return EXIT_INTERRUPTED


def _all(_: bool) -> int:
    """Gateway, API, dashboard and worker with all that belongs to them."""
    return _supervise(lambda it: (*_gateways(it), *_helpers(it), "api", "dashboard", "worker"), quick=True)


def _proxy(_: bool) -> int:
    """The gateway with its recorder and what its models need."""
    return _supervise(lambda it: (*_gateways(it), *_helpers(it)), quick=False)


def _gateways(configuration: Configuration) -> tuple[str, ...]:
    """The first is 'gateway', the others have a number as well; all listen on one port."""
    return ("gateway", *(f"gateway-{number}" for number in range(2, configuration.settings.proxy_workers + 1)))


def _helpers(configuration: Configuration) -> tuple[str, ...]:
    """What a gateway needs beside it: always its recorder, others while a configured model asks for them."""
    demo = ("demo",) if configuration.needs_demo else ()
    litellm = ("litellm",) if configuration.needs_litellm else ()
    return ("recorder", *demo, *litellm)


def _supervise(choose: Callable[[Configuration], tuple[str, ...]], *, quick: bool) -> int:
    from token_tracker.supervisor.core import Supervisor, say
    from token_tracker.supervisor.ports import check_free

    configuration = load()
    settings = configuration.settings
    prepare_data_dir(settings)
    names = choose(configuration)
    listening = {"PROXY": settings.proxy, "API": settings.api, "DASHBOARD": settings.dashboard}
    if settings.metrics is not None:
        listening["METRICS"] = settings.metrics
    here = {"PROXY", "METRICS"} if "api" not in names else set(listening)
    if problems := check_free({name: address for name, address in listening.items() if name in here}):
        raise ConfigurationError(problems)
    for warning in configuration.warnings:
        say(f"warning: {warning}")
    for name, reason in configuration.off:
        say(f"warning: the model '{name}' is switched off: {reason}.")
    return Supervisor(configuration, names, quick=quick).run()


def _prepare(supervised: bool) -> Settings:
    """Alone, a process prepares the database first; supervised, the supervisor does, and a mistake that is made in
    proxy.yaml later stops nobody who does not need it."""
    if supervised:
        return load_settings()
    configuration = load()
    prepare_data_dir(configuration.settings)
    _prepare_database(configuration)
    return configuration.settings


def _prepare_database(configuration: Configuration) -> None:
    from token_tracker.supervisor.announcement import entrance
    from token_tracker.supervisor.preparation import Preparation

    preparation = Preparation(runtime_dir(configuration.settings))
    preparation.start()
    made = preparation.wait()
    if made.code:
        print(made.said, file=sys.stderr)
        raise SystemExit(made.code)
    for warning in made.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if made.first_key is not None:
        print("\n".join(entrance(configuration, made)), flush=True)


def _api(supervised: bool) -> int:
    """The REST API."""
    settings = _prepare(supervised)
    return _serve("token_tracker.api.app", settings.api, settings)


def _dashboard(supervised: bool) -> int:
    """The dashboard."""
    settings = _prepare(supervised)
    return _serve("token_tracker.dashboard.app", settings.dashboard, settings)


def _serve(module: str, address: Address, settings: Settings) -> int:
    from token_tracker.supervisor.web import serve

    serve(lambda: import_module(module).create_app(), address, runtime_dir(settings))
    return 0


def _worker(supervised: bool) -> int:
    """Alerts, retention and checks of the books, once per installation."""
    _prepare(supervised)
    from token_tracker.worker import main as worker

    return worker() or 0


def _demo(_: bool) -> int:
    """The echo provider behind the model demo."""
    from token_tracker.demo import main as demo

    demo()
    return 0


def _gateway(supervised: bool) -> int:
    from token_tracker.proxy.server import main as gateway

    return gateway(is_supervised=supervised)


def _recorder(_: bool) -> int:
    from token_tracker.proxy.books.recorder import main as recorder

    return recorder() or 0


def _litellm(_: bool) -> int:
    from token_tracker.proxy.litellm.launcher import main as litellm

    return litellm()


PROCESSES: dict[str, Callable[[bool], int]] = {
    "all": _all,
    "proxy": _proxy,
    "api": _api,
    "dashboard": _dashboard,
    "worker": _worker,
    "demo": _demo,
    "gateway": _gateway,
    "recorder": _recorder,
    "litellm": _litellm,
}


if __name__ == "__main__":
    sys.exit(main())
