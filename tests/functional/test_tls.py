"""TLS for gateway, API and dashboard, with a real handshake that checks the certificate."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import openai
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.functional.installation import Installation

pytestmark = pytest.mark.timeout(120)


def certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed one for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "token tracker")]), datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "cert.pem", directory / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem, pkcs8, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(pem, pkcs8, plain))
    return paths


def test_all_three_speak_tls_with_one_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    installation = Installation(tmp_path, TOKEN_TRACKER_TLS_CERT="cert.pem", TOKEN_TRACKER_TLS_KEY=str(key))
    for name in ("proxy_url", "api_url", "dashboard_url"):
        setattr(installation, name, getattr(installation, name).replace("http:", "https:"))
    with installation.start("all") as running:
        assert f"https://127.0.0.1:{httpx.URL(running.proxy_url).port}/v1" in running.printed
        trusting = ssl.create_default_context(cafile=str(cert))
        with httpx.Client(verify=trusting) as client:
            chat = openai.OpenAI(base_url=f"{running.proxy_url}/v1", api_key=running.key, http_client=client)
            messages = [{"role": "user", "content": "one two three"}]
            chunks = list(chat.chat.completions.create(model="demo", messages=messages, stream=True))  # type: ignore[call-overload]
            assert any(chunk.choices and chunk.choices[0].delta.content for chunk in chunks)
            said = client.post(
                f"{running.proxy_url}/v1/messages",
                headers={"x-api-key": running.key, "anthropic-version": "2023-06-01"},
                json={"model": "demo", "max_tokens": 50, "messages": messages},
            )
            assert said.json()["usage"]["input_tokens"] == 3
            login = client.post(
                f"{running.api_url}/api/auth/login", json={"username": "admin", "password": running.admin_password}
            )
            assert login.status_code == 200
            page = client.get(f"{running.dashboard_url}/login")
            assert page.status_code == 200 and "Secure" in page.headers["set-cookie"]
            for answer in (login, page, client.get(f"{running.api_url}/nothing"), client.get(running.dashboard_url)):
                assert answer.headers["strict-transport-security"] == "max-age=31536000"
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"{running.proxy_url}/health/live", verify=ssl.create_default_context(cafile=_certifi()))
        with socket.create_connection(("127.0.0.1", httpx.URL(running.proxy_url).port or 0), 5) as plain:
            plain.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200" not in plain.recv(64), "nothing is answered in the clear"


def _certifi() -> str:
    import certifi

    return certifi.where()
