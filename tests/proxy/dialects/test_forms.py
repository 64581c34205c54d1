"""Multipart forms: what is read, what is refused, and that an edit leaves every other byte as it was."""

from __future__ import annotations

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from token_tracker.domain.errors import Refusal
from token_tracker.proxy.dialects import ROUTES, find
from token_tracker.proxy.dialects.base import Envelope
from token_tracker.proxy.dialects.forms import is_form, parse

KIND = "multipart/form-data; boundary=b"
UPLOAD = ROUTES["/v1/audio/transcriptions"].dialect
# Contents that look like boundaries without being any, and like headers.
CONTENTS = st.lists(
    st.sampled_from([b"\r\n", b"--b", b"-", b"b", b"\r", b"\n", b"\x00\xff", b"name="]), max_size=8
).map(b"".join)
NAMES = st.text("abc[]_", min_size=1, max_size=5).filter(lambda name: name != "model")


def form(*parts: tuple[bytes, bytes], end: bytes = b"--b--\r\n") -> bytes:
    return b"".join(b"--b\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % part for part in parts) + end


def is_harmless(content: bytes) -> bool:
    """No boundary after a line break of any kind in it, nor one that begins where it ends."""
    around = b"\r\n" + content + b"\r\n"
    return b"\n--b" not in around and b"\r--b" not in around


@given(st.lists(st.tuples(NAMES, CONTENTS.filter(is_harmless)), max_size=5), st.integers(0, 5))
def test_parts_are_found_and_a_changed_model_changes_nothing_else(fields: list[tuple[str, bytes]], at: int) -> None:
    parts = [(b'name="%s"; filename="f"' % name.encode(), content) for name, content in fields]
    before, after = form(*parts[:at], end=b""), form(*parts[at:])
    named = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n%s\r\n'
    body = before + named % b"alias" + after
    read = parse(body, KIND)
    found = [(part.name, body[part.value_start : part.value_end]) for part in read.parts if part.name != "model"]
    assert found == fields
    request = UPLOAD.read(body, Envelope(KIND))
    assert (request.model, UPLOAD.outgoing(request, model="alias", meter_stream=True)) == ("alias", body)
    longer = UPLOAD.outgoing(request, model="a longer näme", meter_stream=True)
    assert longer == before + named % "a longer näme".encode() + after


@given(st.lists(st.tuples(NAMES, CONTENTS.filter(is_harmless)), max_size=5), st.sets(NAMES, max_size=2))
def test_a_rebuilt_form_has_what_was_added_and_not_what_was_left_out(
    fields: list[tuple[str, bytes]], left_out: set[str]
) -> None:
    read = parse(form(*((b'name="%s"' % name.encode(), content) for name, content in fields)), KIND)
    again = parse(read.rebuilt(left_out, [("model", "m"), ("api_key", "k")]), KIND)
    found = [(part.name, again.body[part.value_start : part.value_end]) for part in again.parts]
    kept = [(name, content) for name, content in fields if name not in left_out]
    assert found == [("model", b"m"), ("api_key", b"k"), *kept]


def test_the_standard_librarys_reader_agrees() -> None:
    body = form((b"name=model", b"m"), (b'name="file"; filename="a\\"b.wav"', b"\x00\r\n-b"), (b'name="user"', b""))
    message = email.message_from_bytes(f"Content-Type: {KIND}\r\n\r\n".encode() + body, policy=email.policy.HTTP)
    theirs = [part.get_param("name", header="content-disposition") for part in message.iter_parts()]  # type: ignore[attr-defined]
    assert [part.name for part in parse(body, KIND).parts] == theirs == ["model", "file", "user"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        form((b"name=model", b"m"), end=b""),
        form((b"name=model", b"m"), end=b"--bb--\r\n"),
        form((b"name=model", b"m"), (b"name=model", b"n")),
        form((b'name=model; filename="model"', b"m")),
        form((b"name*=utf-8''model", b"m")),
        form((b"name=model; name=user", b"m")),
        form((b"name=model", b"m"), (b"name=x; name*0=n", b"9")),
        form((b"name=model", b"m"), (b'name="x\\"; name="n"', b"9")),
        form((b"name=model", b"m"), (b'name="x"; filename="\\"; name="n"', b"9")),
        form((b"name=model", b"m"), (b"name=x;\r\n name=n", b"9")),
        form((b"name=model", b"m"), (b'name="x"\nX-Other: y', b"9")),
        form((b"name=model", b"m"), (b"name=file; filename*0=f", b"9")),
        form((b"name=model", b"m"), (b"name=x", b"y\n--b\nContent-Disposition: form-data; name=n\n\n9")),
        form((b"name=model", b"m"), (b"name=x", b"y\r--b\rContent-Disposition: form-data; name=n\r\r9")),
        form(
            (b"name=model", b"m"),
            (b"name=x", b"y"),
            end=b"--b \r\nContent-Disposition: form-data; name=n\r\n\r\n9\r\n--b--",
        ),
        form((b"name=model", b"m")) + form((b"name=n", b"9")),
        form((b"name=model\r\nContent-Disposition: form-data; name=user", b"m")),
        form((b"name=model", b"")),
        form((b"name=model", b"m\nn")),
        form((b"name=model", b"\xff")),
        form((b"name=model", b"m" * 5000)),
        b"--b\r\n\r\nm\r\n--b--\r\n",
        form(*[(b"name=x", b"")] * 1100, (b"name=model", b"m")),
    ],
)
def test_what_could_be_read_in_two_ways_or_not_at_all_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        UPLOAD.read(body, Envelope(KIND))
    assert (refused.value.status, refused.value.code) == (400, "invalid_request_error")


@pytest.mark.parametrize("parameter", ["", '; boundary=""', "; xboundary=b"])
def test_a_form_without_a_boundary_is_refused(parameter: str) -> None:
    kind = f"multipart/form-data{parameter}"
    assert is_form(kind)
    with pytest.raises(Refusal, match="no boundary"):
        UPLOAD.read(form((b"name=model", b"m")), Envelope(kind))


@pytest.mark.parametrize(
    "parameter",
    [
        "boundary=b; boundary=c",
        "boundary=b; boundary*=utf-8''c",
        "boundary=b; boundary*0=c",
        'x="; boundary=b"; boundary=b; boundary=c',
        "boundary=b, multipart/form-data; boundary=c",
        "boundary=b; charset=utf-7",
        "boundary=b; charset*=utf-8''utf-7",
        'boundary="b\\""',
    ],
)
def test_a_content_type_that_could_be_read_in_two_ways_is_refused(parameter: str) -> None:
    with pytest.raises(Refusal):
        UPLOAD.read(form((b"name=model", b"m")), Envelope(f"multipart/form-data; {parameter}"))


@pytest.mark.parametrize("boundary", ["----WebKitFormBoundary7MA4YWxkTrZu0gW", "*****", "a'()+_,-./:=?b", "0" * 70])
def test_the_boundaries_that_clients_make_are_understood(boundary: str) -> None:
    body = form((b"name=model", b"m")).replace(b"--b", b"--" + boundary.encode())
    assert UPLOAD.read(body, Envelope(f'multipart/form-data; charset=utf-8; boundary="{boundary}";')).model == "m"


def test_a_boundary_in_quotes_and_a_type_in_capitals_are_understood() -> None:
    body = form((b"name=model", b"m"), (b"name=stream", b"True"))
    read = UPLOAD.read(body, Envelope('Multipart/Form-Data; Boundary="b"'))
    assert (read.model, read.stream) == ("m", True)


@pytest.mark.parametrize("said", ["", "other", "named"])
def test_the_model_of_the_path_counts_instead_of_the_forms(said: str) -> None:
    parts = [(b"name=model", said.encode())] if said else []
    request = UPLOAD.read(form(*parts, (b"name=user", b"u")), Envelope(KIND, "named"))
    assert (request.model, request.end_user) == ("named", "u")
    sent = parse(UPLOAD.outgoing(request, model="upstream", meter_stream=False), KIND)
    assert (sent.text("model"), sent.text("user"), len(sent.parts)) == ("upstream", "u", 2)
    assert parse(request.original, KIND).text("model") == "named"


def test_an_upload_may_come_as_json() -> None:
    request = UPLOAD.read(b'{"model": "m", "url": "x"}', Envelope("application/json"))
    assert UPLOAD.outgoing(request, model="n", meter_stream=False) == b'{"model":"n","url":"x"}'


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/chat/completions", ("/v1/chat/completions", "")),
        ("/v1/v1/messages", ("/v1/messages", "")),
        ("/openai/deployments/gpt-4o/chat/completions", ("/v1/chat/completions", "gpt-4o")),
        ("/openai/deployments/gpt-4o/completions", ("/v1/completions", "gpt-4o")),
        ("/openai/deployments/a/b/audio/transcriptions", ("/v1/audio/transcriptions", "a/b")),
        ("/openai/deployments/gpt-4o/nothing", ("/openai/deployments/gpt-4o/nothing", "")),
        ("/openai/v1/responses", ("/v1/responses", "")),
        ("/openai/models", ("/v1/models", "")),
        ("/health", ("/health", "")),
    ],
)
def test_azures_paths_are_the_same_routes(path: str, expected: tuple[str, str]) -> None:
    assert find(path) == expected


def test_the_model_of_the_path_counts_instead_of_a_json_bodys() -> None:
    chat = ROUTES["/v1/chat/completions"].dialect
    for body in (b'{"messages": []}', b'{"messages": [], "model": "other"}', b'{"messages": [], "model": 7}'):
        request = chat.read(body, Envelope("", "named"))
        assert chat.outgoing(request, model="named", meter_stream=True) == b'{"messages":[],"model":"named"}'
    same = b'{ "model": "named" }'
    assert chat.outgoing(chat.read(same, Envelope("", "named")), model="named", meter_stream=True) is same
