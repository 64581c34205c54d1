"""Embeddings, speech and images: usage in the answer if it is there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.proxy.dialects.streams import DONE, event, run
from token_tracker.domain.extras import NO_EXTRAS, Extras
from token_tracker.domain.usage import Usage
from token_tracker.proxy.dialects import ROUTES
from token_tracker.proxy.dialects.base import Reading

EMBEDDINGS = "/v1/embeddings"
SPEECH = "/v1/audio/speech"
IMAGES = "/v1/images/generations"
IMAGE_USAGE = {
    "input_tokens": 30,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 20},
    "output_tokens": 272,
    "total_tokens": 302,
}
IMAGE_READ = Usage(input_tokens=10, input_image_tokens=20, output_image_tokens=272)


@pytest.mark.parametrize(
    ("path", "usage", "expected"),
    [
        (EMBEDDINGS, {"prompt_tokens": 8, "total_tokens": 8}, Usage(input_tokens=8)),
        (EMBEDDINGS, {"total_tokens": 8}, Usage(input_tokens=8)),
        (EMBEDDINGS, {"prompt_tokens": 8, "completion_tokens": 0, "total_tokens": 8}, Usage(input_tokens=8)),
        (EMBEDDINGS, None, None),
        (IMAGES, IMAGE_USAGE, IMAGE_READ),
        (IMAGES, {**IMAGE_USAGE, "output_tokens_details": None}, IMAGE_READ),
        (
            IMAGES,
            {**IMAGE_USAGE, "output_tokens_details": {"text_tokens": 72, "image_tokens": 200}},
            Usage(input_tokens=10, input_image_tokens=20, output_tokens=72, output_image_tokens=200),
        ),
        (IMAGES, None, None),
        (SPEECH, {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}, Usage(14, output_audio_tokens=101)),
    ],
)
def test_usage_of_a_whole_answer_is_read(path: str, usage: Any, expected: Usage | None) -> None:
    body = json.dumps({"data": [{"embedding": [0.5, -1e-9]}], "usage": usage}).encode()
    reading = ROUTES[path].dialect.read_body(body)
    extras = Extras(images=1) if path == IMAGES else NO_EXTRAS
    assert reading == Reading(expected, expected is not None, saw_end=True, extras=extras)


def test_audio_gives_an_empty_reading() -> None:
    assert ROUTES[SPEECH].dialect.read_body(b"ID3\x04\x00\xff\xfb\x90") == Reading()


def through(path: str, body: dict[str, Any], chunks: list[bytes]) -> tuple[bytes, bytes, Reading]:
    dialect = ROUTES[path].dialect
    return run(dialect.observer(dialect.read(json.dumps({"model": "m", **body}).encode())), chunks)


def test_a_spoken_stream_ends_with_the_event_that_counts() -> None:
    sound = event("speech.audio.delta", audio="AAAA")
    done = event("speech.audio.done", usage={"input_tokens": 14, "output_tokens": 101, "total_tokens": 115})
    before, after, reading = through(SPEECH, {"input": "hi"}, [sound, done])
    assert (before, after) == (sound, done)
    assert (reading.usage, reading.is_final, reading.saw_end) == (Usage(14, output_audio_tokens=101), True, True)


def test_a_stream_of_several_images_ends_where_it_closes() -> None:
    done = [event("image_generation.completed", b64_json="AAAA", usage=IMAGE_USAGE) for _ in range(2)]
    before, after, reading = through(IMAGES, {"n": 2, "stream": True}, [*done, DONE])
    assert (before, after) == (b"".join([*done, DONE]), b"")
    assert (reading.usage, reading.saw_end) == (IMAGE_READ, True)


def test_a_stream_without_its_last_event_saw_no_end() -> None:
    reading = through(IMAGES, {}, [event("image_generation.partial_image", b64_json="AAAA")])[2]
    assert (reading.saw_end, reading.usage) == (False, None)


def test_an_error_event_ends_the_stream() -> None:
    error = event("error", error={"message": "no"})
    assert through(IMAGES, {"n": 2}, [error])[1:] == (error, Reading(saw_end=True, error=True))
