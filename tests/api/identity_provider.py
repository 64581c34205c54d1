"""An OpenID Connect provider as a process of its own: `python -m tests.api.identity_provider PORT`.

Whoever follows the link is logged in at once, as whom and with what manners the link's own fields say:
`as` (preferred_username), `groups` (comma-separated), `manner` (refused, expired, other_nonce, other_audience,
other_key, unsigned).
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from tests import leaks
from tests.ports import free_port

CLIENT, SECRET = "token-tracker", leaks.secret("secret of the OIDC client", "the client's secret")
KEY, OTHER_KEY = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
CODES: dict[str, dict[str, str]] = {}


class Provider(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, dict(parse_qsl(urlsplit(self.path).query))
        issuer = f"http://127.0.0.1:{self.server.server_address[1]}"
        if path == "/.well-known/openid-configuration":
            ends = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
            self.answer({"issuer": issuer} | {name: f"{issuer}/{end}" for name, end in ends.items()})
        elif path == "/keys":
            key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key()))
            self.answer({"keys": [key | {"kid": "1", "use": "sig", "alg": "RS256"}]})
        else:
            self.authorize(query)

    def authorize(self, query: dict[str, str]) -> None:
        assert query["client_id"] == CLIENT and query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256" and "openid" in query["scope"]
        back = {"state": query["state"], "authuser": "0"}
        if query.get("manner") == "refused":
            back["error"] = "access_denied"
        else:
            back["code"] = secrets.token_hex(8)
            CODES[back["code"]] = query
        self.send_response(302)
        self.send_header("Location", f"{query['redirect_uri']}?{urlencode(back)}")
        self.end_headers()

    def do_POST(self) -> None:
        form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        asked = CODES.pop(form.get("code", ""), None)
        verifier = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(verifier).decode().rstrip("=")
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        good = asked is not None and challenge == asked["code_challenge"]
        if not good or asked is None or self.headers.get("Authorization") != f"Basic {basic}":
            self.answer({"error": "invalid_grant"}, 400)
            return
        assert form["redirect_uri"] == asked["redirect_uri"]
        self.answer({"access_token": "x", "token_type": "Bearer", "id_token": self.id_token(asked)})

    def id_token(self, asked: dict[str, str]) -> str:
        manner, now = asked.get("manner"), int(time.time())
        claims: dict[str, Any] = {
            "iss": f"http://127.0.0.1:{self.server.server_address[1]}",
            "sub": "id of " + asked["as"],
            "aud": "somebody else" if manner == "other_audience" else CLIENT,
            "iat": now - 7200 if manner == "expired" else now,
            "exp": now - 3600 if manner == "expired" else now + 300,
            "nonce": "another" if manner == "other_nonce" else asked["nonce"],
            "preferred_username": asked["as"],
            "groups": asked.get("groups", "").split(","),
            "squad": asked.get("squad", ""),
        }
        if manner == "unsigned":
            return jwt.encode(claims, None, algorithm="none", headers={"kid": "1"})
        return jwt.encode(claims, OTHER_KEY if manner == "other_key" else KEY, "RS256", headers={"kid": "1"})

    def answer(self, document: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def running_provider() -> Iterator[str]:
    """Its issuer, once it answers."""
    port = free_port()
    with subprocess.Popen([sys.executable, "-m", "tests.api.identity_provider", str(port)]) as process:
        url, give_up = f"http://127.0.0.1:{port}", time.monotonic() + 20
        while True:
            try:
                httpx.get(f"{url}/.well-known/openid-configuration").raise_for_status()
                break
            except httpx.HTTPError:
                assert time.monotonic() < give_up, "the provider did not start"
                time.sleep(0.05)
        yield url
        process.terminate()


def follow(link: str, who: str, **fields: str) -> str:
    """As a browser at the provider: the address that it is sent back to, without its host."""
    answer = httpx.get(httpx.URL(link).copy_merge_params({"as": who, **fields}))
    back = urlsplit(answer.headers["Location"])
    return f"{back.path}?{back.query}"


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Provider).serve_forever()
