"""What a conversation carries besides text: images and sound sent inline, and what is only referred to.

Media are looked for where they belong and nowhere else: a text that looks like one is text, and counts as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from token_tracker.proxy.bounds.tools import NO_TOOLS, Tools, together, tool_added, tools_of
from token_tracker.proxy.dialects.facts import UNREADABLE

Raw = msgspec.Raw
_NOTHING = Raw(b"null")
_INLINE = b'"data:image/'
_SHORT_BYTES = 32 * 1024  # beyond it, what is not copied is told faster
_SHORT_ADDRESS = 64  # bytes that have the colon of any address in them, which no base64 has
_NO_MORE = 8  # results of tools within documents within …: nobody nests deeper

# What is text as far as its bytes go. Calls of tools, their arguments and their results among them.
_WORDS = ("text", "input_text", "output_text", "summary_text", "reasoning_text", "refusal", "reasoning", "thinking")
_CALLS = ("tool_use", "tool_call", "function", "function_call", "custom_tool_call")
_COMMANDS = ("local_shell_call", "local_shell_call_output", "apply_patch_call", "apply_patch_call_output")
_SHELLS = ("shell_call", "shell_call_output", "computer_call", "browser_state", "program", "program_output")
_SERVED = ("server_tool_use", "mcp_tool_use", "mcp_call", "mcp_list_tools", "mcp_approval_request", "fallback")
_NAMED = ("mcp_approval_response", "tool_search_call", "tool_reference")
_TEXTS = frozenset((*_WORDS, "redacted_thinking", *_CALLS, *_COMMANDS, *_SHELLS, *_SERVED, *_NAMED))
_OUTPUTS = ("tool_result", "function_call_output", "custom_tool_call_output", "computer_call_output", "mcp_tool_result")
_NESTING = frozenset(("message", "document", "search_result", *_OUTPUTS))
_IMAGES = ("image_url", "input_image", "computer_screenshot")
_BRINGING = ("additional_tools", "tool_search_output")
_CHANGES = ("tool_addition", "tool_removal")


class _Part(msgspec.Struct, gc=False):
    type: Any = None
    role: Any = None
    content: Raw = _NOTHING
    output: Raw = _NOTHING
    image_url: Raw = _NOTHING
    input_audio: Raw = _NOTHING
    audio: Raw = _NOTHING
    source: Raw = _NOTHING
    cache_control: Raw = _NOTHING
    tools: Raw = _NOTHING
    tool: Raw = _NOTHING


class _Message(msgspec.Struct, gc=False):
    """One of text alone: anything else that `Found` looks at does not fit in here."""

    role: str
    content: str | None = None
    type: None = None
    output: str | None = None
    source: None = None
    audio: None = None
    cache_control: None = None
    tools: None = None
    tool: None = None


_messages = msgspec.json.Decoder(list[_Message]).decode
_parts = msgspec.json.Decoder(list[_Part]).decode
_members = msgspec.json.Decoder(dict[str, Raw]).decode


def messages_of_text(raw: bytes) -> int | None:
    """How many messages these are, where all are of text alone and not long; None: they have to be looked at."""
    if len(raw) > _SHORT_BYTES:
        return None
    try:
        return len(_messages(raw))
    except UNREADABLE:
        return None


@dataclass(slots=True)
class Found:
    """`items`: messages, or what stands in their place; `media_bytes`: of the JSON that is no text; `tools`: that a
    conversation brings on its way, in the words of `family` ('openai' or 'anthropic')."""

    family: str

    items: int = 0
    images: int = 0
    audio_bytes: int = 0
    media_bytes: int = 0
    is_open: bool = False
    writes_cache: bool = False  # something says that it is to be kept in the provider's cache
    tools: Tools = NO_TOOLS
    unbounded: str = ""

    def conversation(self, raw: bytes) -> None:
        """`messages`, Anthropic's `system`, or the `input` of Responses."""
        if raw in (b"", b"null") or raw.startswith(b'"'):
            self.items += 1
            return
        self._list(raw, 0, is_top=True)

    def _list(self, raw: bytes | Raw, depth: int, *, is_top: bool = False) -> None:
        try:
            parts = _parts(raw)
        except UNREADABLE:
            self.is_open = True
            return
        if is_top:
            self.items += len(parts)
        for part in parts:
            self._part(part, depth)

    def _part(self, part: _Part, depth: int) -> None:
        kind = part.type
        self.writes_cache |= part.cache_control != _NOTHING
        if kind is not None and type(kind) is not str:
            self.is_open = True
            return
        if kind in _TEXTS:
            return
        if part.tools != _NOTHING:
            self.tools = together(self.tools, tools_of(bytes(part.tools), self.family))
        if kind == "compaction_trigger":
            self.unbounded = "a summary of the conversation, of any length"
        elif kind in _CHANGES:
            self.tools = together(self.tools, tool_added(part.tool, self.family))
        elif kind in _BRINGING:
            return
        elif kind is None or kind in _NESTING:  # without a type: a message
            self.is_open |= kind is None and (part.role is None or part.audio != _NOTHING)
            for inner in (part.content, part.output):
                self._inside(inner, depth)
            if kind != "search_result":  # whose source is its name
                self._source(part.source, is_image=False, depth=depth)
        elif kind in _IMAGES and part.image_url != _NOTHING:
            self._image(part.image_url)
        elif kind == "image":
            self._source(part.source, is_image=True, depth=depth)
        elif kind == "input_audio" and part.input_audio != _NOTHING:
            self._sound(part.input_audio)
        else:
            self.is_open = True

    def _inside(self, raw: Raw, depth: int) -> None:
        first = _begin(raw, 1)
        if first == b"[" and depth < _NO_MORE:
            self._list(raw, depth + 1)
        elif first == b"{" and depth < _NO_MORE:
            self._list(b"[%b]" % bytes(raw), depth + 1)
        elif first not in (b'"', b"n"):
            self.is_open = True

    def _image(self, raw: Raw) -> None:
        """`"data:…"`, or an object with that `url`."""
        if _begin(raw, 1) == b"{":
            members = _try_members(raw) or {}
            self.is_open |= "file_id" in members
            raw = members.get("url", _NOTHING)
        if _begin(raw, len(_INLINE)) != _INLINE:
            self.is_open = True
            return
        self.images += 1
        self.media_bytes += _size(raw)

    def _sound(self, raw: Raw) -> None:
        """`{"data": "…"}`, in which some servers take an address, too."""
        members = _try_members(raw) or {}
        beginning = _begin(members.get("data", _NOTHING), _SHORT_ADDRESS)
        is_sent = beginning.startswith(b'"') and b":" not in beginning and b"\\u" not in beginning
        if not is_sent and not beginning.startswith(b'"data:'):
            self.is_open = True
            return
        self.audio_bytes += _size(raw)
        self.media_bytes += _size(raw)

    def _source(self, raw: Raw, *, is_image: bool, depth: int) -> None:
        """Anthropic's `source`: inline, or an address, or a file's id. How many pages a document has is not read."""
        if raw == _NOTHING and not is_image:
            return
        members = _try_members(raw)
        kind = bytes(members.get("type", _NOTHING)) if members is not None else b""
        if members is not None and is_image and kind == b'"base64"':
            self.images += 1
            self.media_bytes += _size(raw)
        elif members is not None and not is_image and kind == b'"content"':
            self._inside(members.get("content", _NOTHING), depth)
        elif is_image or kind != b'"text"':
            self.is_open = True


def _size(raw: Raw) -> int:
    return memoryview(raw).nbytes


def _begin(raw: Raw, size: int) -> bytes:
    return bytes(memoryview(raw)[:size])


def _try_members(raw: Raw) -> dict[str, Raw] | None:
    try:
        return _members(raw)
    except UNREADABLE:
        return None
