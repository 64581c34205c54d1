"""Which headers pass, both ways."""

from __future__ import annotations

from token_tracker.proxy.headers import decodable, down, split


def test_credentials_cookies_and_our_own_headers_never_go_upstream() -> None:
    incoming = split(
        [
            (b"host", b"gateway"),
            (b"authorization", b"Bearer sk-tt-1"),
            (b"x-api-key", b"sk-tt-1"),
            (b"api-key", b"sk-tt-1"),
            (b"cookie", b"a=b"),
            (b"x-tt-agent", b"cli"),
            (b"x-litellm-call-id", b"spoofed"),
            (b"x-openwebui-user-id", b"u"),
            (b"x-forwarded-for", b"10.0.0.1"),
            (b"forwarded", b"for=10.0.0.1"),
            (b"x-real-ip", b"10.0.0.1"),
            (b"connection", b"keep-alive"),
            (b"transfer-encoding", b"chunked"),
            (b"expect", b"100-continue"),
        ]
    )
    assert incoming.forward == []
    assert incoming.own[b"x-tt-agent"] == b"cli"


def test_all_other_headers_go_upstream_in_their_order_with_duplicates() -> None:
    headers = [(b"anthropic-beta", b"one"), (b"x-custom", b"1"), (b"anthropic-beta", b"two"), (b"user-agent", b"u/1")]
    assert split(headers).forward == [(name.decode(), value.decode()) for name, value in headers]


def test_a_header_that_connection_names_stays_on_its_hop() -> None:
    headers = [(b"x-hop", b"1"), (b"x-kept", b"2"), (b"connection", b"close, X-Hop")]
    assert split(headers).forward == [("x-kept", "2")]


def test_bytes_that_are_no_utf8_reach_the_upstream_as_text() -> None:
    assert split([(b"x-name", b"caf\xe9")]).forward == [("x-name", "café")]
    assert split([(b"x-name", "café".encode())]).forward == [("x-name", "café")]


def test_only_encodings_that_the_gateway_can_read_are_asked_for() -> None:
    assert decodable(b"gzip, deflate, br, zstd") == "gzip, deflate, br"
    assert decodable(b"zstd;q=1.0, gzip;q=0.5") == "gzip;q=0.5"
    assert decodable(b"zstd") == decodable(b"*") == "identity"


def test_an_answers_headers_pass_but_for_the_hop_and_what_would_bind_the_client_to_the_upstream() -> None:
    raw = [
        (b"Content-Type", b"application/json"),
        (b"X-RateLimit-Remaining-Requests", b"9"),
        (b"Retry-After", b"3"),
        (b"Vary", b"a"),
        (b"Vary", b"b"),
        (b"Set-Cookie", b"session=1"),
        (b"Alt-Svc", b"h3"),
        (b"Strict-Transport-Security", b"max-age=1"),
        (b"Connection", b"keep-alive, X-Hop"),
        (b"X-Hop", b"1"),
        (b"Transfer-Encoding", b"chunked"),
        (b"X-TT-Request-Id", b"spoofed"),
    ]
    assert down(raw, b"id-1") == [
        (b"x-tt-request-id", b"id-1"),
        (b"content-type", b"application/json"),
        (b"x-ratelimit-remaining-requests", b"9"),
        (b"retry-after", b"3"),
        (b"vary", b"a"),
        (b"vary", b"b"),
    ]
