"""How providers' keys are kept: encrypted (Fernet) under the first of several keys, readable with any of them."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

HOW_TO_MAKE_ONE = (
    "set TOKEN_TRACKER_ENCRYPTION_KEY, alike for all processes; "
    '`python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"` makes one'
)
_KEY_BYTES = 32


class CannotDecrypt(Exception):
    """None of the keys at hand opens it, or there is no key; the message says which."""


def make_key() -> str:
    """256 random bits as Fernet takes them: URL-safe base64."""
    return base64.urlsafe_b64encode(os.urandom(_KEY_BYTES)).decode()


def is_key(text: str) -> bool:
    """Whether Fernet takes it as a key."""
    try:
        return len(base64.b64decode(text.encode(), altchars=b"-_", validate=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):
        return False


class Keyring:
    """`keys`: the first one encrypts, all decrypt; none: nothing can be done with it. Keys as `is_key` has them."""

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self._keys = tuple(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def encrypt(self, text: str) -> str:
        """Text that may be stored; there must be a key."""
        return self._fernet(self._keys).encrypt(text.encode()).decode()

    def decrypt(self, sealed: str) -> str:
        """What `encrypt` was given. Raises CannotDecrypt."""
        return self._decrypted(self._keys, sealed)

    def renewed(self, sealed: str) -> str:
        """The same under the first key; as it is where it stands under that one already. Raises CannotDecrypt."""
        try:
            self._decrypted(self._keys[:1], sealed)
        except CannotDecrypt:
            return self.encrypt(self.decrypt(sealed))
        return sealed

    def _decrypted(self, keys: Sequence[str], sealed: str) -> str:
        if not keys:
            raise CannotDecrypt(f"there is no key to decrypt it with: {HOW_TO_MAKE_ONE}")
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet(keys).decrypt(sealed).decode()
        except InvalidToken:
            raise CannotDecrypt("none of the keys in TOKEN_TRACKER_ENCRYPTION_KEY decrypts it") from None

    @staticmethod
    def _fernet(keys: Sequence[str]) -> MultiFernet:
        from cryptography.fernet import Fernet, MultiFernet  # a gateway without credentials never loads it

        return MultiFernet([Fernet(key) for key in keys])
