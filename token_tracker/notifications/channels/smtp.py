"""Mail by SMTP: implicit TLS, STARTTLS or none, with or without a login; one connection a message."""

from __future__ import annotations

import smtplib
import socket
import ssl
import threading
from contextlib import suppress
from email.message import EmailMessage

from token_tracker.config.values import Mail
from token_tracker.notifications.letter import Letter
from token_tracker.notifications.messages import BadAddressError, compose
from token_tracker.services.outbox import Outcome

STEP_S = 20.0  # for each answer of the server
TOTAL_S = 90.0  # for all of them, however slowly it drips
_NO_SERVER = "SMTP_SERVER is not set: set it, and SMTP_FROM_ADDRESS, then send this message again"


class SmtpChannel:
    """`context`: what certificates are trusted; None: those of the system."""

    def __init__(self, mail: Mail, dashboard_url: str = "", context: ssl.SSLContext | None = None) -> None:
        self._mail, self._dashboard_url = mail, dashboard_url
        self._context = context

    def send(self, letter: Letter) -> Outcome:
        """'sent' once the server answered the whole message with 250, whatever comes after that."""
        if not self._mail.server:
            return Outcome("retry", _NO_SERVER)
        try:
            message = compose(letter, sender=self._mail.sender, dashboard_url=self._dashboard_url)
        except BadAddressError as error:
            return Outcome("dead", str(error))
        try:
            return self._deliver(message, letter.recipient)
        except smtplib.SMTPRecipientsRefused as error:
            return _judged(*error.recipients[letter.recipient])
        except smtplib.SMTPAuthenticationError as error:  # somebody may set the password right
            return Outcome("retry", f"the login was refused: {_words(error.smtp_code, error.smtp_error)}")
        except (smtplib.SMTPConnectError, smtplib.SMTPHeloError) as error:  # it turns everybody away, not this message
            return Outcome("retry", _words(error.smtp_code, error.smtp_error))
        except smtplib.SMTPResponseException as error:
            return _judged(error.smtp_code, error.smtp_error)
        except smtplib.SMTPNotSupportedError as error:
            return Outcome("retry", f"{error} Check TOKEN_TRACKER_SMTP_SECURITY and the login.")
        except (smtplib.SMTPException, OSError) as error:
            return Outcome("retry", f"{type(error).__name__}: {error}")

    def _deliver(self, message: EmailMessage, recipient: str) -> Outcome:
        client = self._client()
        clock = threading.Timer(TOTAL_S, _cut, [client])
        clock.daemon = True
        clock.start()
        try:
            code, words = client.connect(self._mail.server, self._mail.port)
            if code != 220:
                raise smtplib.SMTPConnectError(code, words)
            if self._mail.security == "starttls":
                client.starttls(context=self._trusted())
            if self._mail.password is not None:
                client.login(self._mail.username, self._mail.password.value)
            return self._hand_over(client, message, recipient)
        finally:
            clock.cancel()
            client.close()

    def _hand_over(self, client: smtplib.SMTP, message: EmailMessage, recipient: str) -> Outcome:
        client.ehlo_or_helo_if_needed()
        _expect(client.mail(self._mail.sender))
        _expect(client.rcpt(recipient))
        code, words = client.data(message.as_bytes())
        _expect((code, words))
        with suppress(smtplib.SMTPException, OSError):  # it is the server's message now
            client.quit()
        return Outcome("sent", _words(code, words))

    def _client(self) -> smtplib.SMTP:
        if self._mail.security == "tls":
            client: smtplib.SMTP = smtplib.SMTP_SSL(timeout=STEP_S, context=self._trusted())
        else:
            client = smtplib.SMTP(timeout=STEP_S)
        client._host = self._mail.server  # type: ignore[attr-defined]  # the name that TLS checks; set only by its constructor
        return client

    def _trusted(self) -> ssl.SSLContext:
        return self._context or ssl.create_default_context()


def _cut(client: smtplib.SMTP) -> None:
    with suppress(OSError, AttributeError):
        client.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]


def _expect(answer: tuple[int, bytes]) -> None:
    code, words = answer
    if code not in (250, 251):
        raise smtplib.SMTPResponseException(code, words)


def _judged(code: int, words: bytes | str) -> Outcome:
    """5xx never works again; anything else may."""
    return Outcome("dead" if 500 <= code < 600 else "retry", _words(code, words))


def _words(code: int, words: bytes | str) -> str:
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    return f"{code} {' '.join(text.split())}"
