"""`doctor` on an installation in good health, and on one where everything is wrong at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests.conftest import using
from tests.functional.command_line import must, typed
from tests.functional.installation import DEMO_MODEL, Installation, wait_until
from tests.notifications.servers import PASSWORD, Mailbox, certificate, mail_server
from tests.ports import free_ports
from token_tracker.cli.checks.findings import Status
from token_tracker.cli.checks.stores import _compared
from token_tracker.config.encryption import Keyring, make_key
from token_tracker.database.session import transaction
from token_tracker.services import provider_credentials

UPSTREAM_KEY = "sk-of-the-upstream"


@contextmanager
def redis_server(directory: Path, *options: str) -> Iterator[str]:
    """Its address."""
    if shutil.which("redis-server") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("redis-server is not installed")
        pytest.skip("redis-server is not installed")
    (port,) = free_ports(1)
    words = ["redis-server", "--port", str(port), "--save", "", "--dir", str(directory), *options]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "Ready to accept connections" in line:
                break
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.communicate()


@contextmanager
def upstream() -> Iterator[str]:
    """An OpenAI-compatible base that knows one key."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_right = self.path == "/v1/models" and self.headers["Authorization"] == f"Bearer {UPSTREAM_KEY}"
            self.send_response(200 if is_right else 401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def entry(name: str, base: str, key: str = UPSTREAM_KEY) -> dict[str, Any]:
    params = {"model": f"openai/{name}", "api_base": base, "api_key": key}
    return {"model_name": name, "lane": "direct", "litellm_params": params}


def by_check(findings: list[dict[str, str]]) -> dict[str, list[tuple[str, str, str]]]:
    found: dict[str, list[tuple[str, str, str]]] = {}
    for each in findings:
        found.setdefault(each["check"], []).append((each["status"], each["message"], each["remedy"]))
    return found


def test_an_installation_in_good_health(tmp_path: Path, database_url: str) -> None:
    tls = certificate(tmp_path)
    with (
        redis_server(tmp_path) as redis_url,
        upstream() as base,
        mail_server(Mailbox(), tls=tls, security="starttls", login=True) as mail_port,
    ):
        mail = {"SMTP_SERVER": "127.0.0.1", "SMTP_PORT": str(mail_port), "SMTP_FROM_ADDRESS": "tt@tt.example"}
        login = {"SMTP_USERNAME": "tt", "SMTP_PASSWORD": PASSWORD, "NOTIFICATION_EMAIL": "ops@tt.example"}
        trust = {"TOKEN_TRACKER_SMTP_SECURITY": "starttls", "SSL_CERT_FILE": str(tls / "cert.pem")}
        config = {"model_list": [DEMO_MODEL, entry("mine", base)], "budget": {"daily": 10}}
        environment = {"REDIS_URL": redis_url, **mail, **login, **trust}
        with Installation(tmp_path, config, database_url, **environment) as installation:
            installation.start()
            wait_until(lambda: typed(installation, "doctor").code == 0, 20, "health")
            said = typed(installation, "doctor", "--json")
    assert said.code == 0
    assert said.json["healthy"] is True
    found = by_check(said.json["findings"])
    statuses = {name: {status for status, _, _ in each} for name, each in found.items()}
    assert statuses.pop("litellm") == {"skipped"}, "no model needs it"
    assert statuses.pop("tls") == {"skipped"}, "no certificate is configured"
    assert statuses.pop("credentials") == {"skipped"}, "no provider's key is in the database"
    assert set(statuses) == {
        *("configuration", "database", "clocks", "data directory", "file modes", "disk", "journal", "redis", "prices"),
        *("smtp", "upstreams", "gateway", "api", "dashboard", "worker"),
    }
    assert all(each == {"ok"} for each in statuses.values()), found
    assert "mine" in found["upstreams"][0][1]


def test_what_is_wrong_is_named_with_a_remedy(tmp_path: Path) -> None:
    """Everything at once; one trouble hides no other."""
    with redis_server(tmp_path, "--maxmemory-policy", "allkeys-lru") as redis_url, upstream() as base:
        dead, mute = free_ports(2)
        public = "http://provider.invalid/v1"
        config = {
            "model_list": [
                entry("mine", base, "sk-wrong"),
                entry("dead", f"http://127.0.0.1:{dead}/v1"),
                entry("nobody-prices-me", public),
            ],
            "budget": {"daily": 10},
        }
        mail = {"SMTP_SERVER": "127.0.0.1", "SMTP_PORT": str(mute), "SMTP_FROM_ADDRESS": "tt@tt.example"}
        installation = Installation(
            tmp_path,
            config,
            REDIS_URL=redis_url,
            NOTIFICATION_EMAIL="ops@tt.example",
            TOKEN_TRACKER_SMTP_SECURITY="none",
            **mail,
        )
        installation.initialise()
        installation.environment["TOKEN_TRACKER_PROXY_PORT"] = base.split(":")[2].removesuffix("/v1")
        (installation.data_dir / "token_tracker.db").chmod(0o644)
        segment = installation.data_dir / "journal" / "0123abcd" / "4567cdef-0"
        segment.parent.mkdir(parents=True)
        with segment.open("wb") as file:
            file.truncate(40 * 1024 * 1024)
        said = typed(installation, "doctor", "--json")
    assert said.code == 1
    found = by_check(said.json["findings"])
    refused, unreached, *_ = sorted(found["upstreams"], key=lambda each: "refuses" not in each[1])
    assert refused[0] == "problem" and "refuses the key with 401" in refused[1]
    assert unreached[0] == "problem" and "is not reached" in unreached[1]
    expected = {
        "redis": ("problem", "allkeys-lru", "CONFIG SET maxmemory-policy noeviction"),
        "smtp": ("problem", f"127.0.0.1:{mute}", "SMTP_PORT"),
        "file modes": ("problem", "mode 644", f"chmod 600 {installation.data_dir / 'token_tracker.db'}"),
        "journal": ("warning", "40.0 MiB of calls not booked", "token-tracker proxy"),
        "prices": ("problem", "'nobody-prices-me'", "token-tracker prices set openai/nobody-prices-me"),
        "gateway": ("problem", "another program", "TOKEN_TRACKER_PROXY_PORT"),
        "api": ("warning", "nothing answers", "token-tracker api"),
        "worker": ("warning", "no alerts are sent", "token-tracker worker"),
    }
    for name, (status, message, remedy) in expected.items():
        assert any(each[0] == status and message in each[1] and remedy in each[2] for each in found[name]), (
            name,
            found[name],
        )


def test_a_database_of_another_version_and_one_that_is_away(tmp_path: Path, laid_url: str) -> None:
    installation = Installation(tmp_path, None, laid_url)
    installation.data_dir.mkdir(mode=0o700)
    for revision, remedy in (("0001", "token-tracker init"), ("9999", "install that version")):
        with using(laid_url) as engine, engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
        said = typed(installation, "doctor", "--json")
        ((status, message, told),) = by_check(said.json["findings"])["database"]
        assert (said.code, status) == (1, "problem")
        assert revision in message and remedy in told
    (port,) = free_ports(1)
    said = typed(installation, "doctor", DATABASE_URL=f"postgresql://tt:hush-hush@127.0.0.1:{port}/tt")
    assert said.code == 1
    assert "Connection refused" in said.out and "hush-hush" not in said.out + said.err
    said = typed(installation, "doctor", TOKEN_TRACKER_PROXY_PROT="1", DATABASE_URL="mysql://x/y")
    assert said.code == 1
    assert "TOKEN_TRACKER_PROXY_PORT" in said.out and "DATABASE_URL" in said.out


def test_a_providers_key_that_nothing_decrypts_is_said_by_doctor_and_by_restore(tmp_path: Path) -> None:
    mine, another = make_key(), make_key()
    with upstream() as base:
        named = [entry("mine", base), entry("lost", base)]
        for each, credential in zip(named, ("prod", "never-made"), strict=True):
            del each["litellm_params"]["api_key"]
            each["litellm_params"]["litellm_credential_name"] = credential
        installation = Installation(tmp_path, {"model_list": named}, TOKEN_TRACKER_ENCRYPTION_KEY=mine)
        installation.initialise()
        with using(f"sqlite:///{installation.data_dir / 'token_tracker.db'}") as engine, transaction(engine) as session:
            provider_credentials.create(
                session,
                name="prod",
                provider="openai",
                api_key=UPSTREAM_KEY,
                keyring=Keyring([mine]),
                created_by="admin",
                at=datetime.now(UTC),
            )
        found = by_check(typed(installation, "doctor", "--json").json["findings"])
        assert [(status, "'never-made'" in message) for status, message, _ in found["credentials"]] == [
            ("problem", True)
        ]
        assert [status for status, _, _ in found["upstreams"]] == ["ok"], "asked with the key from the database"
        other = {"TOKEN_TRACKER_ENCRYPTION_KEY": another}
        found = by_check(typed(installation, "doctor", "--json", **other).json["findings"])
        assert ["'prod'" in message for _, message, _ in found["credentials"]] == [False, True]
        assert "TOKEN_TRACKER_ENCRYPTION_KEY" in found["credentials"][1][2]
    must(installation, "backup", "books.zip")
    for key, is_said in ((mine, False), (another, True)):
        empty = {"DATABASE_URL": f"sqlite:///{tmp_path / key[:8]}.db", "TOKEN_TRACKER_ENCRYPTION_KEY": key}
        said = must(installation, "restore", "books.zip", **empty)
        assert ("decrypts these providers' keys: prod" in said.err) is is_said


def test_clocks_that_differ_beyond_what_the_question_took() -> None:
    assert _compared("the database", 100.0, 99.0, 101.0).status is Status.OK, "it took 2 s to answer"
    assert _compared("the database", 103.0, 99.0, 101.0).status is Status.WARNING
    off = _compared("the database", 90.0, 99.0, 99.5)
    assert off.status is Status.PROBLEM
    assert "9.0 s" in off.message and "timedatectl" in off.remedy
