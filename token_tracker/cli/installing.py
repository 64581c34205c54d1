"""`init`: what a start does to the database, alone; `completion`: what makes a shell complete the commands."""

from __future__ import annotations

import click

from token_tracker.cli.app import SCRIPT


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Answer with one line of JSON.")
@click.option(
    "--reset-admin-password",
    is_flag=True,
    help="Give 'admin' the password in TOKEN_TRACKER_ADMIN_PASSWORD, or a generated one that is printed.",
)
def init(as_json: bool, reset_admin_password: bool) -> int:
    """Create the database or bring it up to date. Safe to repeat; a start does it, too."""
    from token_tracker.database.init import main

    given = {"--json": as_json, "--reset-admin-password": reset_admin_password}
    return main([name for name, is_set in given.items() if is_set])


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes bash, zsh or fish complete commands and options.

    \b
    bash: echo 'eval "$(token-tracker completion bash)"' >> ~/.bashrc
    zsh:  echo 'eval "$(token-tracker completion zsh)"' >> ~/.zshrc
    fish: token-tracker completion fish > ~/.config/fish/completions/token-tracker.fish
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(ctx.find_root().command, {}, SCRIPT, "_TOKEN_TRACKER_COMPLETE").source())
