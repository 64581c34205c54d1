"""Requests: what is read, what is refused, and that every byte nobody edits stays as it was."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from token_tracker.domain.errors import Refusal
from token_tracker.proxy.dialects import ROUTES, fields
from token_tracker.proxy.dialects.base import Dialect

CHAT = ROUTES["/v1/chat/completions"].dialect
ALL = [route.dialect for route in ROUTES.values()]
UNASKED = [route.dialect for path, route in ROUTES.items() if "completions" not in path]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
OBJECTS = st.dictionaries(NAMES, JSON, max_size=6)
LAYOUTS = st.sampled_from([(",", ":"), (", ", ": "), ("\n\t, ", " :\r\n ")])


@given(OBJECTS, LAYOUTS, st.booleans())
def test_a_body_that_names_each_field_once_is_kept_as_it_came(
    value: dict[str, Any], layout: tuple[str, str], is_ascii: bool
) -> None:
    body = json.dumps(value, separators=layout, ensure_ascii=is_ascii).encode("utf-8", "replace")
    split, original = fields.split(body)
    assert original == body
    assert list(split) == list(value)
    assert json.loads(fields.join(split)) == json.loads(body)


@given(OBJECTS, LAYOUTS)
def test_joining_what_was_split_keeps_every_value_byte_for_byte(value: dict[str, Any], layout: tuple[str, str]) -> None:
    body = json.dumps(value, separators=layout).encode()
    split, _ = fields.split(body)
    again, _ = fields.split(fields.join(split))
    assert list(again.items()) == list(split.items())
    assert all(raw in body for raw in split.values())


@pytest.mark.parametrize(
    "raw",
    [b"123456789012345678901234567890", b"1.10", b"1e999", b"-0.0", '"Gr\\u00fc\\u00dfe Größe"'.encode(), b"[ 1,2 ]"],
)
def test_a_value_nobody_edits_goes_out_byte_for_byte_when_the_model_is_replaced(raw: bytes) -> None:
    body = b'{"temperature":' + raw + b', "model" : "alias","messages":[ ]}'
    request = CHAT.read(body)
    assert CHAT.outgoing(request, model="alias", meter_stream=True) is body
    sent = CHAT.outgoing(request, model='m"ü', meter_stream=True)
    assert sent == b'{"temperature":' + raw + ',"model":"m\\"ü","messages":[ ]}'.encode()


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b'{"model":"cheap","model":"dear"}', b'{"model":"dear"}'),
        (b'{"model":"a","model":"a"}', b'{"model":"a"}'),
        (b'{ "n": 1, "model": "a", "n": 22 }', b'{"n":22,"model":"a"}'),
        (b'{"mod\\u0065l":"cheap","model":"dear"}', b'{"model":"dear"}'),
        (b'{"n":11,"model":"a","n":1}', b'{"n":1,"model":"a"}'),
        (b'{"n":"1","model":"a" , "n":[1, 2]}', b'{"n":[1, 2],"model":"a"}'),
    ],
)
def test_of_a_field_named_twice_the_last_counts_and_goes_out_alone(body: bytes, sent: bytes) -> None:
    request = CHAT.read(body)
    assert CHAT.outgoing(request, model=request.model, meter_stream=True) == sent


@given(OBJECTS.filter(bool), LAYOUTS, st.randoms())
def test_a_repeated_field_is_always_noticed(value: dict[str, Any], layout: tuple[str, str], random: Any) -> None:
    name = random.choice(list(value))
    text = json.dumps(value, separators=layout)
    body = (text[:-1] + layout[0] + json.dumps(name) + layout[1] + json.dumps(value[name]) + "}").encode()
    split, original = fields.split(body)
    assert original != body
    assert original == fields.join(split)


@pytest.mark.parametrize("dialect", ALL, ids=lambda dialect: dialect.wire.value)
@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\xef\xbb\xbf" + b'{"model":"m"}', "byte-order mark"),
        (b"[]", "not array"),
        (b"null", "not null"),
        (b'"model"', "not str"),
        (b'{"model":"m","temperature":NaN}', "NaN"),
        (b'{"model":"m","x":Infinity}', "not valid JSON"),
        (b'{"model":"m"', "not valid JSON"),
        (b'{"model":"m"}{}', "not valid JSON"),
        (b'{"model":"m",}', "not valid JSON"),
        ('{"model":"m"}'.encode("utf-16"), "not valid JSON"),
        (b'{"\xff":1,"model":"m"}', "UTF-8"),
        (b'{"model":"m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested"),
        (b"{}", "'model' is missing"),
        (b'{"model":null}', "must be a string"),
        (b'{"model":5}', "must be a string"),
        (b'{"model":["m"]}', "must be a string"),
        (b'{"model":"\xff"}', "must be a string"),
        (b'{"model":""}', "'model' is empty"),
        (b'{"model":"' + b"m" * 256 + b'"}', "255"),
        (b'{"model":"m\\u0000"}', "control characters"),
        (b'{"model":"m","stream":"true"}', "true, false or null"),
        (b'{"model":"m","stream":1}', "true, false or null"),
        (b'{"model":"m","stream":{}}', "true, false or null"),
    ],
)
def test_a_body_that_is_no_request_is_refused_with_the_reason(dialect: Dialect, body: bytes, says: str) -> None:
    with pytest.raises(Refusal) as refused:
        dialect.read(body)
    assert (refused.value.status, refused.value.code) == (400, "invalid_request_error")
    assert says in refused.value.message
    assert "Nothing was forwarded" in refused.value.message


@given(st.binary(max_size=200))
def test_no_body_does_worse_than_a_refusal(body: bytes) -> None:
    try:
        CHAT.read(body)
    except Refusal as refusal:
        assert refusal.status == 400


def test_a_model_of_255_characters_is_taken() -> None:
    assert len(CHAT.read(msgspec.json.encode({"model": "é" * 255})).model) == 255


@pytest.mark.parametrize(("raw", "stream"), [(b"true", True), (b"false", False), (b"null", False)])
def test_stream_is_a_boolean_or_null(raw: bytes, stream: bool) -> None:
    assert CHAT.read(b'{"model":"m","stream":' + raw + b"}").stream is stream
    assert CHAT.read(b'{"model":"m"}').stream is False


@pytest.mark.parametrize(
    ("path", "body", "end_user", "metadata", "bound"),
    [
        ("/v1/chat/completions", {"user": "u", "metadata": {"a": "b"}, "max_tokens": 9}, "u", '{"a": "b"}', 9),
        ("/v1/chat/completions", {"max_completion_tokens": 7, "max_tokens": 9}, "", "", 7),
        ("/v1/chat/completions", {"user": 5, "metadata": {"a": 1}, "max_tokens": "9"}, "", "", None),
        ("/v1/chat/completions", {"user": None, "metadata": [], "max_tokens": -1}, "", "", None),
        ("/v1/chat/completions", {"metadata": {"a": "b" * 4096}, "max_tokens": True}, "", "", None),
        ("/v1/responses", {"user": "u", "metadata": {"a": "b"}, "max_output_tokens": 9}, "u", '{"a": "b"}', 9),
        ("/v1/messages", {"user": "x", "metadata": {"user_id": "u"}, "max_tokens": 9}, "u", "", 9),
        ("/v1/messages", {"metadata": None, "max_tokens": None}, "", "", None),
        ("/v1/messages", {"metadata": {"user_id": 5}}, "", "", None),
        ("/v1/embeddings", {"user": "u", "max_tokens": 9}, "u", "", None),
    ],
)
def test_the_facts_of_a_request_are_read_where_their_dialect_keeps_them(
    path: str, body: dict[str, Any], end_user: str, metadata: str, bound: int | None
) -> None:
    request = ROUTES[path].dialect.read(json.dumps({"model": "m", **body}).encode())
    assert (request.end_user, request.metadata, request.output_bound) == (end_user, metadata, bound)


@pytest.mark.parametrize("dialect", UNASKED, ids=lambda d: d.wire.value)
def test_only_completions_have_a_usage_option(dialect: Dialect) -> None:
    body = b'{"model":"m", "stream":true}'
    assert dialect.outgoing(dialect.read(body), model="m", meter_stream=True) is body
    assert dialect.outgoing(dialect.read(body), model="n", meter_stream=True) == b'{"model":"n","stream":true}'


@pytest.mark.parametrize(
    ("path", "body", "tokens"),
    [
        ("/v1/chat/completions", {"messages": ["x" * 94], "temperature": 1}, 25),
        ("/v1/chat/completions", {"messages": ["data:image/png;base64," + "A" * 100_000]}, 1007),
        ("/v1/messages", {"system": "x" * 38, "messages": [], "tools": None}, 11),
        ("/v1/responses", {"input": "x" * 38, "instructions": None}, 10),
        ("/v1/embeddings", {"input": ["x" * 36]}, 10),
        ("/v1/completions", {"prompt": "x" * 36, "suffix": "y", "stop": "z" * 99}, 11),
        ("/v1/rerank", {"query": "x" * 6, "documents": ["x" * 8], "top_n": 3}, 5),
        ("/v1/audio/speech", {"input": "x" * 38, "voice": "v" * 400}, 10),
        ("/v1/images/generations", {"prompt": "x" * 38}, 10),
    ],
)
def test_input_is_estimated_from_the_text_alone(path: str, body: dict[str, Any], tokens: int) -> None:
    dialect = ROUTES[path].dialect
    assert dialect.estimate_input_tokens(dialect.read(json.dumps({"model": "m", **body}).encode())) == tokens
