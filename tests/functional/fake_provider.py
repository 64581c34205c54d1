"""A provider for tests: the echo provider taught to misbehave, keeping its own books.

    python -m tests.functional.fake_provider --port 8123        (from the repository's root)

Routes: the echo provider's six (chat and other completions, embeddings, responses, messages and their count),
`GET /v1/models`, `POST /v1/audio/{speech,transcriptions,translations}`, `/v1/images/{generations,edits,variations}`,
`/v1/moderations`, `/v1/rerank`; what is kept (see `fake_stored`): `/v1/responses/{id}`, `/v1/files`, `/v1/batches`, and
any `/v1/fine_tuning/…`; `GET /books[?marker=M][&slim=1]`, `POST /books/reset`. The header x-fake-serial makes
the ids and times of an answer the same each time.

**Usage.** P = words in all texts of the request, R = words of the reply: six of the prefix 'Hello from Token Tracker!
You said: ' and those of the last user message, at most the request's maximum of tokens. Plain usage: P in, R out.
Embeddings: P in, nothing out. Images of models with 'gpt-image' in their name: P in, 100 image tokens out a picture;
other images and speech: no usage in the answer. Edits: the bytes of the picture are its tokens. Transcriptions: ten
audio tokens and one word a byte of the file, P of the prompt; none in formats that are plain text. Moderations: free.
Rerank: words of query and documents; at Cohere's `/v2/rerank` one search.

**Manners**, by model name ('fake-cached', several as 'fake-cached+slow-20ms') or by the request header x-fake-manner;
models that begin neither with 'fake-' nor with 'claude-' are plain, an unknown manner is a 400:

- `plain`; `slow-<N>ms`: N ms before each word of a stream, or before a whole answer; `<400…599>`: that status, nothing
  billed, `retry-after: 7` with 429 and 503;
- `cached`: 1000 tokens more read from a cache; on messages also 200 written for 5 minutes and 30 for an hour (they come
  on top of P: OpenAI's formats then report P + 1000 prompt tokens); `cached-<N>`: N such reads and no writes;
  `reasoning`: 50 reasoning tokens on top of R (on
  messages they are output tokens like others); `audio` (chat): 7 audio tokens in, 9 out, on top;
- `no-usage`; `usage-in-choices` (Kimi), `usage-in-x-groq` (Groq), `usage-in-every-chunk`, `usage-unasked`: chat
  streams, whether asked or not; `usage-is-text`, `output-is-negative`: nonsense in whole answers;
  `null-details`: every detail object of a usage is null;
- `gzip`, `brotli` (only if the client accepts it), `crlf`, `comments`, `multiline`, `no-space`, `cut-every-byte`,
  `content-length-sse`: the same stream, differently laid out;
- `dies-mid-stream`: the connection is cut after half of the words (R // 2), or half of a whole body; `ends-early`: a
  clean end there, without the terminal event; `error-event`: an error event there, then a clean end; `hang-mid-stream`:
  silence there, until the client leaves; `hang-before-headers`: silence from the start.
- `in-seconds`: transcriptions count seconds, one a byte, instead of tokens;
- `gpt-image`, `dall-e`, `tts`, `embedding`: plain, so that such names can be told apart.

**Books.** One entry a request, see `Entry`. A manner's marker for finding it again is the request's `user`, else
`metadata.user_id`, else the last user message, the `input` or the `prompt`.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from urllib.parse import parse_qs

from tests.functional.fake_stored import is_stored
from tests.functional.fake_visit import ENTRIES, PROVIDER_HEADERS, Visit
from token_tracker.demo.app import Receive, Scope, Send, error, has_header, models, read_body, send_json


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    path, method = scope["path"], scope["method"]
    if path.startswith("/books"):
        await show_books(scope, send)
    elif path == "/v1/models" and method == "GET":
        await send_json(send, 200, models(has_header(scope, b"anthropic-version")), PROVIDER_HEADERS)
    elif is_stored(path):
        await Visit(scope, await read_body(receive), send).serve(receive, (method, scope["query_string"]))
    elif method != "POST":
        await send_json(send, 404, error("openai", "not_found_error", f"No route {method} {path}."))
    else:
        await Visit(scope, await read_body(receive), send).serve(receive)


async def show_books(scope: Scope, send: Send) -> None:
    """Everything, or one marker's entries; `slim=1` leaves out headers and bodies."""
    if scope["path"] == "/books/reset" and scope["method"] == "POST":
        ENTRIES.clear()
    wanted = parse_qs(scope["query_string"].decode())
    marker, is_slim = wanted.get("marker", [""])[0], "slim" in wanted
    chosen = [asdict(entry) for entry in ENTRIES if not marker or entry.marker == marker]
    dropped = ("headers", "body_base64") if is_slim else ()
    await send_json(send, 200, {"entries": [{k: v for k, v in e.items() if k not in dropped} for e in chosen]})


def main() -> None:
    import uvicorn

    arguments = argparse.ArgumentParser(description="A provider for tests.")
    arguments.add_argument("--port", type=int, required=True)
    port = arguments.parse_args().port
    # What this provider does on purpose would fill the log: answers that never start or end.
    uvicorn.run(app, host="127.0.0.1", port=port, lifespan="off", log_level="critical", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main()
