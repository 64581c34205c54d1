"""Passwords as argon2id hashes: made, checked in the same time for everybody, and generated."""

from __future__ import annotations

import secrets
from functools import cache
from typing import TYPE_CHECKING

from token_tracker.services.checks import Problems

if TYPE_CHECKING:
    from argon2 import PasswordHasher

MIN_LENGTH, MAX_LENGTH = 8, 1024  # characters; without an upper bound a login could ask for any amount of work
_UNAMBIGUOUS = "abcdefghjkmnpqrstuvwxyz23456789"  # no i, l, o, 0, 1: people type this off a screen
_GENERATED_LENGTH = 24  # 118 bits


def problems(field: str, password: object) -> Problems:
    if not isinstance(password, str) or not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        return [(field, f"must have {MIN_LENGTH} to {MAX_LENGTH} characters")]
    return [] if _bytes(password).decode(errors="ignore") == password else [(field, "is not valid Unicode")]


def generate() -> str:
    """24 characters that cannot be mistaken for each other."""
    return "".join(secrets.choice(_UNAMBIGUOUS) for _ in range(_GENERATED_LENGTH))


def hashed(password: str) -> str:
    """The argon2id hash with its salt and parameters, as text."""
    return _hasher().hash(_bytes(password))


def matches(password: str, password_hash: str | None) -> bool:
    """Whether `password` belongs to the hash; with None (no such account) the same work is done, and it never does."""
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        verified = _hasher().verify(password_hash or _nobody(), _bytes(password[:MAX_LENGTH]))
    except (VerificationError, InvalidHashError):
        return False
    return verified and password_hash is not None and len(password) <= MAX_LENGTH


def warm_up() -> None:
    """Make the hash that unknown accounts are checked against, so that the first such login is like all others."""
    _nobody()


def _bytes(password: str) -> bytes:
    """Never fails: JSON may bring half a character, which only has to be a wrong password."""
    return password.encode("utf-8", "surrogatepass")


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher  # not loaded by processes that check no password

    return PasswordHasher()


@cache
def _nobody() -> str:
    return hashed(generate())
