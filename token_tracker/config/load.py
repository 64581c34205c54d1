"""Reads the whole configuration: environment, `.env` and proxy.yaml, with all problems at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from token_tracker.config import paths
from token_tracker.config.environment import PREFIX, read_settings, read_variables
from token_tracker.config.problems import ConfigurationError
from token_tracker.config.proxy_file import read_proxy_file
from token_tracker.config.values import Configuration, Settings

__all__ = ["ConfigurationError", "load", "load_again", "load_settings"]


def load(environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> Configuration:
    """The configuration as it now stands; reads files, makes none. Raises ConfigurationError with every problem."""
    environ = os.environ if environ is None else environ
    cwd = Path.cwd() if cwd is None else cwd
    problems: list[str] = []
    variables = read_variables(environ, cwd, problems)
    settings = read_settings(variables, cwd, problems)
    file = read_proxy_file(settings.config_path, variables, problems)
    if problems:
        raise ConfigurationError(problems)
    return Configuration(
        settings=settings,
        models=file.models,
        gateway=file.gateway,
        routing=file.routing,
        pricing=file.pricing,
        rate_limits=file.rate_limits,
        budgets=file.budgets,
        reports=file.reports,
        alerts=file.alerts,
        warnings=tuple(file.warnings),
        off=tuple(file.off),
    )


def load_again(
    environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> tuple[Configuration, tuple[str, ...]]:
    """The configuration for a process that starts while others run, and what is wrong with the file as it now stands:
    then it is that of the last file that was kept. Raises ConfigurationError where that does not help."""
    environ = os.environ if environ is None else environ
    try:
        return load(environ, cwd), ()
    except ConfigurationError as error:
        settings = load_settings(environ, cwd)
        kept = paths.kept_config_path(settings)
        if not kept.exists():
            raise
        found = load({**environ, f"{PREFIX}CONFIG": str(kept)}, cwd)
        return replace(found, settings=settings), tuple(error.problems)


def load_settings(environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> Settings:
    """The settings alone, for processes that do not need proxy.yaml. Raises ConfigurationError with every problem."""
    environ = os.environ if environ is None else environ
    cwd = Path.cwd() if cwd is None else cwd
    problems: list[str] = []
    settings = read_settings(read_variables(environ, cwd, problems), cwd, problems)
    if problems:
        raise ConfigurationError(problems)
    return settings
