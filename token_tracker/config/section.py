"""A mapping of proxy.yaml being read: typed values, a place in every complaint, and an eye for unknown keys."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal, InvalidOperation

from token_tracker.config.problems import nearest

Number = int | Decimal


class Section:
    """`where` names it in problems ('gateway', 'model_list[2]'). Wrong values are reported and read as absent.

    Values are never quoted in a problem: any of them may hold a secret.
    """

    def __init__(self, where: str, content: object, problems: list[str]) -> None:
        self.where = where
        self.problems = problems
        self._known: set[str] = set()
        if content is not None and not isinstance(content, Mapping):
            problems.append(f"{where} must be a mapping of names to values.")
        self.content: Mapping[object, object] = content if isinstance(content, Mapping) else {}

    def place(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def complain(self, key: str, text: str) -> None:
        self.problems.append(f"{self.place(key)} {text}")

    def get(self, key: str) -> object:
        """The raw value; None if absent. From now on `key` is known."""
        self._known.add(key)
        return self.content.get(key)

    def text(self, key: str) -> str | None:
        value = self.get(key)
        if value is None:
            return None
        if isinstance(value, str) and value.strip():
            return value.strip()
        self.complain(key, "must be text (in quotes if it looks like a number).")
        return None

    def choice(self, key: str, choices: Collection[str], default: str | None = None) -> str | None:
        value = self.get(key)
        if value is None:
            return default
        if isinstance(value, str) and value in choices:
            return value
        hint = nearest(value, choices) if isinstance(value, str) else ""
        self.complain(key, f"must be one of {', '.join(choices)}.{hint}")
        return default

    def number(self, key: str, *, above: Number | None = None, least: Number | None = None) -> Decimal | None:
        """A finite decimal, exactly as written; numbers in quotes (from a variable) count."""
        value = self.get(key)
        if value is None:
            return None
        number = to_decimal(value)
        if number is None:
            self.complain(key, "must be a number.")
        elif above is not None and number <= above:
            self.complain(key, f"must be more than {above}.")
        elif least is not None and number < least:
            self.complain(key, f"must be {least} or more.")
        else:
            return number
        return None

    def whole(self, key: str, *, least: int) -> int | None:
        number = self.number(key, least=least)
        if number is None:
            return None
        if number != number.to_integral_value():
            self.complain(key, "must be a whole number.")
            return None
        return int(number)

    def flag(self, key: str) -> bool | None:
        """true or false, also in quotes (from a variable)."""
        value = self.get(key)
        if isinstance(value, str):
            value = {"true": True, "false": False}.get(value.strip().lower(), value)
        if value is None or isinstance(value, bool):
            return value
        self.complain(key, "must be true or false.")
        return None

    def section(self, key: str) -> Section:
        """The mapping under `key`; empty if absent."""
        return Section(self.place(key), self.get(key), self.problems)

    def sections(self, key: str) -> list[Section]:
        """The list of mappings under `key`; empty if absent."""
        value = self.get(key)
        if value is not None and not isinstance(value, list):
            self.complain(key, "must be a list.")
        items = value if isinstance(value, list) else []
        return [Section(f"{self.place(key)}[{index}]", item, self.problems) for index, item in enumerate(items)]

    def names(self) -> list[str]:
        """All keys, as text; a key that is no text is reported."""
        for key in self.content:
            if not isinstance(key, str):
                self.problems.append(f"{self.where or 'The file'} has a key that is no text: put it in quotes.")
        return [key for key in self.content if isinstance(key, str)]

    def finish(self, hints: Mapping[str, str] | None = None) -> None:
        """Report every key that was never asked for; `hints` say more than 'unknown' of some."""
        for key in self.names():
            if key in self._known:
                continue
            reason = (hints or {}).get(key)
            self.complain(key, reason or f"is unknown.{nearest(key, self._known)}")


def to_decimal(value: object) -> Decimal | None:
    """A finite number, exact; None for anything else (true and false are no numbers)."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
