"""What the fake provider keeps: responses, files and batches, for everybody who has its key."""

from __future__ import annotations

import email
import email.policy
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from tests.functional.fake_manners import CREATED_S
from token_tracker.demo.app import parse, sse
from token_tracker.demo.echo import Event, Json

if TYPE_CHECKING:
    from tests.functional.fake_visit import Visit

OBJECTS: dict[str, Json] = {}
CONTENTS: dict[str, bytes] = {}
_PATH = re.compile(r"/v1/(responses|files|batches)(?:/([^/]+))?(?:/(content|cancel|input_items))?")
_OURS = re.compile(r"/v1/(?:responses/.+|(?:files|batches)(?:/.*)?)")
_OUTPUT = b'{"custom_id": "one", "response": {"body": {"usage": {"prompt_tokens": 5}}}}\n'


def is_stored(path: str) -> bool:
    return bool(_OURS.fullmatch(path)) or path.startswith("/v1/fine_tuning/")


def remember(content: Json, answer: Json) -> Json:
    """Keep a response unless it is not to be kept; what is told of one that is made in the background."""
    if content.get("store") is not False:
        OBJECTS[answer["id"]] = answer
    if content.get("background") is not True:
        return answer
    OBJECTS[answer["id"]] = answer | {"background": True}
    return answer | {"background": True, "status": "queued", "usage": None, "output": []}


async def serve_stored(visit: Visit, method: str, query: bytes) -> None:
    """One request about what is kept. Nothing of it is billed but new batches."""
    match = _PATH.fullmatch(visit.path)
    if match is None:  # something else that a provider has
        await visit.tell({"id": "ft-1", "object": "fine_tuning.job", "echoed_bytes": len(visit.body), "method": method})
        return
    noun, identity, verb = match.groups()
    if identity is None:
        await (_make(visit, noun) if method == "POST" else _list(visit, noun, query))
    elif identity not in OBJECTS:
        await visit.refuse(404, f"No such object: {identity}")
    elif method == "DELETE":
        del OBJECTS[identity]
        await visit.tell({"id": identity, "object": noun.removesuffix("s"), "deleted": True})
    elif verb == "content":
        await visit.say(CONTENTS[identity], b"application/octet-stream")
    elif verb == "input_items":
        await visit.tell({"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False})
    elif verb == "cancel":
        OBJECTS[identity] |= {"status": "cancelled"}
        await visit.tell(OBJECTS[identity])
    elif b"stream=true" in query:
        await _repeat(visit, OBJECTS[identity])
    else:
        await visit.tell(_worked_on(OBJECTS[identity]))


async def _make(visit: Visit, noun: str) -> None:
    made: Json = {"object": noun.removesuffix("s"), "created_at": CREATED_S}
    if noun == "files":
        head = f"Content-Type: {visit.asked['content-type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + visit.body, policy=email.policy.HTTP)
        [raw] = [part.get_payload(decode=True) for part in message.iter_parts() if part.get_filename() is not None]
        made |= {"id": f"file-{visit.serial}", "bytes": len(raw), "filename": "x.jsonl", "purpose": "batch"}
        made |= {"status": "processed"}
        CONTENTS[made["id"]] = raw
    else:
        asked = parse(visit.body)
        if asked.get("input_file_id") not in OBJECTS:
            await visit.refuse(400, "No such input file.")
            return
        visit.entry.billed = {"input_tokens": 10}
        made |= {"id": f"batch_{visit.serial}", "object": "batch", "status": "validating", "output_file_id": None}
        made |= {"endpoint": "/v1/chat/completions", "completion_window": "24h", **asked}
    visit.entry.id = made["id"]
    OBJECTS[made["id"]] = made
    await visit.tell(made)


def _worked_on(kept: Json) -> Json:
    """A batch is done as soon as somebody asks."""
    if kept.get("status") == "validating":
        output = f"file-out-{kept['id']}"
        OBJECTS[output] = {"id": output, "object": "file", "bytes": len(_OUTPUT), "created_at": CREATED_S,
                           "filename": "out.jsonl", "purpose": "batch_output", "status": "processed"}  # fmt: skip
        CONTENTS[output] = _OUTPUT
        kept |= {"status": "completed", "output_file_id": output}
    return kept


async def _list(visit: Visit, noun: str, query: bytes) -> None:
    """Newest first, 'after' an id, at most 'limit'."""
    asked = {name: values[0] for name, values in parse_qs(query.decode()).items()}
    prefix = "file-" if noun == "files" else "batch_"
    all_of: list[Any] = [each for key, each in reversed(OBJECTS.items()) if key.startswith(prefix)]
    if "after" in asked:
        all_of = all_of[[each["id"] for each in all_of].index(asked["after"]) + 1 :]
    limit = int(asked.get("limit", 10_000 if noun == "files" else 20))
    page = all_of[:limit]
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
    await visit.tell({"object": "list", "data": page, "has_more": len(all_of) > limit, **ends})


async def _repeat(visit: Visit, kept: Json) -> None:
    events = [
        Event(
            {"type": "response.created", "sequence_number": 0, "response": kept | {"usage": None}}, "response.created"
        ),
        Event({"type": "response.completed", "sequence_number": 1, "response": kept}, "response.completed"),
    ]
    await visit.say(b"".join(map(sse, events)), b"text/event-stream; charset=utf-8")
