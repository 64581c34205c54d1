"""The fake provider's routes that are no conversation: sound, pictures, moderations, reranking."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from tests.functional.fake_manners import CREATED_S, IMAGE_OUT, bill, manner_of
from token_tracker.demo.app import sse
from token_tracker.demo.echo import BadCall, Event, Json, words
from token_tracker.domain.usage import Usage

if TYPE_CHECKING:
    from tests.functional.fake_visit import Visit


async def speak(visit: Visit, content: Json) -> None:
    """Speech: bytes that depend on the text, billed by the character, no usage anywhere."""
    text = content.get("input")
    if not isinstance(text, str):
        raise BadCall("'input' must be a text.")
    visit.entry.billed = {"characters": len(text)}
    await visit.say(b"ID3" + text.encode() * 100, b"audio/mpeg")


async def draw(visit: Visit, content: Json) -> None:
    """Images: with usage for models like gpt-image, without for models like dall-e."""
    prompt, count = content.get("prompt"), content.get("n") or 1
    if not isinstance(prompt, str):
        raise BadCall("'prompt' must be a text.")
    picture = {"b64_json": base64.b64encode(b"\x89PNG fake").decode()}
    answer: Json = {"created": CREATED_S, "data": [picture] * count}
    visit.entry.billed = {"images": count}
    if "gpt-image" in visit.entry.model:
        spent = Usage(input_tokens=words(prompt), output_image_tokens=IMAGE_OUT * count)
        visit.entry.billed = bill(spent)
        answer["usage"] = visit.entry.reported = {
            "input_tokens": spent.prompt_tokens,
            "input_tokens_details": {"text_tokens": spent.input_tokens, "image_tokens": 0},
            "output_tokens": spent.completion_tokens,
            "total_tokens": spent.total_tokens,
        }
    await visit.tell(answer)


async def edit(visit: Visit, content: Json) -> None:
    """Image edits: like images, with the bytes of the picture as image tokens."""
    size = content.get("image", content.get("image[]"))
    if not isinstance(size, int):
        raise BadCall("'image' must be a file.")
    spent = Usage(words(content.get("prompt") or ""), input_image_tokens=size, output_image_tokens=100)
    visit.entry.billed = bill(spent)
    usage = visit.entry.reported = {
        "input_tokens": spent.prompt_tokens,
        "input_tokens_details": {"text_tokens": spent.input_tokens, "image_tokens": spent.input_image_tokens},
        "output_tokens": spent.completion_tokens,
        "total_tokens": spent.total_tokens,
    }
    picture = {"b64_json": base64.b64encode(b"\x89PNG fake").decode()}
    await visit.tell({"created": CREATED_S, "data": [picture], "usage": usage})


async def hear(visit: Visit, content: Json) -> None:
    """Transcriptions and translations: as many words as the file has bytes; counted in tokens, or in seconds."""
    if not isinstance(content.get("file"), int):
        raise BadCall("'file' must be a file.")
    heard = content["file"]
    text = " ".join(["word"] * heard)
    if content.get("response_format") in ("text", "srt", "vtt"):
        visit.entry.billed = {"seconds": heard}
        await visit.say(text.encode(), b"text/plain; charset=utf-8")
    elif "in-seconds" in manner_of(visit.entry.model):
        visit.entry.billed = {"seconds": heard}
        await visit.tell({"text": text, "usage": {"type": "duration", "seconds": heard}})
    else:
        spent = Usage(words(content.get("prompt") or ""), input_audio_tokens=10 * heard, output_tokens=heard)
        visit.entry.billed = bill(spent)
        usage = visit.entry.reported = {
            "type": "tokens",
            "input_tokens": spent.prompt_tokens,
            "input_token_details": {"text_tokens": spent.input_tokens, "audio_tokens": spent.input_audio_tokens},
            "output_tokens": heard,
            "total_tokens": spent.total_tokens,
        }
        await _heard(visit, text, usage, is_stream=content.get("stream") == "true")


async def _heard(visit: Visit, text: str, usage: Json, is_stream: bool) -> None:
    visit.entry.stream = is_stream
    if not is_stream:
        await visit.tell({"text": text, "usage": usage})
        return
    deltas = [Event({"type": "transcript.text.delta", "delta": f"{word} "}) for word in text.split()]
    done = Event({"type": "transcript.text.done", "text": text, "usage": usage})
    await visit.say(b"".join(map(sse, [*deltas, done])), b"text/event-stream")


async def moderate(visit: Visit, content: Json) -> None:
    """Moderations: no usage, and nothing is billed."""
    result = {"flagged": False, "categories": {"violence": False}, "category_scores": {"violence": 1e-06}}
    result["category_applied_input_types"] = {"violence": ["text"]}
    await visit.tell({"id": f"modr-{visit.serial}", "model": visit.entry.model, "results": [result]})


async def rank(visit: Visit, content: Json) -> None:
    """Reranking: every word of query and documents is a token."""
    documents = content.get("documents")
    if not isinstance(documents, list):
        raise BadCall("'documents' must be a list.")
    count = sum(map(words, [str(content.get("query")), *map(str, documents)]))
    visit.entry.billed = {"input_tokens": count}
    visit.entry.reported = {"total_tokens": count}
    results = [{"index": index, "relevance_score": 1 / (index + 1)} for index in range(len(documents))]
    await visit.tell({"id": f"rerank-{visit.serial}", "results": results, "usage": visit.entry.reported})


async def search(visit: Visit, content: Json) -> None:
    """Reranking at Cohere's own route: billed by the search, whatever it counts."""
    visit.entry.billed = {"searches": 1}
    results = [{"index": index, "relevance_score": 0.5} for index in range(len(content["documents"]))]
    meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}, "tokens": {"input_tokens": 5}}
    await visit.tell({"id": f"rerank-{visit.serial}", "results": results, "meta": meta})


UNCONVERSED = {
    "/v1/audio/speech": speak,
    "/v1/audio/transcriptions": hear,
    "/v1/audio/translations": hear,
    "/v1/images/generations": draw,
    "/v1/images/edits": edit,
    "/v1/images/variations": edit,
    "/v1/moderations": moderate,
    "/v1/rerank": rank,
    "/v2/rerank": search,
}
