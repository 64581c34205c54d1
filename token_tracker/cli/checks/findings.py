"""What a check is given, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Engine

from token_tracker.config.values import Configuration, Settings


class Status(StrEnum):
    """`WARNING`: it works, and somebody should know. `SKIPPED`: nothing to look at, or another check says why not."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """`remedy`: what to type or to change; '' where there is nothing to do."""

    check: str
    status: Status
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Ground:
    """An installation as the checks find it. `configuration` None: proxy.yaml cannot be used. `engine` None: the
    database cannot, or its tables are not those of this version."""

    settings: Settings
    configuration: Configuration | None
    engine: Engine | None
    at: datetime


def ok(check: str, message: str) -> Finding:
    return Finding(check, Status.OK, message)


def warning(check: str, message: str, remedy: str) -> Finding:
    return Finding(check, Status.WARNING, message, remedy)


def problem(check: str, message: str, remedy: str) -> Finding:
    return Finding(check, Status.PROBLEM, message, remedy)


def skipped(check: str, message: str) -> Finding:
    return Finding(check, Status.SKIPPED, message)
