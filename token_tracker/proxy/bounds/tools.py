"""Tools that a provider runs by itself: what they read and how often is not in the client's hands."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from token_tracker.proxy.dialects.facts import UNREADABLE


class _Tool(msgspec.Struct, gc=False):
    type: Any = None
    cache_control: Any = None


class Tools(NamedTuple):
    """`number`: how many are listed; `foreign`: the first that the provider runs itself, '' if none does."""

    number: int = 0
    foreign: str = ""
    writes_cache: bool = False


_tools = msgspec.json.Decoder(list[_Tool]).decode

# The client runs these and sends what came of it.
OPENAI = ("function", "custom", "local_shell", "apply_patch", "computer_use_preview", "computer")
ANTHROPIC = (None, "custom")
_ANTHROPIC_OWN = ("bash_", "text_editor_", "computer_", "memory_")


def tools_of(raw: bytes | None, family: str) -> Tools:
    if raw is None or raw in (b"null", b"[]"):
        return Tools()
    try:
        tools = _tools(raw)
    except UNREADABLE:
        return Tools(0, "tools that cannot be read")
    foreign = next((str(tool.type)[:64] for tool in tools if not _is_clients(tool.type, family)), None)
    said = "" if foreign is None else f"the tool '{foreign}', which the provider runs"
    return Tools(len(tools), said, any(tool.cache_control is not None for tool in tools))


def _is_clients(kind: Any, family: str) -> bool:
    if family == "anthropic":
        return kind in ANTHROPIC or (type(kind) is str and kind.startswith(_ANTHROPIC_OWN))
    return kind in OPENAI
