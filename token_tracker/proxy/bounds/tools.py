"""Tools that a provider runs by itself: what they read and how often is not in the client's hands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from token_tracker.proxy.dialects.facts import UNREADABLE

_Tool = Mapping[str, msgspec.Raw]
_NULL = msgspec.Raw(b"null")


class Tools(NamedTuple):
    """`number`: how many are listed; `foreign`: the first that the provider runs itself, '' if none does."""

    number: int = 0
    foreign: str = ""
    writes_cache: bool = False


NO_TOOLS = Tools()
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_tools = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_kind = msgspec.json.Decoder().decode

# The client runs these and sends what came of it.
_GROUPED = ("function", "custom")
OPENAI = (*_GROUPED, "local_shell", "apply_patch", "computer_use_preview", "computer")
ANTHROPIC = (None, "custom")
_ANTHROPIC_OWN = ("bash_", "text_editor_", "computer_", "browser_", "memory_")
# And these, where they say so: the type of the tool, the member that says it, and what that holds then.
_WHERE_SAID = {"shell": ("environment", "local"), "tool_search": ("execution", "client")}
# By one of these a tool says what it is called; one of any other name is told by its type alone.
_NAMED = frozenset(("name", "function", "custom"))
_OF_NAMELESS = frozenset(
    """
    type cache_control display_width display_height environment allowed_callers configs execution description parameters
    """.split()  # noqa: SIM905 (one word a name reads better than twenty quoted strings)
)


def tools_of(raw: bytes | None, family: str) -> Tools:
    """`family`: 'openai', 'anthropic', 'functions' for OpenAI's list of an older day, or 'namespace' for the tools that
    one of OpenAI's groups together."""
    if raw is None or raw in (b"null", b"[]"):
        return NO_TOOLS
    try:
        tools = _tools(raw)
        kinds = [_kind(tool.get("type", _NULL)) for tool in tools]
    except UNREADABLE:
        return Tools(0, "tools that cannot be read")
    foreign = next((tool for tool in zip(tools, kinds, strict=True) if not _is_clients(*tool, family)), None)
    said = "" if foreign is None else f"the tool '{_shown(*foreign)}', which the provider runs"
    found = Tools(len(tools), said, any(tool.get("cache_control", _NULL) != _NULL for tool in tools))
    for tool, kind in zip(tools, kinds, strict=True):
        if kind == "namespace" and "tools" in tool:
            found = together(found, tools_of(bytes(tool["tools"]), "namespace"))
    return found


def tool_added(raw: msgspec.Raw, family: str) -> Tools:
    """The tool of Anthropic's `tool_addition`: one that is listed, by its name, or another with its definition."""
    try:
        members = _members(raw)
    except UNREADABLE:
        return Tools(0, "a tool that cannot be read")
    definition = members.get("definition", _NULL)
    return NO_TOOLS if definition == _NULL else tools_of(b"[%b]" % bytes(definition), family)


def together(tools: Tools, functions: Tools) -> Tools:
    return Tools(
        tools.number + functions.number,
        tools.foreign or functions.foreign,
        tools.writes_cache or functions.writes_cache,
    )


def _is_clients(tool: _Tool, kind: Any, family: str) -> bool:
    """LiteLLM finds `{"type": "function", "googleSearch": {}}` to be Google's search."""
    if _NAMED.isdisjoint(tool) and not tool.keys() <= _OF_NAMELESS:
        return False
    if family == "functions":
        return kind is None
    if family == "anthropic":
        return kind in ANTHROPIC or (type(kind) is str and kind.startswith(_ANTHROPIC_OWN))
    if family == "namespace":
        return kind in _GROUPED
    if type(kind) is str and kind in _WHERE_SAID:
        return _says(tool, *_WHERE_SAID[kind])
    return kind in OPENAI or (kind == "namespace" and "tools" in tool)


def _says(tool: _Tool, name: str, value: str) -> bool:
    """Whether a member is that text, or an object of that type."""
    try:
        said = _kind(tool.get(name, _NULL))
    except UNREADABLE:
        return False
    return value == (said.get("type") if type(said) is dict else said)


def _shown(tool: _Tool, kind: Any) -> str:
    return str(kind if kind is not None else next(iter(tool), ""))[:64]
