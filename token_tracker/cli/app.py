"""`token-tracker …`: which commands there are, each imported when it is asked for, and what an error becomes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

import click

from token_tracker import __version__

EXIT_REFUSED, EXIT_CONFIGURATION, EXIT_DATABASE, EXIT_INTERRUPTED = 1, 2, 3, 130
SCRIPT = "token-tracker"
_COMPLETE_VARIABLE = "_TOKEN_TRACKER_COMPLETE"
_SECTIONS = {
    "See what was consumed": ("report", "tail", "export", "refusals"),
    "Say who may what": ("keys", "users", "teams", "budgets", "limits", "prices", "freezes", "tokens", "credentials"),
    "Say who is told what": ("reports", "mutes"),
    "Set up and look after": ("init", "doctor", "nodes", "backup", "restore", "migrate", "completion"),
}
_HIDDEN = ("gateway", "recorder", "litellm")  # processes that the supervisor starts


class Commands(click.Group):
    """`processes`: what runs until it is told to stop, by name, each giving its exit code."""

    def __init__(self, processes: Mapping[str, Callable[[], int]]) -> None:
        super().__init__(help="Token Tracker: a gateway for LLM APIs whose books balance.", no_args_is_help=True)
        self._processes = processes
        version = click.version_option(__version__, prog_name=SCRIPT, message="%(prog)s %(version)s")
        self.params.extend(version(click.Command("")).params)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self._processes, *(name for names in _SECTIONS.values() for name in names)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if (process := self._processes.get(cmd_name)) is not None:
            return click.Command(cmd_name, callback=process, help=process.__doc__, hidden=cmd_name in _HIDDEN)
        if cmd_name not in self.list_commands(ctx):
            return None
        found: click.Command = getattr(import_module(f"token_tracker.cli.{_MODULES.get(cmd_name, cmd_name)}"), cmd_name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        visible = {"Run until Ctrl-C": [name for name in self._processes if name not in _HIDDEN], **_SECTIONS}
        for title, names in visible.items():
            commands = {name: self.get_command(ctx, name) for name in names}
            with formatter.section(title):
                formatter.write_dl([(name, each.get_short_help_str(90)) for name, each in commands.items() if each])


_MODULES = {
    "init": "installing",
    "completion": "installing",
    "restore": "backup",
    "migrate": "backup",
    "teams": "users",
}


def main(words: Sequence[str], processes: Mapping[str, Callable[[], int]]) -> int:
    """The exit code: 0 done; 1 refused, or something is wrong; 2 the command or the configuration cannot be used; 3 the
    database cannot; 130 Ctrl-C. Why is said on stderr."""
    called = Path(sys.argv[0]).name
    name = called if called == SCRIPT else "python -m token_tracker.run"
    try:
        code = Commands(processes).main(words, prog_name=name, complete_var=_COMPLETE_VARIABLE, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("Ended by Ctrl-C.", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_REFUSED
    except Exception as error:
        from token_tracker.cli.problems import explained

        code, lines = explained(error)
        for line in lines:
            click.echo(line, err=True)
        return code
