"""What an error becomes for people at a terminal: sentences, and an exit code."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from token_tracker.cli.app import EXIT_CONFIGURATION, EXIT_DATABASE, EXIT_REFUSED
from token_tracker.config.problems import ConfigurationError
from token_tracker.database.address import DatabaseUrlError
from token_tracker.database.copies.shapes import CopyError
from token_tracker.database.migrations import DatabaseTooNewError
from token_tracker.domain.problems import Conflict, Invalid, NotFound, Unchangeable
from token_tracker.services.usage import TooManyItems


class Unusable(Exception):
    """The database cannot be used as it stands; the text says why and what to type."""


def explained(error: Exception) -> tuple[int, list[str]]:
    """Exit code and sentences. Raises `error` itself where it is a defect of ours."""
    if isinstance(error, ConfigurationError):
        return EXIT_CONFIGURATION, error.problems
    if isinstance(error, DatabaseUrlError):
        return EXIT_CONFIGURATION, [str(error)]
    if isinstance(error, DatabaseTooNewError | Unusable):
        return EXIT_DATABASE, [str(error)]
    if isinstance(error, Invalid | Unchangeable):
        return EXIT_REFUSED, [f"{field}: {message}" for field, message in error.problems] + ["Nothing was changed."]
    if isinstance(error, NotFound | Conflict | CopyError):
        return EXIT_REFUSED, [str(error)]
    if isinstance(error, TooManyItems):
        return EXIT_REFUSED, [f"This gives {error}."]
    if isinstance(error, DBAPIError):
        return EXIT_DATABASE, [f"The database could not be used: {said(error)}. Nothing was changed."]
    if isinstance(error, OSError):
        return EXIT_REFUSED, [f"{error.filename or 'A file'}: {error.strerror or error}."]
    raise error


def said(error: DBAPIError) -> str:
    """The database's own words, in one line."""
    return " ".join(str(error.orig).split()).rstrip(".")
