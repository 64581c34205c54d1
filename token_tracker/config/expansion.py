"""`${NAME}` and LiteLLM's `os.environ/NAME` in proxy.yaml, filled from the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_LITELLM = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)\s*$")


def references(value: object) -> list[str]:
    """The variables that a value uses, each once, in order."""
    found: dict[str, None] = {}
    _collect(value, found)
    return list(found)


def _collect(value: object, found: dict[str, None]) -> None:
    if isinstance(value, str):
        litellm = _LITELLM.match(value)
        found.update(dict.fromkeys([litellm[1]] if litellm else _REFERENCE.findall(value)))
    elif isinstance(value, Mapping):
        for item in value.values():
            _collect(item, found)
    elif isinstance(value, list):
        for item in value:
            _collect(item, found)


def expand(value: object, variables: Mapping[str, str]) -> object:
    """A copy of `value` with every variable put in; a text that needs one that is not set becomes None."""
    if isinstance(value, str):
        if any(name not in variables for name in references(value)):
            return None
        litellm = _LITELLM.match(value)
        return variables[litellm[1]] if litellm else _REFERENCE.sub(lambda match: variables[match[1]], value)
    if isinstance(value, Mapping):
        return {key: expand(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [expand(item, variables) for item in value]
    return value


def malformed(value: object) -> bool:
    """Whether a text holds a `${` that is no `${NAME}`, such as a default, which nobody would fill in."""
    if isinstance(value, str):
        return "${" in _REFERENCE.sub("", value)
    if isinstance(value, Mapping):
        return any(malformed(item) for item in value.values())
    return isinstance(value, list) and any(malformed(item) for item in value)
