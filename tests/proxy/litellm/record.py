"""Records what the installed LiteLLM hands to callbacks: `python -m tests.proxy.litellm.record`, after an upgrade.

One payload per route and upstream, written to `payloads/` without contents, keys, addresses and times.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.proxy.litellm.running import Child, Serving
from tests.proxy.litellm.upstream import Upstream

PAYLOADS = Path(__file__).with_name("payloads")
HELLO = [{"role": "user", "content": "hi"}]
_CHAT = "/v1/chat/completions"
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat_anthropic": (_CHAT, {"model": "anthropic/claude-sonnet-4-5", "messages": HELLO}),
    "chat_anthropic_stream": (_CHAT, {"model": "anthropic/claude-sonnet-4-5", "messages": HELLO, "stream": True}),
    "chat_openai_stream": (_CHAT, {"model": "openai/gpt-4o", "messages": HELLO, "stream": True}),
    "chat_unpriced": (_CHAT, {"model": "openai/nobody-prices-this", "messages": HELLO}),
    "messages_openai": ("/v1/messages", {"model": "openai/gpt-4o", "messages": HELLO, "max_tokens": 9}),
    "messages_openai_stream": (
        "/v1/messages",
        {"model": "openai/gpt-4o", "messages": HELLO, "max_tokens": 9, "stream": True},
    ),
    "responses_anthropic": ("/v1/responses", {"model": "anthropic/claude-sonnet-4-5", "input": "hi"}),
    "responses_openai": ("/v1/responses", {"model": "openai/gpt-4o", "input": "hi"}),
    "embeddings": ("/v1/embeddings", {"model": "openai/text-embedding-3-small", "input": "hi"}),
    "speech": ("/v1/audio/speech", {"model": "openai/tts-1", "input": "hi there", "voice": "alloy"}),
    "images_unpriced": ("/v1/images/generations", {"model": "openai/dall-e-3", "prompt": "a cat"}),
    "images_tokens": ("/v1/images/generations", {"model": "openai/gpt-image-1", "prompt": "a cat"}),
}
_KEPT = ("litellm_call_id", "call_type", "response_cost", "stream")
_WITHHELD = ("messages", "response", "requester_metadata", "traceback_str", "model_map_value", "trace_id")
_UNSTABLE = ("startTime", "endTime", "completionStartTime", "response_time", "api_base", "litellm_overhead_time_ms")


def scrubbed(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The part of the callback's arguments that may be kept: shapes and numbers."""
    payload = kwargs["standard_logging_object"]
    return {name: kwargs.get(name) for name in _KEPT} | {"standard_logging_object": _without_contents(payload)}


def _without_contents(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: f"<{name}>" if name in (*_WITHHELD, *_UNSTABLE) else _without_contents(each)
            for name, each in value.items()
            if not name.startswith("llm_provider-")
        }
    return [_without_contents(each) for each in value] if isinstance(value, list) else value


def serve_recording(target: Path) -> int:
    """The child itself, with a callback that also writes each payload to `target`."""
    from token_tracker.proxy.litellm import callback, launcher

    reported = callback.read_evidence

    def read_evidence(kwargs: Any) -> Any:
        text = json.dumps(scrubbed(kwargs), default=repr, indent=1, sort_keys=True)
        (target / f"{kwargs['litellm_call_id']}.json").write_text(text + "\n")
        return reported(kwargs)

    callback.read_evidence = read_evidence
    return launcher.main()


def main() -> int:
    upstream = Serving(Upstream().application())
    with tempfile.TemporaryDirectory() as directory:
        with Child(Path(directory), ("-m", "tests.proxy.litellm.record", directory)) as child:
            for number, (path, body) in enumerate(CALLS.values()):
                base = upstream.url + ("" if "anthropic" in body["model"] else "/v1")
                sent = json.dumps(body | {"api_base": base, "api_key": "none"}).encode()
                call_id = f"{number:032x}"
                child.post(path, sent, call_id)
            until = time.monotonic() + 20
            while len(list(Path(directory).glob("*.json"))) < len(CALLS) and time.monotonic() < until:
                time.sleep(0.1)
        for number, name in enumerate(CALLS):
            (PAYLOADS / f"{name}.json").write_text((Path(directory) / f"{number:032x}.json").read_text())
    upstream.close()
    return 0


if __name__ == "__main__":
    sys.exit(serve_recording(Path(sys.argv[1])) if len(sys.argv) > 1 else main())
