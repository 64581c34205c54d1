"""Every secret that a test run makes, looked for in all that the run's processes write and answer.

Helpers that make a secret name it here; what processes print, log and keep, and what the API answers, goes through here
too. At the end of the run each secret is searched in all of it; one that is found fails the run (`tests/conftest.py`).
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

SHORTEST = 8  # shorter ones would be found by chance
SHOWN_ONCE = {"access_token": "JWT", "refresh_token": "refresh token", "key": "virtual key", "token": "service token"}
SENT = {"password": "password", "new_password": "password", "api_key": "upstream key"}
_SETTINGS = re.compile(r"(?:PASSWORD|SECRET|_KEY|_KEYS)$")
# Files whose purpose is to hold a secret, and the copy of the operator's own proxy.yaml that a child starts with.
_HOLDERS = ("secret_key", "encryption_key", "proxy.yaml")

_made: dict[bytes, str] = {}
_looked_at: list[int] = []
_found: set[str] = set()
_directory = tempfile.TemporaryDirectory(prefix="tt-written-")
WRITTEN = Path(_directory.name)


class Searched(NamedTuple):
    """How much was looked through, and each secret that was found: its kind and the file."""

    secrets: int
    files: int
    size_bytes: int
    found: list[str]

    def with_(self, other: Searched) -> Searched:
        return Searched(*(mine + others for mine, others in zip(self, other, strict=True)))

    def __str__(self) -> str:
        looked = f"{self.files} files, {self.size_bytes:,} bytes"
        return f"searched for {self.secrets} secrets in {looked}: {len(self.found)} found"


def secret(kind: str, text: str) -> str:
    """`text`, which nothing may show from now on."""
    if len(text) >= SHORTEST:
        _made.setdefault(text.encode(), kind)
    return text


def settings(environment: Mapping[str, str], config: Any = None) -> None:
    """The secrets among variables that a process gets, and the keys of `model_list`."""
    for name, value in environment.items():
        if _SETTINGS.search(name):
            secret(f"value of {name}", value)
    if isinstance(config, Mapping):
        for entry in config.get("model_list", ()):
            key = entry.get("litellm_params", {}).get("api_key", "")
            if isinstance(key, str) and not key.startswith(("$", "os.environ")):
                secret("upstream key", key)


def output(name: str) -> Path:
    """A new file for what one process prints; it is searched at the end."""
    return Path(tempfile.mkstemp(prefix=f"{name}-", suffix=".log", dir=WRITTEN)[1])


def answered(address: str, status: int, sent: Any, body: bytes) -> None:
    """An answer of the API. The one that shows a secret for the only time is where it becomes known."""
    if status < 300 and isinstance(sent, dict):
        for field, kind in SENT.items():
            if isinstance(sent.get(field), str):
                secret(kind, sent[field])
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if isinstance(document, dict) and status in (200, 201):
        for field, kind in SHOWN_ONCE.items():
            if isinstance(document.get(field), str):
                secret(kind, document.pop(field))
                body = json.dumps(document).encode()
    with (WRITTEN / "answers.log").open("ab") as log:
        log.write(f"{address} {status} ".encode() + body + b"\n")


def kept(directory: Path) -> None:
    """What a process leaves in its data directory, looked through now, before it goes: journals, snapshots, books."""
    for path in sorted(directory.rglob("*")) if directory.exists() else ():
        if path.is_file() and path.name in _HOLDERS:
            if path.stat().st_mode & 0o077:
                _found.add(f"{path.name} may be read by others: {path}")
            if path.suffix != ".yaml":
                secret(path.name, path.read_text(errors="replace").strip())
    look(path for path in directory.rglob("*") if path.is_file() and path.name not in _HOLDERS)


def look(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            written = path.read_bytes()
        except OSError:
            continue
        _looked_at.append(len(written))
        _found.update(f"{kind} in {path}" for text, kind in _made.items() if text in written)


def begin() -> None:
    """What this process itself logs is looked through as well."""
    handler = logging.FileHandler(WRITTEN / "tests.log")
    handler.setLevel(logging.INFO)
    logging.getLogger("token_tracker").addHandler(handler)


def end() -> Searched:
    for handler in logging.getLogger("token_tracker").handlers:
        handler.flush()
    look(path for path in WRITTEN.iterdir())
    return Searched(len(_made), len(_looked_at), sum(_looked_at), sorted(_found))
