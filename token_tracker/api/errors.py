"""Every error of the API in one shape: `{error: {code, message, details?}}`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from flask import Flask, Response, g, request
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, ProgrammingError, SQLAlchemyError, TimeoutError
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge
from werkzeug.exceptions import NotFound as RouteNotFound

from token_tracker.database.deadlines import was_too_slow
from token_tracker.domain.problems import Conflict, Invalid, NotFound, Unchangeable

log = logging.getLogger(__name__)
RETRY_AFTER_S = 5
ANSWER_WITHIN_S = 2.0  # but for exports


class ApiError(Exception):
    """An answer other than the one asked for. `code` is public contract; the message says what to do next."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.code, self.message, self.headers = status, code, message, dict(headers or {})
        super().__init__(message)


def not_authenticated() -> ApiError:
    """One text for a missing, broken, expired or foreign token and a disabled account, so that nobody can probe."""
    message = "Log in first: POST /api/auth/login, then send the access token as 'Authorization: Bearer …'."
    return ApiError(401, "not_authenticated", message, {"WWW-Authenticate": "Bearer"})


def invalid_credentials(message: str) -> ApiError:
    return ApiError(401, "invalid_credentials", message, {"WWW-Authenticate": "Bearer"})


def too_many_attempts(wait_s: int) -> ApiError:
    message = f"Too many wrong passwords. Wait {wait_s} s and try again."
    return ApiError(429, "too_many_attempts", message, {"Retry-After": str(wait_s)})


def precondition_failed() -> ApiError:
    message = "It was changed since you read it; nothing was changed now. Read it again, and send the new ETag."
    return ApiError(412, "precondition_failed", message)


def forbidden(message: str) -> ApiError:
    return ApiError(403, "forbidden", message)


def error_answer(
    status: int, code: str, message: str, *, details: Any = None, headers: Mapping[str, str] | None = None
) -> Response:
    error: dict[str, Any] = {"code": code, "message": message}
    if details:
        error["details"] = details
    return Response(msgspec.json.encode({"error": error}), status, dict(headers or {}), mimetype="application/json")


def register(app: Flask) -> None:
    """Nothing leaves `app` as HTML or with a stack trace."""
    app.register_error_handler(ApiError, _api_error)
    app.register_error_handler(Invalid, _invalid)
    app.register_error_handler(Unchangeable, _unchangeable)
    app.register_error_handler(NotFound, lambda error: error_answer(404, "not_found", str(error)))
    app.register_error_handler(Conflict, lambda error: error_answer(409, "conflict", str(error)))
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(SQLAlchemyError, _database_error)
    app.register_error_handler(Exception, _unexpected)


def is_away(error: SQLAlchemyError) -> bool:
    """Whether the database was not reached, locked or not set up, rather than asked something wrong."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    not_set_up = isinstance(error, ProgrammingError) and type(error.orig).__name__ == "UndefinedTable"
    return not_set_up or isinstance(error, OperationalError | InterfaceError | TimeoutError)


def _api_error(error: ApiError) -> Response:
    return error_answer(error.status, error.code, error.message, headers=error.headers)


def _invalid(error: Invalid) -> Response:
    details = [{"field": field, "message": message} for field, message in error.problems]
    return error_answer(
        422,
        "invalid_request",
        f"{'The question' if request.method == 'GET' else 'Nothing was changed: the request'} is not valid: {error}.",
        details=details,
    )


def _unchangeable(error: Unchangeable) -> Response:
    details = [{"field": field, "message": message} for field, message in error.problems]
    return error_answer(422, "unchangeable", f"Nothing was changed: {error}.", details=details)


def _http_error(error: HTTPException) -> Response:
    if isinstance(error, RouteNotFound):
        return error_answer(404, "not_found", f"There is no route {request.path}; GET /api/openapi.json lists all.")
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        message = f"{request.path} takes {allowed}, not {request.method}."
        return error_answer(405, "method_not_allowed", message, headers={"Allow": allowed})
    if isinstance(error, RequestEntityTooLarge):
        limit = request.max_content_length
        return error_answer(413, "request_too_large", f"The body is larger than the {limit} bytes that the API takes.")
    return error_answer(error.code or 500, "bad_request", error.description or "The request cannot be understood.")


def _database_error(error: SQLAlchemyError) -> Response:
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    if was_too_slow(error):
        return error_answer(503, "too_slow", _too_slow(), headers=headers)
    if not is_away(error):
        return _unexpected(error)
    log.warning("database unavailable: %s", getattr(error, "orig", None) or error)
    message = "The database cannot be used right now; nothing was changed, and calls go on. Try again shortly."
    return error_answer(503, "database_unavailable", message, headers=headers)


def _too_slow() -> str:
    """What was asked, why it is too much, and what to ask instead."""
    asked = ", ".join(f"{name}={value}" for name, value in request.args.items())
    return (
        f"{request.method} {request.path}{f' with {asked}' if asked else ''} was ended after {ANSWER_WITHIN_S:g} s: "
        "more sums or rows must be read for it than fit into that time. Nothing was changed. Ask for a shorter time "
        "(start and end). A list is fast with one filter of user, team, key, model or session; a summary with at most "
        "one dimension of model, provider, user, team, key and agent in group_by and filters together, by whole hours. "
        "All rows come from /api/token-usage with format=csv or jsonl, which has no such bound."
    )


def _unexpected(error: Exception) -> Response:
    request_id = g.get("request_id", "")
    log.error("unexpected error on %s %s (request %s)", request.method, request.path, request_id, exc_info=error)
    message = f"Something unexpected went wrong; the log of the API says what, under request {request_id}."
    return error_answer(500, "internal_error", message)
