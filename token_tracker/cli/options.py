"""Options that several commands take: moments, scopes, and which calls."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click

from token_tracker.cli.context import now
from token_tracker.services.usage import Filters

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SPAN = re.compile(r"(\d{1,9})([smhdw])")
Command = TypeVar("Command", bound=Callable[..., Any])


class Span(click.ParamType[timedelta]):
    """'90s', '15m', '24h', '30d', '4w'."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        match = _SPAN.fullmatch(str(value))
        if match is None:
            self.fail(f"'{value}' is no span of time such as 15m, 24h or 30d.", param, ctx)
        try:
            return timedelta(seconds=int(match[1]) * _UNITS[match[2]])
        except OverflowError:
            self.fail(f"'{value}' is too long.", param, ctx)


class Moment(click.ParamType[datetime]):
    """A day or time as ISO 8601, or a span from now: back with `sign` -1, ahead with 1. Without a zone it is naive."""

    name = "time"

    def __init__(self, sign: int) -> None:
        self._sign = sign

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if _SPAN.fullmatch(str(value)):
            try:
                return now() + self._sign * Span().convert(value, param, ctx)
            except OverflowError:
                self.fail(f"'{value}' is too long.", param, ctx)
        try:
            return datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"'{value}' is no time such as 2026-12-31, 2026-12-31T18:00Z, or 30d.", param, ctx)


class Zone(click.ParamType[ZoneInfo]):
    name = "zone"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ZoneInfo:
        try:
            return ZoneInfo(str(value))
        except (KeyError, ValueError, OSError):
            self.fail(f"'{value}' is no time zone: write one such as Europe/Berlin.", param, ctx)


AGO, AHEAD = Moment(-1), Moment(1)
as_json = click.option("--json", "as_json", is_flag=True, help="Answer with JSON.")
_WHICH = {
    "model": "sent upstream",
    "provider": "that served",
    "user": "whose key it was",
    "team": "of the key",
    "key": "the id of a key",
    "agent": "pinned or told by the client",
    "session": "told by the client",
    "end-user": "told by the client",
    "tag": "told by the client",
    "end-reason": "such as complete or upstream_error",
}


def placed(moment: datetime | None, zone: tzinfo = UTC) -> datetime | None:
    """A moment without a zone is one of `zone`."""
    return moment.replace(tzinfo=zone) if moment is not None and moment.tzinfo is None else moment


def which_calls(command: Command) -> Command:
    """Adds a filter for each of `_WHICH`; '' asks for calls that have none."""
    for name, help_text in reversed(_WHICH.items()):
        command = click.option(f"--{name}", help=f"Only calls of this {name.replace('-', ' ')}: {help_text}.")(command)
    return command


def filters(
    which: Mapping[str, str | None], since: datetime | None, until: datetime | None, zone: tzinfo = UTC
) -> Filters:
    """`which`: what `which_calls` gave. Raises UsageError."""
    start, end = placed(since, zone), placed(until, zone)
    if start is not None and end is not None and end < start:
        raise click.UsageError("--until is before --since.")
    return Filters(start=start, end=end, **which)  # type: ignore[arg-type]  # all of them are texts


def scope(text: str) -> tuple[str, str | None]:
    """'global', 'team:core', 'key:key_…', 'user:*', 'model:gpt-4o': type and id."""
    kind, separator, name = text.partition(":")
    return kind, name if separator else None
