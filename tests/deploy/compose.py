"""Reads docker-compose.yml and Dockerfile as an engine does: secrets filled in, environments laid over each other."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"
_REFERENCE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>\w+)(?::(?P<kind>[?-])(?P<rest>[^}]*))?\})")


class MissingError(Exception):
    """A variable without which nothing starts."""


def read(variables: Mapping[str, str]) -> dict[str, Any]:
    """The file with `variables` (those of .env) in place. Raises MissingError as Compose refuses to start."""

    def fill(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        value = variables.get(match["name"], "")
        if value or match["kind"] == "-":
            return value or match["rest"]
        raise MissingError(f"{match['name']} {match['rest']}")

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: walk(value) for name, value in node.items()}
        if isinstance(node, list):
            return [walk(value) for value in node]
        return _REFERENCE.sub(fill, node) if isinstance(node, str) else node

    found: dict[str, Any] = walk(yaml.safe_load(COMPOSE.read_text()))
    return found


def references() -> dict[str, str]:
    """Every variable that the file names, and how: '?' refuses without it, '-' has a default, '' is neither."""
    found = (match for match in _REFERENCE.finditer(COMPOSE.read_text()) if match["name"])
    return {match["name"]: match["kind"] or "" for match in found}


def variables_of(path: Path) -> dict[str, str]:
    """An env file's variables."""
    return {name: value or "" for name, value in dotenv_values(path, interpolate=False).items()}


def image() -> dict[str, list[str]]:
    """The Dockerfile's last stage: arguments of its instructions, by instruction."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text())
    stage = re.split(r"^FROM .*$", text, flags=re.MULTILINE)[-1]
    found: dict[str, list[str]] = {}
    for name, rest in re.findall(r"^([A-Z]+) (.*)$", stage, re.MULTILINE):
        found.setdefault(name, []).append(rest)
    return found


def image_environment() -> dict[str, str]:
    pairs = (word.split("=", 1) for line in image()["ENV"] for word in shlex.split(line))
    return dict(pairs)


def environment(service: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, str]:
    """What a process of one of our services finds: the image's, then the env file's, then the service's own."""
    own = {name: str(value) for name, value in service["environment"].items()}
    return {**image_environment(), **(variables if service.get("env_file") else {}), **own}
