"""A tiny upstream with constant answers in OpenAI's and Anthropic's formats; keeps what it was sent."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 50,
    "total_tokens": 1050,
    "prompt_tokens_details": {"cached_tokens": 800, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 0},
}
MESSAGES_USAGE = {
    "input_tokens": 100,
    "cache_read_input_tokens": 2000,
    "cache_creation_input_tokens": 700,
    "cache_creation": {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 400},
    "output_tokens": 40,
}
RESPONSES_USAGE = {
    "input_tokens": 1000,
    "input_tokens_details": {"cached_tokens": 800},
    "output_tokens": 50,
    "output_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 1050,
}
IMAGES_USAGE = {
    "input_tokens": 30,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 20},
    "output_tokens": 272,
    "total_tokens": 302,
}
SPEECH = b"ID3\x04\x00not really music"


@dataclass
class Upstream:
    """Serve with `serve(app)`. `failing`: (status, headers, body) to answer instead, while set."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    failing: tuple[int, dict[str, str], bytes] | None = None

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/v1/embeddings", self.embeddings)
        app.router.add_post("/v1/responses", self.responses)
        app.router.add_post("/v1/messages", self.messages)
        app.router.add_post("/v1/audio/speech", self.speech)
        app.router.add_post("/v1/images/generations", self.images)
        app.router.add_route("*", "/{other:.*}", self.unexpected)
        return app

    async def _take(self, request: web.Request) -> dict[str, Any]:
        body = json.loads(await request.read())
        self.requests.append({"path": request.path, "headers": dict(request.headers), "body": body})
        if self.failing:
            status, headers, text = self.failing
            raise _Answer(web.Response(status=status, headers=headers, body=text))
        return body

    async def unexpected(self, request: web.Request) -> web.StreamResponse:
        self.requests.append({"path": request.path, "headers": dict(request.headers), "body": None})
        return web.json_response({"error": {"message": "no such route"}}, status=404)

    @staticmethod
    def _answers(handler: Any) -> Any:
        async def answering(self: Upstream, request: web.Request) -> web.StreamResponse:
            try:
                return await handler(self, request)
            except _Answer as answer:
                return answer.response

        return answering

    @_answers
    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await self._take(request)
        head = {"id": "chatcmpl-1", "created": 1, "model": body["model"]}
        if not body.get("stream"):
            message = {"role": "assistant", "content": "hello there"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return web.json_response(head | {"object": "chat.completion", "choices": [choice], "usage": USAGE})
        head["object"] = "chat.completion.chunk"
        chunks = [
            head | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "hello"}}]},
            head | {"choices": [{"index": 0, "delta": {"content": " there"}}]},
            head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        ]
        if (body.get("stream_options") or {}).get("include_usage"):
            chunks.append(head | {"choices": [], "usage": USAGE})
        return await _stream(request, [("", chunk) for chunk in chunks], "data: [DONE]\n\n")

    @_answers
    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        body = await self._take(request)
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
        usage = {"prompt_tokens": 7, "total_tokens": 7}
        return web.json_response({"object": "list", "model": body["model"], "data": data, "usage": usage})

    @_answers
    async def responses(self, request: web.Request) -> web.StreamResponse:
        body = await self._take(request)
        text = {"type": "output_text", "text": "hello there", "annotations": []}
        item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
        whole = {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "model": body["model"],
            "status": "completed",
            "output": [item],
            "usage": RESPONSES_USAGE,
            "parallel_tool_calls": True,
            "tools": [],
            "tool_choice": "auto",
        }
        if not body.get("stream"):
            return web.json_response(whole)
        started = whole | {"status": "in_progress", "output": [], "usage": None}
        delta = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": "hello there"}
        names = ["response.created", "response.output_text.delta", "response.completed"]
        payloads: list[dict[str, Any]] = [{"response": started}, delta, {"response": whole}]
        events = [
            (name, {"type": name, "sequence_number": number} | payload)
            for number, (name, payload) in enumerate(zip(names, payloads, strict=True))
        ]
        return await _stream(request, events, "")

    @_answers
    async def messages(self, request: web.Request) -> web.StreamResponse:
        body = await self._take(request)
        text = {"type": "text", "text": "hello there"}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"]}
        ended = {"stop_reason": "end_turn", "stop_sequence": None}
        if not body.get("stream"):
            return web.json_response(message | ended | {"content": [text], "usage": MESSAGES_USAGE})
        started = MESSAGES_USAGE | {"output_tokens": 1}
        events: list[tuple[str, dict[str, Any]]] = [
            ("message_start", {"message": message | {"content": [], "stop_reason": None, "usage": started}}),
            ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
            ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": "hello there"}}),
            ("content_block_stop", {"index": 0}),
            ("message_delta", {"delta": ended, "usage": {"output_tokens": 40}}),
            ("message_stop", {}),
        ]
        return await _stream(request, [(name, {"type": name} | data) for name, data in events], "")

    @_answers
    async def speech(self, request: web.Request) -> web.StreamResponse:
        await self._take(request)
        return web.Response(body=SPEECH, content_type="audio/mpeg")

    @_answers
    async def images(self, request: web.Request) -> web.StreamResponse:
        body = await self._take(request)
        answer: dict[str, Any] = {"created": 1, "data": [{"b64_json": "aGk="}]}
        if body["model"].startswith("gpt-image"):
            answer["usage"] = IMAGES_USAGE
        return web.json_response(answer)


class _Answer(Exception):
    def __init__(self, response: web.Response) -> None:
        self.response = response


async def _stream(request: web.Request, events: list[tuple[str, dict[str, Any]]], tail: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for name, data in events:
        line = f"event: {name}\n" if name else ""
        await response.write(f"{line}data: {json.dumps(data)}\n\n".encode())
    await response.write(tail.encode())
    return response
