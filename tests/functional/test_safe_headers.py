"""What browsers are told by every answer of the API and the dashboard, also by those that no application made."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import httpx
import pytest

from tests.functional.house import House

PATHS = {
    "api": ("/", "/api", "/api/health", "/api/keys", "/api/docs/", "/api/docs/swagger-ui.css", "/nothing"),
    "dashboard": ("/", "/login", "/assets/style.css", "/_dash-layout", "/nothing"),
}


@pytest.mark.parametrize(("component", "path"), [(name, path) for name, paths in PATHS.items() for path in paths])
def test_every_answer_carries_the_safe_headers_and_no_cors(house: House, component: str, path: str) -> None:
    base = house.installation.api_url if component == "api" else house.installation.dashboard_url
    answer = httpx.get(base + path, headers={"origin": "https://elsewhere.example"})
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] in ("no-referrer", "same-origin")
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "strict-transport-security" not in answer.headers, "in the clear nobody may believe it"
    assert not [name for name in answer.headers if name.startswith("access-control")]
    if answer.headers["content-type"].startswith(("application/json", "text/html")):
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("component", ["api", "dashboard"])
@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (b"GET /api/keys?user=" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "uri_too_long"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nx-long: " + b"sk-secret" * 1500 + b"\r\n\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nx y: <script>\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400, "bad_request"),
        (b"<script>\r\n\r\n", 400, "bad_request"),
    ],
)
def test_what_is_no_request_is_refused_in_json_that_repeats_nothing(
    house: House, component: str, head: bytes, status: int, code: str
) -> None:
    url = urlsplit(house.installation.api_url if component == "api" else house.installation.dashboard_url)
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=10) as client:
        client.sendall(head)
        answer = b""
        while part := client.recv(65_536):
            answer += part
    top, _, body = answer.decode().partition("\r\n\r\n")
    assert top.startswith(f"HTTP/1.1 {status} ") and "application/json" in top and "nosniff" in top
    assert f'"{code}"' in body and "script" not in body and "secret" not in body
    assert "sk-secret" not in house.installation.printed
