"""A mail server that can misbehave, and a receiver of webhooks; both real, on free ports of this machine."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

from tests.ports import free_port

PASSWORD = "open sesame"


class Mailbox:
    """What the server took; `says`: what it answers at a stage ('CONNECT', 'AUTH', 'MAIL', 'RCPT', 'DATA') once for
    each text in the list, the last for ever; `cuts_at`: the stages at which it hangs up, once each (also 'EHLO', 'TLS',
    'QUIT', and 'TAKEN': it has taken the mail and not said so); `reached` is called with each stage."""

    def __init__(self) -> None:
        self.taken: list[Message] = []
        self.says: dict[str, list[str]] = {}
        self.cuts_at: set[str] = set()
        self.is_open = False
        self.reached: Callable[[str], object] = lambda stage: None

    def ids(self) -> list[str]:
        return [str(message["Message-ID"]) for message in self.taken]

    async def handle_EHLO(
        self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        self._cut(server, "EHLO")
        return responses

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        envelope.mail_from = address
        return self._answer(server, "MAIL")

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        answer = self._answer(server, "RCPT")
        if answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        answer = self._answer(server, "DATA")
        if answer.startswith("2") and server.transport is not None and not server.transport.is_closing():
            self.taken.append(message_from_bytes(envelope.content))
            self._cut(server, "TAKEN")
        return answer

    async def handle_QUIT(self, server: Any, session: Any, envelope: Any) -> str:
        self._cut(server, "QUIT")
        return "221 Bye"

    def handle_STARTTLS(self, server: Any, session: Any, envelope: Any) -> bool:
        self._cut(server, "TLS")
        return True

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        self._cut(server, "AUTH")
        if said := self._said("AUTH"):
            return AuthResult(success=False, handled=False, message=said)
        is_right = data.password == PASSWORD.encode()
        return AuthResult(success=is_right, handled=is_right)

    def _answer(self, server: Any, stage: str) -> str:
        self._cut(server, stage)
        return self._said(stage) or ("250 taken as 4711" if stage == "DATA" else "250 OK")

    def _said(self, stage: str) -> str:
        said = self.says.get(stage)
        return "" if not said else said.pop(0) if len(said) > 1 else said[0]

    def _cut(self, server: Any, stage: str) -> None:
        self.reached(stage)
        if stage in self.cuts_at:
            self.cuts_at.discard(stage)
            server.transport.abort()


class Server(SMTP):
    """Hangs up, or turns somebody away, before it says anything."""

    def connection_made(self, transport: Any) -> None:
        is_new = self._original_transport is None
        super().connection_made(transport)
        mailbox: Mailbox = self.event_handler
        if is_new and mailbox.is_open:
            mailbox._cut(self, "CONNECT")
            if said := mailbox._said("CONNECT"):
                transport.write(said.encode() + b"\r\n")
                transport.close()


class Servers(Controller):
    def factory(self) -> Server:
        return Server(self.handler, **self.SMTP_kwargs)


@contextmanager
def mail_server(
    mailbox: Mailbox, *, tls: Path | None = None, security: str = "none", login: bool = False
) -> Iterator[int]:
    """Its port. `tls`: a directory with `cert.pem` and `key.pem`."""
    port = free_port()
    context = None
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tls / "cert.pem", tls / "key.pem")

    controller = Servers(
        mailbox,
        hostname="127.0.0.1",
        port=port,
        ssl_context=context if security == "tls" else None,
        tls_context=context if security == "starttls" else None,
        require_starttls=security == "starttls",
        authenticator=mailbox.authenticate if login else None,
        auth_required=login,
        auth_require_tls=security == "starttls",
    )
    controller.start()  # which connects once by itself
    mailbox.is_open = True
    try:
        yield port
    finally:
        controller.stop()


def certificate(directory: Path) -> Path:
    """Of 127.0.0.1, signed by itself."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 30 -subj /CN=127.0.0.1"
    subprocess.run(
        [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1"], cwd=directory, check=True, capture_output=True
    )
    return directory


class Receiver:
    """`got`: (headers, body) of each request; `statuses` are answered one after the other, the last for ever;
    `cuts_at`: where it hangs up, once each ('BEFORE' it reads the message, 'TAKEN': it has taken it and not said so).
    `reached` is called with 'BEFORE' and 'TAKEN'."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.statuses = [200]
        self.cuts_at: set[str] = set()
        self.reached: Callable[[str], object] = lambda stage: None
        self.gate = threading.Event()
        self.gate.set()


@contextmanager
def http_receiver(receiver: Receiver) -> Iterator[str]:
    """Its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if self._is_cut("BEFORE"):
                return
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.gate.wait(20)
            status = receiver.statuses.pop(0) if len(receiver.statuses) > 1 else receiver.statuses[0]
            if status < 300:
                receiver.got.append((dict(self.headers), body))
                if self._is_cut("TAKEN"):
                    return
            self.send_response(status)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"said")

        def _is_cut(self, stage: str) -> bool:
            receiver.reached(stage)
            if stage not in receiver.cuts_at:
                return False
            receiver.cuts_at.discard(stage)
            self.close_connection = True
            return True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
