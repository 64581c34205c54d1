"""What is wrong with a configuration: collected first, reported together, never with a secret in it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class ConfigurationError(Exception):
    """The configuration cannot be used. `problems`: one sentence each, naming the thing and the remedy."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


def nearest(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'rate_limits'?"`, or '' if nothing known looks like `name`."""
    matches = get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return f" Did you mean '{matches[0]}'?" if matches else ""
