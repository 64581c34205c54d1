"""What a use case may refuse, as values; each edge translates them once (400, 404, 409, a message in a form)."""

from __future__ import annotations

from collections.abc import Sequence


class Invalid(Exception):
    """Values that cannot be accepted: every (field, message) at once, messages in whole words."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{field}: {message}" for field, message in self.problems))


class NotFound(Exception):
    """There is no such thing, or none that the asker may know of."""

    def __init__(self, noun: str, identity: str) -> None:
        self.noun, self.identity = noun, identity
        super().__init__(f"There is no {noun} '{identity}'.")


class Conflict(Exception):
    """What is asked for contradicts what is there; the message says which and what to do."""


class KeptInFile(Conflict):
    """It stands in proxy.yaml and is changed there only (409)."""

    def __init__(self, noun: str, identity: str) -> None:
        super().__init__(
            f"The {noun} '{identity}' comes from proxy.yaml; nothing was changed. Edit the file and restart, or make "
            "another one here."
        )


class Unchangeable(Exception):
    """Values that what is there already was made with, and keeps (422): every (field, message) at once."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{field}: {message}" for field, message in self.problems))
