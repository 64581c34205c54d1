"""Every command explains itself, stands in the documentation, and can be completed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.functional.installation import ROOT
from token_tracker.cli.app import Commands
from token_tracker.run import PROCESSES

DOCUMENT = (ROOT / "docs" / "cli.md").read_text()


def commands() -> Iterator[tuple[str, click.Command]]:
    """All of them, with the words that they are typed as."""
    root = Commands({name: lambda: 0 for name in PROCESSES})
    context = click.Context(root)
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{name} {each}", found) for each, found in command.commands.items())
        elif not command.hidden:
            yield name, command


def test_every_command_and_option_explains_itself_and_is_documented() -> None:
    found = dict(commands())
    assert len(found) > 30
    for words, command in found.items():
        assert command.help or words in PROCESSES, words
        assert f"`{words}" in DOCUMENT, words
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help or option.name in ("name", "role", "unit"), (words, option.name)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_and_choices(shell: str, tmp_path: Path) -> None:
    made = _run("completion", shell)
    assert "_TOKEN_TRACKER_COMPLETE" in made and "token-tracker" in made
    if shell == "fish":
        asked = {"COMP_WORDS": "token-tracker rep", "COMP_CWORD": "rep"}
    else:
        asked = {"COMP_WORDS": "token-tracker rep", "COMP_CWORD": "1"}
    assert "report" in _run(_TOKEN_TRACKER_COMPLETE=f"{shell}_complete", **asked)


def test_bash_understands_what_is_printed(tmp_path: Path) -> None:
    """As somebody who types 'token-tracker report --by mo' and presses Tab."""
    script = tmp_path / "token-tracker"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m token_tracker.run "$@"\n')
    script.chmod(0o755)
    typing = (
        'eval "$(token-tracker completion bash)"; COMP_WORDS=(token-tracker report --by mo); COMP_CWORD=3; '
        '_token_tracker_completion token-tracker; echo "${COMPREPLY[*]}"'
    )
    done = subprocess.run(
        ["bash", "-c", typing],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout.split() == ["month", "model"], done.stderr


def _run(*words: str, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "token_tracker.run", *words],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stdout
