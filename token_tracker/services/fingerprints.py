"""Short marks of secrets, so that the audit log can tell that one changed, and tell nothing else of it."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from sqlalchemy.orm import Session

from token_tracker.database.models import SystemState

_STATE = "fingerprint_key"


class Fingerprints:
    """Of one installation: with a key of its own in the database, so that who reads marks cannot try values."""

    def __init__(self, session: Session) -> None:
        state = session.get(SystemState, _STATE)
        if state is None:
            session.add(state := SystemState(name=_STATE, value=secrets.token_hex(32)))
            session.flush()
        self._key = bytes.fromhex(state.value)

    def of(self, secret: str) -> str:
        """Eight hexadecimal digits: the same for the same secret."""
        return hmac.new(self._key, secret.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:8]
